import csv
import json
import math
from functools import partial

import nibabel
import numpy as np
import pytest

from cifl_tf.datasets import Cohort, Subject, make_cohort, stack_cohort, virtual_cohort
from cifl_tf.evaluation import (
    compare,
    feature_scores,
    registration_scores,
    segmentation_scores,
    summary,
)
from cifl_tf.evaluation_report import read_report, write_report
from cifl_tf.metrics import Comparison, compare_runs
from cifl_tf.volumes import read_volume

TABLE = {5: "box", 2: "bar"}
AFFINE = np.diag([2.0, 5.0, 3.0, 1.0])  # mm
SHAPE = (24, 6, 20)


def boxes(shift=0):
    """A box of 10 by 8 and a bar of 4 by 4 voxels in every coronal slice."""
    labels = np.zeros(SHAPE, np.int32)
    labels[2 + shift : 12 + shift, :, 2:10] = 1
    labels[4 + shift : 8 + shift, :, 13:17] = 2
    return labels


def subject_of(name, labels):
    """A subject whose image shows its labels: intensity 0, 0.5, 1."""
    image = nibabel.Nifti1Image((labels / 2).astype(np.float32), AFFINE)
    values = np.array([0, *TABLE], np.int32)[labels]
    return Subject(
        name, {"T1w": lambda: read_volume(image)}, lambda: values, label_values=(0, *TABLE)
    )


def cohort_of(*label_maps) -> Cohort:
    subjects = [subject_of(f"s{i}", labels) for i, labels in enumerate(label_maps, start=1)]
    return make_cohort(subjects, TABLE)


def seen(images):
    """The labels that the images of ``subject_of`` show, as probabilities."""
    return np.eye(3)[np.rint(2 * images[..., 0]).astype(int)]


def still(moving, fixed):
    return np.zeros((*moving.shape[:-1], moving.ndim - 2), np.float32)


@pytest.mark.parametrize(("ndim", "count"), [(2, 3), (3, 6)])
def test_correlation_of_features_is_that_inside_the_labels(ndim, count, rng):
    cohort = virtual_cohort(2, resolution=8)
    kernel = rng.standard_normal(3)

    def encode(images):
        return np.concatenate([images**power * weight for power, weight in enumerate(kernel)], -1)

    contrasts = ["T1w", "T2w", "T1w"]
    rows = feature_scores(encode, cohort, contrasts, ndim=ndim, num_slices=count, around="THA")
    assert [row["contrast"] for row in rows] == ["T1w to T2w", "T1w to T1w"] * 2
    for subject, (row, same) in zip(cohort, zip(rows[::2], rows[1::2], strict=True), strict=True):
        cut = partial(stack_cohort, cohort.select([subject.name]), ndim=ndim)
        (t1, labels, _), (t2, *_) = (
            cut(contrast, count=count, around="THA") for contrast in ("T1w", "T2w")
        )
        inside = labels[..., 0] > 0
        pairs = [(encode(t1)[inside][:, c], encode(t2)[inside][:, c]) for c in (1, 2)]
        # The first channel is constant, which counts as 0.
        expected = sum(np.corrcoef(*pair)[0, 1] for pair in pairs) / 3
        assert row["correlation"] == pytest.approx(expected, abs=1e-6)
        assert same["correlation"] == pytest.approx(2 / 3)
        turned, both = encode(t1)[:, :, ::-1], inside & inside[:, :, ::-1]
        pairs = [(encode(t1)[both][:, c], turned[both][:, c]) for c in (1, 2)]
        expected = sum(abs(np.corrcoef(*pair)[0, 1]) for pair in pairs) / 3
        assert row["unrelated"] == same["unrelated"] == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match=r"the contrasts are \['T1w'\]; give one, and others"):
        feature_scores(encode, cohort, ["T1w"])


