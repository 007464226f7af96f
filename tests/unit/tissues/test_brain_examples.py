import dataclasses

import nibabel
import numpy as np
import pytest

from cifl_tf.stripping.examples import HeadVariation
from cifl_tf.stripping.heads import read_head
from cifl_tf.tissues import examples
from cifl_tf.tissues.examples import brain_examples, vary_brain

STILL = HeadVariation(
    shape=(24, 24, 24),
    voxel_size=4.0,
    degrees=0,
    shift=0,
    log_size=(0, 0),
    log_stretch=0,
    bend_std=0,
    cut=0,
    stripped=0,
    neck=0,
    scans=1,
)


@pytest.fixture(scope="module")
def brain():
    """Shells of fluid, gray and white matter in a head, of 4 mm."""
    distance = 4 * np.linalg.norm(np.indices((30, 30, 30)) - 14.5, axis=0)
    tissues = np.select([distance < 18, distance < 28, distance < 36], [1, 2, 3])
    scan = np.select([tissues > 0, distance < 42, distance < 52], [40 + 20 * tissues, 8, 70])
    scan = scan + np.indices(scan.shape).sum(axis=0) % 3 * (scan > 0)
    images = (
        nibabel.Nifti1Image(one.astype(np.int16), np.diag([4, 4, 4, 1])) for one in (scan, tissues)
    )
    scan, tissues = images
    return read_head("shells", scan, tissues, tissues, voxel_size=4.0)


def varied(brain, seed=0, **changes):
    return vary_brain([brain], dataclasses.replace(STILL, **changes), np.random.default_rng(seed))


def test_labels_of_a_brain_that_nothing_changes_are_its_own(brain, monkeypatch):
    monkeypatch.setattr(examples, "EXACT", 1.0)
    found = varied(brain)["target"][..., 0]
    volumes = np.bincount(found.astype(int).ravel(), minlength=4)[1:] * 64
    radii = np.array([0, 18, 28, 36])
    expected = np.diff(4 / 3 * np.pi * radii**3)
    np.testing.assert_allclose(volumes, expected, rtol=0.1)


def test_nothing_around_the_brain_is_seen(brain, monkeypatch):
    monkeypatch.setattr(examples, "EXACT", 1.0)
    one = varied(brain)
    np.testing.assert_array_equal(one["seen"] > 0, one["target"] > 0)


def test_a_wrong_border_shows_surroundings_without_a_label_or_hides_labels(brain, monkeypatch):
    monkeypatch.setattr(examples, "EXACT", 0.0)
    monkeypatch.setattr(examples, "BORDER_STD", 12.0)
    whole = brain.distance < 0
    seen = [varied(brain, seed) for seed in range(6)]
    assert any(((one["seen"] > 0) & (one["target"] == 0)).any() for one in seen)
    assert any((one["target"] > 0).sum() < 0.97 * whole.sum() for one in seen)
    for one in seen:
        assert not one["target"][one["seen"] == 0].any()


def test_examples_are_the_same_again_and_from_any_number(brain):
    variation = dataclasses.replace(STILL, scans=0.5, bend_std=4, degrees=20)
    first, second = (
        [pair for pair in brain_examples([brain], variation, seed=3, start=start).take(count)]
        for start, count in ((0, 3), (2, 1))
    )
    for one, other in zip(first[2], second[0], strict=True):
        np.testing.assert_array_equal(one, other)
    image, tissues = first[0]
    assert image.shape == tissues.shape == (1, 24, 24, 24, 1)
    assert 0 <= image.numpy().min() < image.numpy().max() <= 1


def test_atrophy_widens_the_fluid_of_painted_images_only(brain, monkeypatch):
    monkeypatch.setattr(examples, "EXACT", 1.0)
    still, scan = varied(brain)["target"], varied(brain, atrophy=12.0)["target"]
    np.testing.assert_array_equal(still, scan)
    wider = [varied(brain, seed, scans=0, atrophy=12.0)["target"] for seed in range(4)]
    for one in wider:
        np.testing.assert_array_equal(one > 0, still > 0)
        changed = one != still
        assert (one[changed] == 3).all()
    assert max((one == 3).sum() for one in wider) > 1.2 * (still == 3).sum()


def test_labels_that_are_no_tissues_are_refused(brain):
    image = nibabel.Nifti1Image(np.full((8, 8, 8), 9, np.int16), np.eye(4))
    scan = nibabel.Nifti1Image(np.random.default_rng(0).random((8, 8, 8)), np.eye(4))
    with pytest.raises(ValueError, match=r"labels of odd are \[9\]; give tissues 1 to 5"):
        read_head("odd", scan, image, image, voxel_size=1.0)
