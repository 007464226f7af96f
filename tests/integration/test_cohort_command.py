"""``cifl cohort`` on tiny images: shares, kills, failures, and the files of each analysis."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest

import cifl_tf
from bids_validity import bids_errors
from cifl_tf.cli.html_report import GENERATOR
from cifl_tf.datasets.label_tables import read_bids_table
from cifl_tf.images.preprocessing import Preprocessing, exact_voxel_size
from cifl_tf.stripping.network import build_stripper
from command_runner import assert_one_line_error, run_here
from tiny_cohorts import SUBJECTS, contents, features, write_scan

SCRIPT = Path(__file__).parents[2] / "scripts" / "slurm_array.sh"


def results(out):
    """When each image was written, and that it can be read whole."""
    found = {}
    for path in out.rglob("sub-*.nii.gz"):
        np.asarray(nibabel.load(path).dataobj)
        found[path.name] = path.stat().st_mtime_ns
    return found


def test_shares_and_processes_give_the_same_files(bids, encoder, tmp_path):
    whole, shared, spread = (tmp_path / name for name in ("whole", "shared", "spread"))
    done = features(bids, whole, encoder)
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith("outcome   scans\ndone          6\n")
    assert len(results(whole)) == SUBJECTS + 1
    for number in (2, 1, 3):
        assert features(bids, shared, encoder, "--shard", f"{number}/3").exit_code == 0
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
            patch.setenv(name, "1")  # back as it was afterwards
        assert features(bids, spread, encoder, "--n-procs", 2).exit_code == 0
    assert contents(whole) == contents(shared) == contents(spread)
    sidecar = json.loads(
        (whole / "sub-1/anat/sub-1_space-FLAIR_desc-cifl_features.json").read_text()
    )
    source = "bids:source:sub-1/anat/sub-1_FLAIR.nii.gz"
    assert (sidecar["Sources"], sidecar["SpatialReference"]) == ([source], source)
    assert sidecar["Model"] == str(encoder)
    assert not bids_errors(whole)
    page = (whole / "sub-1" / "report.html").read_text()
    assert GENERATOR in page
    assert page.count('src="data:image/png;base64,') == 2


def test_the_type_of_the_features(bids, encoder, tmp_path):
    chosen = ("--participant-label", 2)
    for dtype in ("float32", "int16"):
        assert features(bids, tmp_path / dtype, encoder, "--dtype", dtype, *chosen).exit_code == 0
    name = "sub-2/anat/sub-2_space-T1w_desc-cifl_features.nii.gz"
    expected, found = (nibabel.load(tmp_path / dtype / name) for dtype in ("float32", "int16"))
    assert found.get_data_dtype() == np.int16
    np.testing.assert_allclose(found.get_fdata(), expected.get_fdata(), atol=1e-3)
    wrong = features(bids, tmp_path / "wrong", encoder, "--dtype", "float16")
    assert wrong.exit_code == 2
    assert "'float16' is not one of 'float32', 'int16'" in wrong.stderr


def test_engines(bids, encoder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)  # as if it were not installed
    out = tmp_path / "out"
    alone = features(bids, out, encoder, "--beam-options", "--runner=FlinkRunner")
    assert_one_line_error(alone, "--beam-options is for --engine beam")
    monkeypatch.delitem(sys.modules, "cifl_tf.cli.cohort.pipeline", raising=False)
    done = features(bids, out, encoder, "--engine", "beam")
    assert_one_line_error(done, 'pip install ".[beam]" there')
    assert not out.exists()


def test_nothing_is_done_twice(bids, encoder, tmp_path, rng):
    out = tmp_path / "out"
    assert features(bids, out, encoder, "--participant-label", "1", "sub-2").exit_code == 0
    first = results(out)
    assert len(first) == 3
    edited = out / "sub-2" / "anat" / "sub-2_space-T1w_desc-cifl_features.nii.gz"
    edited.write_bytes(b"edited by hand")
    write_scan(bids / "sub-2" / "anat" / "sub-2_T2w.nii.gz", rng)
    done = features(bids, out, encoder)
    assert done.exit_code == 0
    assert done.stdout.endswith("done          4\nskipped       3   done before, and kept\n")
    assert edited.read_bytes() == b"edited by hand"
    edited.unlink()
    assert features(bids, out, encoder).stdout.endswith(
        "done          1\nskipped       6   done before, and kept\n"
    )
    again = results(out)
    assert len(again) == SUBJECTS + 2
    unchanged = first.keys() - {edited.name}
    assert {name: again[name] for name in unchanged} == {name: first[name] for name in unchanged}
    assert features(bids, out, encoder, "--overwrite").stdout.endswith("done          7\n")
    assert all(results(out)[name] > again[name] for name in again)


def test_a_scan_that_fails_does_not_stop_the_others(bids, encoder, tmp_path, rng):
    out, broken = tmp_path / "out", bids / "sub-1" / "anat" / "sub-1_FLAIR.nii.gz"
    broken.write_bytes(b"no image")
    (out / "sub-3" / "anat").mkdir(parents=True)
    foreign = out / "sub-3" / "anat" / "sub-3_space-T1w_desc-cifl_features.nii.gz"
    foreign.write_bytes(b"of the user")
    done = features(bids, out, encoder)
    assert done.exit_code == 1
    assert "done          4\nfailed        2   see below\n" in done.stdout
    named = done.stderr.splitlines()[-2:]
    assert "sub-1_FLAIR.nii.gz" in named[0]
    assert "no run of cifl in this folder wrote it" in named[1]
    assert foreign.read_bytes() == b"of the user"
    group = features(bids, out, encoder, level="group")
    assert group.exit_code == 0, group.output
    assert "scans: 6, of these 1 failed, 1 not reached;" in group.stderr
    rows = [line.split("\t") for line in (out / "cohort.tsv").read_text().splitlines()]
    outcomes = {Path(row[2]).name: row[3] for row in rows[1:]}
    assert outcomes.pop("sub-1_FLAIR.nii.gz") == "failed"
    assert outcomes.pop("sub-3_T1w.nii.gz") == "not reached"
    assert {*outcomes.values()} == {"done"}
    page = (out / "report.html").read_text()
    assert "1 failed" in page
    # Its two scans, that which failed, and that with a note.
    assert page.count('href="sub-1/report.html"') == 4
    twice = bids / "sub-2" / "anat" / "sub-2_T1w.nii"
    twice.write_bytes(b"")
    assert features(bids, out, encoder, level="group").exit_code == 0
    rows = [line.split("\t") for line in (out / "cohort.tsv").read_text().splitlines()]
    (odd,) = (row for row in rows if row[0] == "sub-2")
    assert odd[2:4] == ["n/a", "failed"]
    assert "would both become" in odd[4]
    assert len(rows) > 4  # the others are told of as before
    twice.unlink()
    write_scan(broken, rng)
    foreign.unlink()
    assert features(bids, out, encoder).exit_code == 0
    assert features(bids, out, encoder, level="group").exit_code == 0
    assert "failed" not in (out / "cohort.tsv").read_text()


def test_a_kill_costs_the_scan_that_was_under_way(bids, encoder, tmp_path, rng):
    for number in range(6, 40):
        write_scan(bids / f"sub-{number}" / "anat" / f"sub-{number}_T1w.nii.gz", rng)
    out = tmp_path / "out"
    command = ["cohort", "features", bids, out, "participant", "--model", encoder]
    process = subprocess.Popen(
        [sys.executable, "-m", "cifl_tf", *map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while len(results(out)) < 3 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = results(out)  # all can be read
    assert 3 <= len(before) < 40
    done = run_here(*command)
    assert done.exit_code == 0
    after = results(out)
    assert len(after) == 40
    assert sum(after[name] != before[name] for name in before) <= 1
    assert not [path for path in out.rglob(".*") if path.name != ".bidsignore"]


def test_brains_and_label_maps(bids, tmp_path):
    network = build_stripper(2, 2)
    network.layers[-3].bias.assign([-0.5])  # of the last convolution: most is brain
    stripper = tmp_path / "stripper.keras"
    cifl_tf.Stripper(network, Preprocessing(exact_voxel_size([8, 8, 8]))).save(stripper)
    brains, labels = tmp_path / "brains", tmp_path / "labels"
    done = run_here("cohort", "strip", bids, brains, "participant", "--model", stripper)
    assert done.exit_code == 0, done.output
    names = {path.name for path in (brains / "sub-1" / "anat").glob("*.nii.gz")}
    assert names == {
        *("sub-1_desc-brain_T1w.nii.gz", "sub-1_desc-brain_FLAIR.nii.gz"),
        *("sub-1_space-T1w_desc-brain_mask.nii.gz", "sub-1_space-FLAIR_desc-brain_mask.nii.gz"),
    }
    sidecar = json.loads((brains / "sub-1/anat/sub-1_desc-brain_T1w.json").read_text())
    assert sidecar["SkullStripped"] is True
    assert not bids_errors(brains)
    segmenter = tmp_path / "segmenter.keras"
    cifl_tf.Segmenter(cifl_tf.build_segmenter(None, 3, num_filters=2)).save(segmenter)
    arguments = ("--model", segmenter, "--contrast", "T1w")
    done = run_here("cohort", "segment", brains, labels, "participant", *arguments)
    assert done.exit_code == 0, done.output
    table = labels / "sub-1" / "anat" / "sub-1_space-T1w_desc-cifl_dseg.tsv"
    assert read_bids_table(table) == {1: "1", 2: "2"}
    assert run_here("cohort", "segment", brains, labels, "group", *arguments).exit_code == 0
    assert not bids_errors(labels)
    (labels / "sub-1" / "anat" / "sub-2_T1w.nii.gz").write_bytes(b"")
    assert bids_errors(labels)
    (labels / "sub-1" / "anat" / "sub-2_T1w.nii.gz").unlink()
    header, *rows = (labels / "cohort.tsv").read_text().splitlines()
    assert header.split("\t")[-2:] == ["1 (mm³)", "2 (mm³)"]
    for row in rows:
        subject, *_, one, two = row.split("\t")
        file = labels / subject / "anat" / f"{subject}_space-T1w_desc-cifl_dseg.nii.gz"
        found = np.asarray(nibabel.load(file).dataobj)
        volumes = [512 * np.sum(found == value) for value in (1, 2)]  # voxels of 8 mm
        assert [float(one), float(two)] == volumes
    refined = tmp_path / "refined"
    more = (*arguments, "--refine", "--participant-label", 1)
    assert run_here("cohort", "segment", brains, refined, "participant", *more).exit_code == 0
    (file,) = refined.rglob("*_dseg.nii.gz")
    (source,) = (brains / "sub-1" / "anat").glob("*_desc-brain_T1w.nii.gz")
    expected = cifl_tf.Segmenter.from_pretrained(segmenter).segment(source, refined=True)
    found = np.asarray(nibabel.load(file).dataobj)
    np.testing.assert_array_equal(found, np.asarray(expected.labels.dataobj))
    plain = np.asarray(nibabel.load(labels / file.relative_to(refined)).dataobj)
    assert not np.array_equal(found, plain)


def test_scans_in_the_space_of_a_template(tmp_path, rng):
    bids, out, template = tmp_path / "study", tmp_path / "out", tmp_path / "mine.nii.gz"
    for contrast in ("T1w", "T2w"):
        write_scan(bids / "sub-1" / "ses-a" / "anat" / f"sub-1_ses-a_{contrast}.nii.gz", rng)
    write_scan(template, rng)
    cifl_tf.build_encoder(ndim=3, num_features=2, num_filters=2).save(tmp_path / "encoder.keras")
    done = run_here(
        *("cohort", "register-to-template", bids, out, "participant", "--stages", "rigid"),
        *("--template", template, "--template-name", "Mine", "--model", tmp_path / "encoder.keras"),
        *("--remappings", "none"),
    )
    assert done.exit_code == 0, done.output
    found = {path.name for path in (out / "sub-1" / "ses-a" / "anat").glob("*T1w*")}
    start = "sub-1_ses-a"
    assert found - {name for name in found if name.endswith(".json")} == {
        f"{start}_space-Mine_T1w.nii.gz",
        f"{start}_from-T1w_to-Mine_mode-image_xfm.nii.gz",
        f"{start}_from-Mine_to-T1w_mode-image_xfm.nii.gz",
        f"{start}_from-T1w_to-Mine_mode-image_desc-affine_xfm.mat",
        f"{start}_from-T1w_to-Mine_mode-image_jacobian.nii.gz",
    }
    assert not bids_errors(out)
    # The transform that was written makes the scan that was written.
    anat = out / "sub-1" / "ses-a" / "anat"
    again = tmp_path / "again"
    warp = anat / f"{start}_from-T1w_to-Mine_mode-image_xfm.nii.gz"
    scan = bids / "sub-1" / "ses-a" / "anat" / f"{start}_T1w.nii.gz"
    assert run_here("warp", scan, "--transform", warp, "--out", again).exit_code == 0
    (file,) = again.glob("*.nii.gz")
    warped = nibabel.load(anat / f"{start}_space-Mine_T1w.nii.gz").get_fdata()
    np.testing.assert_allclose(nibabel.load(file).get_fdata(), warped, atol=1e-4)


def test_the_jobs_of_an_array(bids, encoder, tmp_path):
    """The script of SLURM, with a ``cifl`` that prints its arguments, and these arguments here."""
    program = tmp_path / "bin" / "cifl"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    out = tmp_path / "out"
    for task in (1, 2):
        variables = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": "2"}
        line = subprocess.run(
            [SCRIPT, "features", bids, out, "--model", encoder],
            env={**os.environ, **variables, "PATH": path},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.splitlines()
        with pytest.MonkeyPatch.context() as patch:
            for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
                patch.setenv(name, "1")
            assert run_here(*line).exit_code == 0
    assert len(results(out)) == SUBJECTS + 1


def test_what_cannot_be_done_is_refused(bids, encoder, tmp_path):
    out = tmp_path / "out"
    for arguments, message in (
        ([bids / "none", out, "participant"], "is no folder"),
        ([bids, out, "participant", "--participant-label", "9"], "has no sub-9; it has sub-1"),
        ([bids, out, "participant", "--model", tmp_path / "none"], "does not exist"),
        ([bids, out, "group"], "has no results yet"),
        ([bids, bids, "participant"], "is the dataset of the scans"),
    ):
        assert_one_line_error(run_here("cohort", "features", *arguments), message)
        assert not out.exists()
    template = tmp_path / "template.nii.gz"
    template.write_bytes(b"no image")
    command = ["cohort", "register-to-template", bids, out, "participant", "--template", template]
    assert_one_line_error(run_here(*command), "template.nii.gz is truncated or damaged")
    done = features(bids, out, encoder, "--contrast", "PDw")
    assert done.exit_code == 1
    assert "has no such scan" in done.stderr
    assert features(bids, out, encoder, "--shard", "9/9").exit_code == 0


def test_results_that_are_outdated_are_told(bids, encoder, tmp_path, rng):
    out, link = tmp_path / "out", tmp_path / "link"
    assert features(bids, out, encoder).exit_code == 0
    link.symlink_to(bids)  # another way to the same dataset
    described = (out / "dataset_description.json").read_bytes()

    def outcomes():
        group = features(link, out, encoder, level="group")
        assert group.exit_code == 0, group.output
        rows = [line.split("\t") for line in (out / "cohort.tsv").read_text().splitlines()]
        return {Path(row[2]).name: row[3] for row in rows[1:]}

    assert {*outcomes().values()} == {"done"}
    write_scan(bids / "sub-2" / "anat" / "sub-2_T1w.nii.gz", rng)
    next((out / "sub-3").rglob("*_features.nii.gz")).unlink()
    found = outcomes()
    assert {name for name, outcome in found.items() if outcome == "outdated"} == {
        "sub-2_T1w.nii.gz",
        "sub-3_T1w.nii.gz",
    }
    assert (out / "dataset_description.json").read_bytes() == described
    assert features(link, out, encoder).exit_code == 0
    assert {*outcomes().values()} == {"done"}