@pytest.mark.parametrize("ndim", [2, 3])
def test_perfect_segmentation(ndim):
    cohort = cohort_of(boxes(), boxes(3))
    rows = segmentation_scores(seen, cohort, ["T1w"], ndim=ndim, num_slices=4)
    assert [(row["subject"], row["contrast"]) for row in rows] == [("s1", "T1w"), ("s2", "T1w")]
    assert list(rows[0])[2:] == ["dice", "dice box", "dice bar", "hd95", "hd95 box", "hd95 bar"]
    for row in rows:
        assert [row[name] for name in list(row)[2:]] == [1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(("axis", "millimetres", "box"), [(1, 2, 9 / 10), (-2, 3, 7 / 8)])
def test_segmentation_that_is_one_voxel_off(ndim, axis, millimetres, box):
    def segment(images):
        return np.roll(seen(images), 1, axis)

    (row,) = segmentation_scores(segment, cohort_of(boxes()), ["T1w"], ndim=ndim, num_slices=3)
    assert row["dice box"] == pytest.approx(box)
    assert row["dice bar"] == pytest.approx(3 / 4)
    assert row["dice"] == pytest.approx((box + 3 / 4) / 2)
    assert (row["hd95 box"], row["hd95 bar"], row["hd95"]) == (millimetres,) * 3


def test_slices_of_the_plane_and_labels_that_are_missing():
    labels = boxes()
    labels[:, 2][labels[:, 2] == 2] = 0
    calls = []

    def segment(images):
        calls.append(images.shape)
        found = seen(images)
        found[2] = seen(0 * images[2:3])[0]  # nothing is found on the third slice
        return found

    (row,) = segmentation_scores(segment, cohort_of(labels), ["T1w"], num_slices=6)
    assert calls == [(6, 24, 20, 1)]
    assert row["dice box"] == pytest.approx(5 / 6)
    assert row["hd95 box"] == math.inf
    assert (row["dice bar"], row["hd95 bar"]) == (1, 0)  # neither there nor found on that slice
    assert row["dice"] == pytest.approx((5 / 6 + 1) / 2)
    no_bar = np.where(labels == 2, 0, labels)
    (row,) = segmentation_scores(
        lambda images: np.eye(3)[(images[..., 0] > 0).astype(int)],
        cohort_of(no_bar),
        ["T1w"],
        plane="axial",
        num_slices=2,
        around="box",
    )
    assert math.isnan(row["dice bar"])
    assert (row["dice"], row["hd95"]) == (1, 0)
    found = summary([row])["T1w"]
    assert (found["dice bar"]["num"], found["dice"]["num"]) == (0, 1)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("everywhere", [0, 0.3])  # voxels: nearest labels stay where they are
def test_registration_that_does_not_move(ndim, everywhere):
    cohort = cohort_of(boxes(), boxes(1), boxes(4))
    rows = registration_scores(
        lambda moving, fixed: still(moving, fixed) + everywhere,
        cohort,
        "T1w",
        ["T1w"],
        ndim=ndim,
        num_slices=2,
    )
    pairs = [(row["moving"], row["fixed"]) for row in rows]
    assert sorted(pairs) == [
        (a, b) for a in ("s1", "s2", "s3") for b in ("s1", "s2", "s3") if a != b
    ]
    shift = {"s1": 0, "s2": 1, "s3": 4}
    for row in rows:
        distance = abs(shift[row["moving"]] - shift[row["fixed"]])
        assert row["contrast"] == "T1w to T1w"
        assert row["dice box"] == pytest.approx(1 - distance / 10)
        assert row["dice bar"] == pytest.approx(1 - distance / 4)
        assert row["dice"] == row["dice before"]
        assert row["hd95 box"] == 2 * distance
        assert (row["folded"], row["log jacobian sd"]) == (0, 0)


def test_registration_that_is_right_but_for_a_slice_that_folds():
    cohort = cohort_of(boxes(), boxes(3))

    def displace(moving, fixed):
        at = [np.argmax(images[0, :, 5, 0] > 0) for images in (moving, fixed)]
        displacement = still(moving, fixed)
        displacement[..., 0] = at[0] - at[1]
        displacement[1, 16:, :, 1] = -2 * np.arange(20)  # mirrors the background
        return displacement

    rows = registration_scores(
        displace, cohort, "T1w", ["T1w:inverted", "T1w"], num_slices=4, hd95=False
    )
    assert [row["contrast"] for row in rows] == ["T1w to T1w:inverted", "T1w to T1w"] * 2
    for row in rows:
        assert not any(name.startswith("hd95") for name in row)
        assert (row["dice box"], row["dice bar"], row["dice"]) == (1, 1, 1)
        assert row["dice before"] == pytest.approx((7 / 10 + 1 / 4) / 2)
        assert row["folded"] == pytest.approx(8 / 24 / 4)
        # A third of that slice has log(1e-9), the rest 0.
        expected = -np.log(1e-9) * np.sqrt(1 / 3 * 2 / 3) / 4
        assert row["log jacobian sd"] == pytest.approx(expected)


def test_errors():
    cohort = cohort_of(boxes(), boxes(1))
    with pytest.raises(ValueError, match=r"have shape \(9, 24, 20, 2\), but \(9, 24, 20, 3\)"):
        segmentation_scores(
            lambda images: seen(images)[..., 1:], cohort_of(np.repeat(boxes(), 2, 1)), ["T1w"]
        )
    with pytest.raises(ValueError, match="2 subjects, 2 labels and 0 contrasts"):
        segmentation_scores(seen, cohort, [])
    with pytest.raises(ValueError, match="ndim is 4"):
        segmentation_scores(seen, cohort, ["T1w"], ndim=4)
    with pytest.raises(ValueError, match="one subject, s1"):
        registration_scores(still, cohort.select(["s1"]), "T1w", ["T1w"])
    with pytest.raises(ValueError, match=r"different shapes, \{'s1': \(24, 20\), 's2': \(23, 20\)"):
        registration_scores(still, cohort_of(boxes(), boxes()[1:]), "T1w", ["T1w"], num_slices=2)
    with pytest.raises(ValueError, match="displacements have shape"):
        registration_scores(lambda moving, fixed: moving, cohort, "T1w", ["T1w"], num_slices=2)
    with pytest.raises(ValueError, match="no column 'side' in 1 rows"):
        summary([{"contrast": "T1w", "dice": 1.0}], "side")


def row_of(subject, value, contrast="T1w", **columns):
    return {"subject": subject, "contrast": contrast, "dice": value, **columns}


def pair_of(moving, fixed, value):
    return {"moving": moving, "fixed": fixed, "contrast": "T1w to T1w", "dice": value}


def test_summary_leaves_out_what_is_missing_and_counts_what_is_infinite():
    rows = [row_of("a", 0.5, hd95=1.0), row_of("b", 0.7, hd95=math.inf)]
    rows += [row_of("c", math.nan, hd95=3.0), row_of("a", 0.9, "FLAIR", hd95=math.inf)]
    found = summary(rows)
    assert list(found) == ["T1w", "FLAIR"]
    assert found["T1w"]["dice"] == pytest.approx(
        {"mean": 0.6, "sd": np.std([0.5, 0.7], ddof=1), "num": 2, "num_infinite": 0}
    )
    assert found["T1w"]["hd95"] == pytest.approx(
        {"mean": 2.0, "sd": np.sqrt(2), "num": 3, "num_infinite": 1}
    )
    assert found["FLAIR"]["hd95"]["num_infinite"] == 1
    assert math.isnan(found["FLAIR"]["hd95"]["mean"])


def test_compare_is_over_subjects_whatever_their_order(rng):
    first, second = rng.random(7), rng.random(7)
    rows_1 = [row_of(f"s{i}", value) for i, value in enumerate(first)]
    rows_2 = [row_of(f"s{i}", value) for i, value in enumerate(second)]
    assert compare(rows_1, rows_2[::-1]) == {"T1w": compare_runs(first, second)}
    with pytest.raises(ValueError, match=r"\[\('s6', 'T1w'\)\] are in the first only, \[\]"):
        compare(rows_1, rows_2[:-1])
    with pytest.raises(ValueError, match="no number 'hd95'"):
        compare(rows_1, rows_2, "hd95")


def test_compare_of_registrations_is_over_fixed_subjects():
    names = "abc"
    pairs = [(moving, fixed) for moving in names for fixed in names if moving != fixed]
    rows_1 = [pair_of(*pair, value) for pair, value in zip(pairs, range(6), strict=True)]
    rows_2 = [pair_of(*pair, 1.0) for pair in pairs]
    # (a, b) 0, (a, c) 1, (b, a) 2, (b, c) 3, (c, a) 4, (c, b) 5
    expected = compare_runs([3, 2.5, 2], [1, 1, 1])
    assert compare(rows_1, rows_2) == {"T1w to T1w": expected}


def test_report_comes_back(tmp_path):
    rows = [
        row_of("a", 0.5, **{"dice box": 0.1, "hd95": math.inf, "folded": 0.25}),
        row_of("b", 1 / 3, **{"dice box": math.nan, "hd95": 1.25, "folded": 0.0}),
        row_of("a", 0.75, "FLAIR", **{"dice box": 0.75, "hd95": 2.0, "folded": 0.0}),
        row_of("b", 0.5, "FLAIR", **{"dice box": 0.5, "hd95": 2.0, "folded": 0.0}),
    ]
    about = {"command": "cifl evaluate", "seed": None, "model": "m"}
    first = write_report(tmp_path / "first", rows, about)
    assert first == (tmp_path / "first" / "scores.md").read_text()
    assert "p" not in first.splitlines()[2].split(" | ")
    report = read_report(tmp_path / "first")
    assert {name: report["about"][name] for name in about} == about
    assert set(report["about"]["versions"]) == {"cifl_tf", "tensorflow", "numpy", "python"}
    assert report["comparison"] == {}
    np.testing.assert_equal(report["rows"], rows)
    np.testing.assert_equal(report["summary"], summary(rows))

    def no_constant(name):
        raise AssertionError(f"{name} is not JSON")

    json.loads((tmp_path / "first" / "scores.json").read_text(), parse_constant=no_constant)
    with (tmp_path / "first" / "scores.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(line["dice"]) for line in table] == [row["dice"] for row in rows]
    assert [float(line["hd95"]) for line in table] == [math.inf, 1.25, 2, 2]

    better = [{**row, "dice": row["dice"] + 0.125} for row in rows]
    text = write_report(tmp_path / "second", better, about, report)
    assert text.splitlines()[-4:] == [
        "| contrast | Dice | Dice box | HD95 (mm) | folded (%) | Δ Dice | p |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| T1w | 0.542 ± 0.118 | 0.100 | 1.25 (1 of 2 infinite) | 12.50 ± 17.68 | +0.125 | 0.5 |",
        "| FLAIR | 0.750 ± 0.177 | 0.625 ± 0.177 | 2.00 ± 0.00 | 0.00 ± 0.00 | +0.125 | 0.5 |",
    ]
    comparison = Comparison(**read_report(tmp_path / "second")["comparison"]["FLAIR"])
    assert comparison == compare_runs([0.875, 0.625], [0.75, 0.5])


def test_report_that_cannot_be_read(tmp_path):
    with pytest.raises(
        ValueError, match=r"holds no scores\.json; give a folder of `cifl evaluate`"
    ):
        read_report(tmp_path)
    for text in ("{", "{}", "[]"):
        (tmp_path / "scores.json").write_text(text)
        with pytest.raises(ValueError, match="is no report of `cifl evaluate`"):
            read_report(tmp_path)
