"""``cifl register FOLDER FIXED`` and ``cifl register PAIRS.csv``: lists of pairs, made at once."""

import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest

from cifl_tf.figures.registration import RegisteredSlice
from cifl_tf.images.grid import grid_at
from cifl_tf.registration import Affine, Displacement, RegistrationResult
from command_runner import assert_one_line_error, run_here


@pytest.fixture
def made(monkeypatch):
    """What was registered, by the names of the files; a file named bad cannot be."""
    seen = []

    def register(moving, fixed, **options):
        names = [os.path.basename(path) for path in (moving, fixed)]
        if "bad" in names[0]:
            raise ValueError(f"{moving} shows nothing; give another")
        seen.append((*names, options))
        image = nibabel.Nifti1Image(np.zeros((2, 2, 1), np.float32), np.eye(4))
        still = RegisteredSlice(*np.zeros((3, 8, 8)), np.zeros((8, 8, 2)))
        warps = [Displacement.identity(grid_at(np.eye(4), (2, 2, 1)))] * 2
        return RegistrationResult(
            *[image] * 4, None, 0.0, 0.0, {"axial": still}, *warps, affine=Affine.identity()
        )

    monkeypatch.setattr("cifl_tf.tissues.registration.register_brains", register)
    # The files hold no images.
    monkeypatch.setattr("cifl_tf.images.label_maps.looks_like_labels", lambda _: False)
    return seen


def touch(folder, *names):
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return folder


def pairs(seen):
    return [pair[:2] for pair in seen]


def runs(out):
    return json.loads((out / "run.json").read_text())["runs"]


def outcomes(out):
    return [[entry["outcome"] for entry in run["inputs"]] for run in runs(out)]


def test_every_scan_of_a_folder_and_no_other_file(made, tmp_path):
    names = ("a.nii.gz", "b.mgz", "c.hdr", "c.img", "a_mask.nii.gz", "b_dseg.nii", "notes.txt")
    folder = touch(tmp_path / "scans", *names, ".hidden.nii", "inner/d.nii", "bad.nii")
    fixed = touch(folder, "fixed.nii.gz") / "fixed.nii.gz"
    out = tmp_path / "out"
    done = run_here("register", folder, fixed, "--out", out, "--fixed-mask", folder / "b_dseg.nii")
    assert done.exit_code == 1
    assert done.stderr.endswith(f"cifl: {folder / 'bad.nii'} shows nothing; give another\n")
    assert "a_mask.nii.gz, b_dseg.nii" in done.stderr
    assert "not registered to itself" in done.stderr
    assert pairs(made) == [(name, "fixed.nii.gz") for name in ("a.nii.gz", "b.mgz", "c.hdr")]
    assert {options["fixed_mask"] for *_, options in made} == {str(folder / "b_dseg.nii")}
    assert {path.name for path in out.iterdir()} == {"a", "b", "c", "run.json", "report.html"}
    assert (out / "a" / "affine.mat").exists()
    assert outcomes(out) == [["done", "done", "failed", "done"]]


def test_scans_of_a_bids_dataset(made, tmp_path):
    places = ("sub-1/anat/sub-1", "sub-2/ses-a/anat/sub-2_ses-a", "sub-2/ses-b/anat/sub-2_ses-b")
    names = [f"{place}_{end}" for place in places for end in ("T1w.nii.gz", "FLAIR.nii.gz")]
    folder = touch(tmp_path / "bids", *names, "sub-1/anat/sub-1_dseg.nii.gz", "T1w.nii.gz")
    fixed = touch(tmp_path, "template.nii") / "template.nii"
    options = ["--only", "T1w", "--out", tmp_path / "out"]
    assert run_here("register", folder, fixed, *options).exit_code == 0
    expected = ["sub-1_T1w", "sub-2_ses-a_T1w", "sub-2_ses-b_T1w"]
    assert pairs(made) == [(f"{name}.nii.gz", "template.nii") for name in expected]
    assert runs(tmp_path / "out")[0]["options"]["only"] == "T1w"
    # The others may follow into the same folder.
    options[1] = "T1w,FLAIR"
    assert run_here("register", folder, fixed, *options).exit_code == 0
    assert len(made) == 6


