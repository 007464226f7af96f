import csv
import json
import shutil

import pandas as pd
import pytest

import cifl_tf
from cifl_tf._notes import Note
from cifl_tf.cli.evaluated import tell_of_scaling
from cifl_tf.datasets import read_bids
from cifl_tf.evaluation.report import read_report
from cifl_tf.evaluation.scores import feature_scores, registration_scores, segmentation_scores
from cifl_tf.images.intensity import IntensityScaling
from cifl_tf.images.preprocessing import Preprocessing
from cifl_tf.registration.config import RegistrationConfig
from cifl_tf.registration.syn import register_syn
from cifl_tf.registration.training import train_registration
from cifl_tf.segmentation.config import SegmentationConfig
from cifl_tf.segmentation.loading import load_segmenter
from cifl_tf.segmentation.refinement import refine
from cifl_tf.segmentation.training import train_segmenter
from cifl_tf.training.claims import CONFIG_FILE
from command_runner import run_here

VIEW = {"plane": "axial", "num_slices": 3}
TRAINED, TESTED = ["sub-1", "sub-2"], ["sub-3", "sub-4"]
LABELS = ["WM", "GM", "CSF", "THA"]


def evaluate(*arguments):
    return run_here("evaluate", *arguments)


@pytest.fixture(scope="module")
def cohort(dataset):
    return read_bids(dataset)


@pytest.fixture(scope="module")
def encoder_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("untrained") / "encoder.keras"
    cifl_tf.build_encoder(2, num_features=3, num_filters=2).save(path)
    return path


@pytest.fixture(scope="module")
def segmenter_folder(cohort, encoder_file, tmp_path_factory):
    """A segmenter that has seen two subjects of four."""
    folder = tmp_path_factory.mktemp("trained") / "segmenter"
    config = SegmentationConfig(str(encoder_file), num_filters=2, steps=1, batch_size=2, **VIEW)
    train_segmenter(folder, config, cohort.select(["sub-1"]), cohort.select(["sub-2"]), verbose=0)
    return folder


@pytest.fixture(scope="module")
def registration_folder(cohort, tmp_path_factory):
    """A registration that has seen all four subjects."""
    folder = tmp_path_factory.mktemp("trained") / "registration"
    config = RegistrationConfig(
        "intensity", steps=1, batch_size=1, augment=False, int_steps=1, **VIEW
    )
    train, validation = cohort.select(TRAINED), cohort.select(TESTED)
    train_registration(folder, config, train, validation, verbose=0)
    return folder


def records(report):
    return report["rows"].to_dict("records")


def test_segmenter(dataset, cohort, segmenter_folder, tmp_path, monkeypatch, capfd):
    common = ["--model", segmenter_folder, "--data", dataset, "--contrast", "T1w,T1w:inverted"]
    arguments = [*common, "--out", tmp_path / "first"]
    monkeypatch.setattr("sys.argv", ["cifl", "evaluate", *map(str, arguments)])
    capfd.readouterr()
    done = evaluate(*arguments)
    assert done.exit_code == 0, done.output
    assert capfd.readouterr() == ("", "")  # nothing of TensorFlow's own either
    report = read_report(tmp_path / "first")
    # Neither the subject of training nor that of validation, and cut like them.
    segmenter = load_segmenter(segmenter_folder)
    expected = segmentation_scores(
        segmenter.predict_on_batch, cohort.select(TESTED), ["T1w", "T1w:inverted"], **VIEW
    )
    assert list(report["rows"]) == list(expected)
    assert report["rows"]["dice"].tolist() == pytest.approx(expected["dice"].tolist(), abs=1e-3)
    with (tmp_path / "first" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["subject"], row["contrast"]) for row in rows] == [
        (subject, contrast) for subject in TESTED for contrast in ("T1w", "T1w:inverted")
    ]
    assert done.stdout.startswith((tmp_path / "first" / "scores.md").read_text())
    assert "| T1w:inverted | 0." in done.stdout
    (note,) = done.stderr.splitlines()
    assert note.startswith("Note: 2 subjects were in training or validation and are left out: sub-")
    assert note.endswith("sub-1, sub-2; if these are other people, add --other-people")
    about = report["about"]
    assert about["command"].startswith("cifl evaluate --model")
    assert (about["training"]["seed"], about["subjects"]) == (0, TESTED)

    again = evaluate(*common, "--out", tmp_path / "second", "--against", tmp_path / "first")
    assert again.exit_code == 0, again.output
    assert "+0.000 | 1 (n too small for p < 0.05) |" in again.output
    assert read_report(tmp_path / "second")["about"]["against"] == str(tmp_path / "first")
    other = [*common, "--num-slices", 2, "--out", tmp_path / "third"]
    refused = evaluate(*other, "--against", tmp_path / "first")
    assert refused.exit_code == 1
    assert "num_slices 3 there, 2 here" in refused.stderr
    assert not (tmp_path / "third").exists()


