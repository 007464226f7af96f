import nibabel
import numpy as np
import pytest

from cifl_tf._notes import Note
from cifl_tf.images.label_maps import looks_like_labels
from cifl_tf.images.volumes import read_volume
from cifl_tf.registration.companions import labels_of, mask_of

GRID = np.diag([-2.0, 2, 2, 1])


def image(array, moved=0.0, affine=GRID):
    affine = affine.copy()
    affine[:3, 3] += moved
    return nibabel.Nifti1Image(array, affine)


@pytest.fixture
def scans(rng):
    """A moving and a fixed scan of one shape, 5 mm apart."""
    return [read_volume(image(rng.random((20, 18, 16)), moved)) for moved in (0, 5)]


def block(*corner):
    labels = np.zeros((20, 18, 16), np.uint8)
    labels[tuple(slice(start, start + 4) for start in corner)] = 3
    return labels


def test_labels_of_the_moving_scan_are_taken_without_a_word(scans, recwarn):
    found = labels_of(image(block(2, 3, 4)), *scans)
    assert found.data.dtype == np.uint8
    assert sorted(np.unique(found.data)) == [0, 3]
    coarser = image(block(2, 3, 4)[::2, ::2, ::2], affine=GRID @ np.diag([2, 2, 2, 1]))
    labels_of(coarser, *scans)
    assert not recwarn.list


def test_labels_on_the_grid_of_the_fixed_scan_are_noted(scans, tmp_path):
    nibabel.save(image(block(2, 3, 4), 5), tmp_path / "labels.nii.gz")
    with pytest.warns(Note, match=r"labels.nii.gz has the grid of the fixed image"):
        labels_of(tmp_path / "labels.nii.gz", *scans)


def test_labels_mostly_beyond_the_scan_are_noted_and_wholly_beyond_refused(scans):
    with pytest.warns(Note, match="only 25% of the label map lies where the moving image does"):
        labels_of(image(block(2, 0, 4), [0, -6, 0]), *scans)
    with pytest.raises(ValueError, match="the label map lies beyond the moving image"):
        labels_of(image(block(2, 3, 4), 500), *scans)
    with pytest.raises(ValueError, match="the label map is 0 everywhere"):
        labels_of(image(np.zeros((20, 18, 16), np.uint8)), *scans)


@pytest.mark.parametrize("value", [0.25, -1.0, 7])
def test_a_mask_is_what_is_not_0_and_not_nan(scans, value):
    given = block(2, 3, 4) / 3 * value
    given[0, 0, 0] = np.nan
    found = mask_of(image(given), scans[0], "moving")
    back = found.data[::-1]  # to the order of the file
    np.testing.assert_array_equal(back, block(2, 3, 4) > 0)


def test_a_mask_elsewhere_is_refused_by_its_role_and_file(scans, tmp_path):
    nibabel.save(image(block(2, 3, 4), 500), tmp_path / "mask.nii.gz")
    with pytest.raises(ValueError, match=r"the fixed mask .*mask.nii.gz lies beyond the fixed im"):
        mask_of(tmp_path / "mask.nii.gz", scans[1], "fixed")


def test_label_maps_and_masks_are_told_from_scans(rng):
    regions = rng.integers(0, 9, (5, 4, 4)).repeat(6, 0).repeat(6, 1).repeat(6, 2)
    noisy = 40 * (regions > 0) + rng.integers(0, 12, regions.shape)
    assert looks_like_labels(image(regions.astype(np.int16)))
    assert looks_like_labels(image((regions > 2).astype(np.float32)))
    assert not looks_like_labels(image(noisy.astype(np.uint8)))
    assert looks_like_labels(image(regions[..., None].astype(np.int16)))
    assert looks_like_labels(image(regions[:, :, 8].astype(np.int16)))
    assert not looks_like_labels(image(np.zeros((4, 4, 4), np.uint8)))