@pytest.fixture
def folder(tmp_path):
    return touch(tmp_path / "scans", "a.nii", "bad.nii", "c.nii")


@pytest.fixture
def go(folder, tmp_path):
    """Register the folder, which was written a while ago."""
    touch(tmp_path, "fixed.nii")
    for path in (*folder.iterdir(), tmp_path / "fixed.nii"):
        os.utime(path, (1e9, 1e9))

    def run(*more, out="out"):
        return run_here("register", folder, tmp_path / "fixed.nii", "--out", tmp_path / out, *more)

    return run


def test_the_same_command_goes_on_where_it_was(made, folder, go, tmp_path):
    assert go().exit_code == 1
    assert len(made) == 2
    first = runs(tmp_path / "out")[0]["inputs"][0]
    (folder / "bad.nii").rename(folder / "better.nii")
    done = go()
    assert done.exit_code == 0
    assert "Note: 2 of 3 were done before and stay as they are; --overwrite does" in done.stderr
    assert pairs(made)[2:] == [("better.nii", "fixed.nii")]
    assert done.stdout.count("warped.nii.gz") == 3
    again = runs(tmp_path / "out")[1]["inputs"]
    assert again[0] == first
    assert [entry["outcome"] for entry in again] == ["done"] * 3
    assert (tmp_path / "out" / "report.html").read_text().count('class="entry" id="entry-') == 4
    assert go("--overwrite").exit_code == 0
    assert len(made) == 6


@pytest.mark.parametrize("changed", ["input", "older input", "result", "gone", "version"])
def test_a_pair_that_changed_is_done_again(made, folder, go, tmp_path, changed):
    go()
    out = tmp_path / "out"
    if changed == "input":
        os.utime(folder / "a.nii")
    elif changed == "older input":  # a copy that keeps its time takes the place of the scan
        (folder / "a.nii").write_bytes(b"another scan")
        os.utime(folder / "a.nii", (5e8, 5e8))
    elif changed == "result":
        nibabel.save(nibabel.Nifti1Image(np.ones((2, 2, 2)), np.eye(4)), out / "a/warped.nii.gz")
    elif changed == "gone":
        (out / "a" / "affine.mat").unlink()
    else:
        text = (out / "run.json").read_text()
        version = runs(out)[0]["versions"]["cifl_tf"]
        (out / "run.json").write_text(text.replace(f'"cifl_tf": "{version}"', '"cifl_tf": "0.1"'))
    done = go()
    if changed == "result":  # of the user's now
        assert "changed since cifl wrote it" in done.stderr
        return
    assert pairs(made)[2:] == [(f"{name}.nii", "fixed.nii") for name in "ac"][: len(made) - 2]
    assert len(made) == (4 if changed == "version" else 3)


def test_names_of_a_table_stay_as_they_are_written(made, folder, tmp_path):
    fixed = touch(tmp_path, "fixed.nii") / "fixed.nii"
    rows = [f"{name},{folder / 'a.nii'},{fixed}" for name in ("001", "1", "1e3")]
    table = tmp_path / "pairs.csv"
    table.write_text("\n".join(["name,moving,fixed", *rows]))
    done = run_here("register", table, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {
        *("001", "1", "1e3"),
    }


def test_other_options_are_no_resumption(made, go):
    go()
    done = go("--stages", "rigid")
    assert "made with stages 'rigid,affine,deformable', not 'rigid'" in done.stderr
    assert go("--stages", "rigid", "--overwrite").exit_code == 1
    assert len(made) == 4


def test_a_table_goes_on_as_well(made, folder, tmp_path):
    (folder / "pairs.csv").write_text("moving,fixed\na.nii,c.nii\nc.nii,a.nii\n")
    for path in folder.iterdir():
        os.utime(path, (1e9, 1e9))
    for _ in range(2):
        done = run_here("register", folder / "pairs.csv", "--out", tmp_path / "out")
        assert done.exit_code == 0
    assert pairs(made) == [("a.nii", "c.nii"), ("c.nii", "a.nii")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("{folder}", "there is no fixed image"),
        ("{folder} {fixed} --labels {fixed}", "--labels is of one moving image, but"),
        ("{folder} {fixed} --moving-mask {fixed}", "name the moving mask of each in a CSV file"),
        (
            "{folder} {fixed} --only T2w",
            "is a folder without a scan that ends in T2w to register; give",
        ),
        ("{folder} {tmp}/nowhere.nii", "the fixed {tmp}/nowhere.nii does not exist"),
        ("{folder} {fixed} --fixed-mask {tmp}/nowhere.nii", "the fixed mask {tmp}/nowhere.nii"),
        ("{tmp}/empty {fixed}", "is a folder without a scan to register; give a folder of NIfTI"),
        ("{fixed} {fixed} --only T1w", "--only chooses scans of a folder, but"),
        ("{tmp}/twice {fixed}", "have one name; rename one"),
    ],
)
def test_bad_lists_are_one_line(made, folder, tmp_path, arguments, message):
    touch(tmp_path, "fixed.nii", "twice/a.nii", "twice/a.nii.gz")
    (tmp_path / "empty").mkdir()
    names = {"folder": folder, "fixed": tmp_path / "fixed.nii", "tmp": tmp_path}
    words = arguments.format(**names).split()
    done = run_here("register", *words, "--out", tmp_path / "out")
    assert_one_line_error(done, message.format(**names))
    assert not (tmp_path / "out").exists()
    assert not made