def test_borders_by_intensities(dataset, cohort, segmenter_folder, encoder_file, tmp_path):
    options = ["--data", dataset, "--contrast", "FLAIR", "--refine", "--out", tmp_path / "out"]
    done = evaluate("--model", segmenter_folder, *options)
    assert done.exit_code == 0, done.output
    segment = load_segmenter(segmenter_folder).predict_on_batch

    def refined(images):  # slices of 6 mm, which are neighbors
        known = segment(images)
        return refine(images[..., 0], known, (6, 6, 6))

    tested = cohort.select(TESTED)
    expected = segmentation_scores(refined, tested, ["FLAIR"], **VIEW)
    found = read_report(tmp_path / "out")
    pd.testing.assert_frame_equal(found["rows"], expected, check_dtype=False)
    assert found["about"]["refine"]
    done = evaluate("--model", encoder_file, *options[:-1], tmp_path / "other")
    assert done.exit_code == 1
    assert (
        done.stderr
        == f"cifl: --refine is for segmenters, but {encoder_file} is none; leave it out\n"
    )


def test_registration(dataset, registration_folder, tmp_path):
    common = ["--model", registration_folder, "--data", dataset, "--subjects", "sub-3,sub-4"]
    done = evaluate(*common, "--contrast", "T1w,FLAIR", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert "Note: subjects sub-3, sub-4 were in training or validation; if" in done.stderr
    report = read_report(tmp_path)
    assert {(row["moving"], row["fixed"], row["contrast"]) for row in records(report)} == {
        (*pair, f"T1w to {contrast}")
        for pair in (TESTED, TESTED[::-1])
        for contrast in ("T1w", "FLAIR")
    }
    for row in records(report):
        assert [f"dice {name}" in row and f"hd95 {name}" in row for name in LABELS] == [True] * 4
        assert 0 < row["dice"] < 1
    assert report["about"]["task"] == "registration"


@pytest.mark.parametrize("model", ["intensity", "registration"])
def test_optimized(model, dataset, registration_folder, tmp_path):
    model = registration_folder if model == "registration" else model
    options = "--optimize --contrast FLAIR --moving-contrast FLAIR --plane axial --num-slices 1"
    common = ["--model", model, "--data", dataset, "--subjects", "sub-1,sub-2", "--out", tmp_path]
    done = evaluate(*common, *options.split())
    assert done.exit_code == 0, done.output
    rows = records(read_report(tmp_path))
    assert [row["contrast"] for row in rows] == ["FLAIR to FLAIR"] * 2
    for row in rows:
        assert row["dice"] > row["dice before"] + 0.02


def test_syn(dataset, cohort, tmp_path):
    pytest.importorskip("ants", reason="ANTsPy is an optional extra")
    options = ["--model", "syn", "--ndim", 3, "--contrast", "T1w", "--subjects", "sub-1,sub-2"]
    done = evaluate(*options, "--data", dataset, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    report = read_report(tmp_path)
    subjects = cohort.select(["sub-1", "sub-2"])
    expected = registration_scores(register_syn, subjects, "T1w", ["T1w"], ndim=3)
    for row, other in zip(records(report), expected.to_dict("records"), strict=True):
        assert row["dice"] == pytest.approx(other["dice"], abs=1e-3)
        assert row["dice"] != row["dice before"]
    assert report["about"]["model"] == "syn"


def test_syn_without_ants_says_what_to_install(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("cifl_tf.cli.evaluated.has_ants", lambda: False)
    common = ["--data", dataset, "--out", tmp_path / "out", "--contrast", "T1w"]
    done = evaluate("--model", "syn", *common)
    assert done.exit_code == 1
    assert done.stderr.endswith("not installed: pip install antspyx\n")
    assert "leave --optimize out" in evaluate("--model", "syn", "--optimize", *common).stderr
    assert not (tmp_path / "out").exists()


def test_features(dataset, cohort, encoder_file, tmp_path):
    options = ["--model", encoder_file, "--data", dataset, "--contrast", "T1w,T1w:inverted,FLAIR"]
    view = ["--plane", "axial", "--num-slices", 3]
    done = evaluate(*options, *view, "--out", tmp_path / "first")
    assert done.exit_code == 0, done.output
    encoder = cifl_tf.load_encoder(encoder_file)
    contrasts = ["T1w", "T1w:inverted", "FLAIR"]
    expected = feature_scores(encoder.predict_on_batch, cohort, contrasts, **VIEW)
    report = read_report(tmp_path / "first")
    assert report["about"]["task"] == "features"
    for row, other in zip(records(report), expected.to_dict("records"), strict=True):
        assert row == pytest.approx(other, abs=1e-5)
    columns = "correlation | unrelated | matching | match distance | effective rank |"
    assert f"| contrast | {columns}" in done.output
    again = evaluate(*options, *view, "--out", tmp_path / "2", "--against", tmp_path / "first")
    assert f"| contrast | {columns} Δ correlation | p |" in again.output


def test_errors_are_one_line(
    dataset, encoder_file, segmenter_folder, registration_folder, tmp_path
):
    def message(model, *options):
        common = ["--data", dataset, "--out", tmp_path / "out", "--contrast", "T1w"]
        done = evaluate("--model", model, *common, *options)
        assert done.exit_code == 1
        assert not (tmp_path / "out").exists()
        (line,) = done.stderr.splitlines()
        return line

    assert "the contrasts are ['T1w']; give one, and others" in message(encoder_file)
    assert "'intensity' has no features to compare; add --optimize" in message("intensity")
    assert "nowhere does not exist; give the folder of a training" in message("nowhere")
    assert "all 4 subjects" in message(registration_folder)
    assert "holds a segmenter" in message(segmenter_folder, "--optimize")
    assert "--moving-contrast is for reg" in message(segmenter_folder, "--moving-contrast", "T1w")
    assert "--ndim is 3" in message(segmenter_folder, "--ndim", 3)
    assert "--ndim is 2" in message("shapes-3d", "--optimize", "--ndim", 2)
    assert "there are no subjects ['9']" in message(segmenter_folder, "--subjects", "sub-3,9")
    assert "no contrast 'T2w'" in message(segmenter_folder, "--contrast", "T2w")
    assert "holds no scores.json" in message(segmenter_folder, "--against", tmp_path)


@pytest.mark.parametrize("task", ["features", "registration"])
def test_a_subject_that_cannot_be_read_does_not_cost_the_others(
    task, dataset, encoder_file, registration_folder, tmp_path
):
    copy, out = tmp_path / "bids", tmp_path / "out"
    shutil.copytree(dataset, copy)
    broken = copy / "sub-3" / "anat" / "sub-3_FLAIR.nii.gz"
    broken.write_bytes(b"no image")
    options = ["--model", encoder_file, "--contrast", "T1w,FLAIR", "--num-slices", 1]
    if task == "registration":
        options = ["--model", registration_folder, "--contrast", "FLAIR"]
        options += ["--subjects", "sub-1,sub-2,sub-3"]
    done = evaluate(*options, "--data", copy, "--out", out)
    assert done.exit_code == 1
    (failure,) = [line for line in done.stderr.splitlines() if line.startswith("cifl: ")]
    assert failure.startswith("cifl: sub-3: ") or str(broken) in failure
    report = read_report(out)
    left = {"sub-1", "sub-2", "sub-4"} if task == "features" else {"sub-1", "sub-2"}
    assert {row["subject" if task == "features" else "fixed"] for row in records(report)} == left
    assert report["about"]["subjects"] == sorted(left)
    (run,) = json.loads((out / "run.json").read_text())["runs"]
    outcomes = {entry["input"].get("subject"): entry["outcome"] for entry in run["inputs"]}
    assert outcomes == {None: "done", "sub-3": "failed", **dict.fromkeys(left, "done")}

    repeated = evaluate(*options, "--data", copy, "--out", out)
    assert repeated.exit_code == 1
    assert "in the way" not in repeated.stderr
    other = evaluate(*options, "--data", dataset, "--out", out)
    assert "scores.csv (made from" in other.stderr
    assert read_report(out)["about"]["data"] == str(copy)


@pytest.mark.parametrize("source", ["here", "/elsewhere", "here:ses-2"])
def test_names_of_the_training_are_left_out_wherever_the_data_are(
    dataset, segmenter_folder, tmp_path, source
):
    same = source == "here"
    shutil.copytree(segmenter_folder, tmp_path / "segmenter")
    file = tmp_path / "segmenter" / CONFIG_FILE
    claim = json.loads(file.read_text())
    assert "data" in claim
    file.write_text(json.dumps({**claim, "data": source.replace("here", str(dataset))}))
    common = ["--model", tmp_path / "segmenter", "--contrast", "T1w", "--out", tmp_path / "scores"]
    # Without --data, the dataset of the training.
    common += [] if same else ["--data", dataset]
    done = evaluate(*common)
    assert done.exit_code == 0, done.output
    about = read_report(tmp_path / "scores")["about"]
    assert about["data"] == str(dataset)
    assert about["subjects"] == TESTED
    assert f"sub-4) of {dataset}." in done.output
    assert "are left out: sub-1, sub-2" in done.stderr
    assert ("add --other-people" in done.stderr) != same
    done = evaluate(*common, "--other-people", "--overwrite")
    if same:
        assert done.exit_code == 1
        assert "but the model was trained on it; leave the option out" in done.stderr
    else:
        assert done.exit_code == 0, done.output
        assert read_report(tmp_path / "scores")["about"]["subjects"] == TRAINED + TESTED
        assert "Note" not in done.stderr


def test_segmenter_of_a_whole_table(dataset, cohort, encoder_file, tmp_path):
    """As trained before only those labels were channels that occur: its others stay empty."""
    whole = cohort.with_labels(["absent", *LABELS[::-1], "missing"])
    config = SegmentationConfig(str(encoder_file), num_filters=2, steps=1, batch_size=2, **VIEW)
    train, validation = whole.select(["sub-1"]), whole.select(["sub-2"])
    train_segmenter(tmp_path / "segmenter", config, train, validation, verbose=0)
    common = ["--model", tmp_path / "segmenter", "--contrast", "T1w", "--out", tmp_path / "scores"]
    done = evaluate(*common, "--data", dataset)
    assert done.exit_code == 0, done.output
    segmenter = load_segmenter(tmp_path / "segmenter")
    expected = segmentation_scores(
        segmenter.predict_on_batch, whole.select(TESTED), ["T1w"], **VIEW
    )
    rows = records(read_report(tmp_path / "scores"))
    for row, other in zip(rows, expected.to_dict("records"), strict=True):
        assert row == pytest.approx(other, abs=1e-3, nan_ok=True)
        assert {f"dice {name}" for name in ("absent", "missing", *LABELS)} < set(row)


def test_other_labels(dataset, segmenter_folder, tmp_path):
    copy = tmp_path / "bids"
    copy.mkdir()
    for path in dataset.iterdir():
        (copy / path.name).symlink_to(path)
    table = copy / "desc-tissue_dseg.tsv"
    text = table.read_text()
    table.unlink()
    table.write_text(text.replace("THA", "PUT"))
    options = ["--model", segmenter_folder, "--contrast", "T1w", "--out", tmp_path / "out"]
    done = evaluate(*options, "--data", copy)
    assert done.exit_code == 1
    assert "['WM', 'GM', 'CSF', 'PUT'], but the model was trained with ['WM'" in done.stderr


def test_a_model_of_another_scaling_is_told_of():
    tell_of_scaling(Preprocessing())
    with pytest.warns(Note, match="the model scales intensities by"):
        tell_of_scaling(Preprocessing(scaling=IntensityScaling(window=(0, 80))))
