import math
from dataclasses import replace
from functools import partial

import nibabel
import numpy as np
import pytest

from cifl_tf.datasets import Cohort, Subject, make_cohort, stack_cohort, virtual_cohort
from cifl_tf.evaluation.scores import feature_scores, registration_scores, segmentation_scores
from cifl_tf.images.volumes import read_volume
from cifl_tf.metrics import match_voxels

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


def only_row(*arguments, **options):
    """The row of one subject and contrast."""
    (row,) = segmentation_scores(*arguments, **options).to_dict("records")
    return row


def still(moving, fixed):
    return np.zeros((*moving.shape[:-1], moving.ndim - 2), np.float32)


@pytest.mark.parametrize(("ndim", "count"), [(2, 3), (3, 6)])
def test_correlation_of_features_is_that_inside_the_labels(ndim, count, rng):
    cohort = virtual_cohort(2, resolution=8)
    kernel = rng.standard_normal(3)

    def encode(images):
        return np.concatenate([images**power * weight for power, weight in enumerate(kernel)], -1)

    contrasts = ["T1w", "T2w", "T1w"]
    rows = feature_scores(
        encode, cohort, contrasts, ndim=ndim, num_slices=count, center_label="THA"
    ).to_dict("records")
    assert [row["contrast"] for row in rows] == ["T1w to T2w", "T1w to T1w"] * 2
    for subject, (row, same) in zip(cohort, zip(rows[::2], rows[1::2], strict=True), strict=True):
        cut = partial(stack_cohort, cohort.select([subject.name]), ndim=ndim)
        (t1, labels, _), (t2, *_) = (
            cut(contrast, count=count, center_label="THA") for contrast in ("T1w", "T2w")
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
        # These features vary along a curve: voxels match others equally well in the same image.
        stacks = zip(encode(t1), inside, strict=True)
        alone = [match_voxels(one, one, mask) for one, mask in stacks if mask.any()]
        assert same["matching"] == pytest.approx(np.mean([each.accuracy for each in alone]))
        assert same["match distance"] == pytest.approx(np.mean([each.distance for each in alone]))
        assert row["matching"] < 0.9 * same["matching"]
        assert row["effective rank"] == same["effective rank"] < 2
    with pytest.raises(ValueError, match=r"the contrasts are \['T1w'\]; give one, and others"):
        feature_scores(encode, cohort, ["T1w"])


def test_labels_that_do_not_meet_their_mirror_image_have_no_unrelated_features(rng):
    images = {name: rng.random((12, 10, 8)).astype(np.float32) for name in ("T1w", "T2w")}
    labels = np.zeros((12, 10, 8), np.int32)
    labels[2:5, 1:4, 1:7] = 1
    grid = read_volume(nibabel.Nifti1Image(images["T1w"], np.eye(4)))
    volumes = {name: partial(replace, grid, data=image) for name, image in images.items()}
    cohort = make_cohort([Subject("s", volumes, lambda: labels, (0, 1))], {1: "one"})
    (row,) = feature_scores(lambda x: x, cohort, ["T1w", "T2w"], ndim=3).to_dict("records")
    assert math.isnan(row["unrelated"])
    assert np.isfinite(row["correlation"])


@pytest.mark.parametrize("ndim", [2, 3])
def test_perfect_segmentation(ndim):
    cohort = cohort_of(boxes(), boxes(3))
    table = segmentation_scores(seen, cohort, ["T1w"], ndim=ndim, num_slices=4)
    rows = table.to_dict("records")
    assert [(row["subject"], row["contrast"]) for row in rows] == [("s1", "T1w"), ("s2", "T1w")]
    assert list(rows[0])[2:] == ["dice", "dice box", "dice bar", "hd95", "hd95 box", "hd95 bar"]
    for row in rows:
        assert [row[name] for name in list(row)[2:]] == [1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(("axis", "millimetres", "box"), [(1, 2, 9 / 10), (-2, 3, 7 / 8)])
def test_segmentation_that_is_one_voxel_off(ndim, axis, millimetres, box):
    def segment(images):
        return np.roll(seen(images), 1, axis)

    row = only_row(segment, cohort_of(boxes()), ["T1w"], ndim=ndim, num_slices=3)
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

    row = only_row(segment, cohort_of(labels), ["T1w"], num_slices=6)
    assert calls == [(6, 24, 20, 1)]
    assert row["dice box"] == pytest.approx(5 / 6)
    assert row["hd95 box"] == math.inf
    assert (row["dice bar"], row["hd95 bar"]) == (1, 0)  # neither there nor found on that slice
    assert row["dice"] == pytest.approx((5 / 6 + 1) / 2)
    no_bar = np.where(labels == 2, 0, labels)
    row = only_row(
        lambda images: np.eye(3)[(images[..., 0] > 0).astype(int)],
        cohort_of(no_bar),
        ["T1w"],
        plane="axial",
        num_slices=2,
        center_label="box",
    )
    assert math.isnan(row["dice bar"])
    assert (row["dice"], row["hd95"]) == (1, 0)


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
    ).to_dict("records")
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
    ).to_dict("records")
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