def test_a_column_that_means_nothing_is_noted(made, tmp_path):
    table = touch(tmp_path, "a.nii", "b.nii") / "pairs.csv"
    table.write_text("moving,fixed,label,age\na.nii,b.nii,,7\n")
    done = run_here("register", table, "--out", tmp_path / "out")
    assert done.exit_code == 0
    assert (
        "has columns that are not used: label, age; known are moving, fixed, labels" in done.stderr
    )


def test_labels_beside_a_table_are_of_one_moving_image(made, tmp_path):
    touch(tmp_path, "a.nii", "b.nii", "c.nii", "labels.nii")
    (tmp_path / "one.csv").write_text("moving,fixed\na.nii,b.nii\na.nii,c.nii\n")
    (tmp_path / "two.csv").write_text("moving,fixed\na.nii,b.nii\nc.nii,b.nii\n")
    options = ["--labels", tmp_path / "labels.nii", "--out", tmp_path / "out"]
    assert run_here("register", tmp_path / "one.csv", *options).exit_code == 0
    assert {Path(options["labels"]).name for *_, options in made} == {"labels.nii"}
    done = run_here("register", tmp_path / "two.csv", *options[:-1], tmp_path / "other")
    assert_one_line_error(done, "--labels is of one moving image, but")


def test_files_of_one_image_may_stand_beside_a_table_that_names_those_of_the_others(made, tmp_path):
    touch(tmp_path, "a.nii", "b.nii", "c.nii", "own.nii", "shared.nii")
    rows = "moving,fixed,labels,\na.nii,b.nii,own.nii,\nc.nii,b.nii,,\n"
    (tmp_path / "pairs.csv").write_text(rows)
    options = ["--labels", tmp_path / "shared.nii", "--out", tmp_path / "out"]
    done = run_here("register", tmp_path / "pairs.csv", *options)
    assert done.exit_code == 0, done.output
    assert "not used" not in done.stderr
    assert [Path(options["labels"]).name for *_, options in made] == ["own.nii", "shared.nii"]


def test_the_scan_that_shows_no_whole_head_is_noted_for_every_pair(tmp_path, monkeypatch):
    def register(*_, **__):
        raise ValueError("it is too early")

    monkeypatch.setattr("cifl_tf.registration.stages.register", register)
    for name in ("a", "b", "fixed"):
        array = np.random.default_rng(0).random((12, 10, 8)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / f"{name}.nii")
    table = tmp_path / "pairs.csv"
    table.write_text("moving,fixed\na.nii,fixed.nii\nb.nii,fixed.nii\n")
    done = run_here("register", table, "--out", tmp_path / "out", "--fast")
    notes = [line for line in done.stderr.splitlines() if line.startswith("Note: no whole head in")]
    for name, note in zip("ab", notes, strict=True):
        assert f"{name}.nii and " in note
        assert "fixed.nii: both scans are registered as they are" in note
