import nibabel
import numpy as np
import pytest

from cifl_tf.images.grid import grid_at
from cifl_tf.images.volumes import read_volume
from cifl_tf.registration import Affine
from cifl_tf.registration.displacement_field import Displacement
from cifl_tf.registration.plausibility import (
    foreground_overlap,
    matrix_doubts,
    overlap_doubts,
    warp_doubts,
)

AFFINE = np.diag([2.0, 2, 2, 1])
GRID = grid_at(AFFINE, (40, 40, 40))


def cube(first, last, size=40):
    """A scan of a cube between two voxels along the first axis, 20 voxels wide along the others."""
    image = np.zeros((size, 40, 40), np.float32)
    image[first:last, 10:30, 10:30] = 7
    return read_volume(nibabel.Nifti1Image(image, AFFINE))


def test_the_overlap_of_foregrounds_is_their_dice():
    still = Displacement.identity(GRID)
    assert foreground_overlap(cube(10, 30), cube(10, 30), still) == 1
    assert foreground_overlap(cube(15, 35), cube(10, 30), still) == pytest.approx(0.75)
    field = np.full((40, 40, 40, 3), (10.0, 0, 0))
    assert foreground_overlap(cube(15, 35), cube(10, 30), Displacement(field, GRID)) == 1


def test_only_what_is_inside_the_masks_counts():
    mask = np.zeros((40, 40, 40), np.uint8)
    mask[15:30] = 1
    mask = nibabel.Nifti1Image(mask, AFFINE)
    pair = cube(15, 35), cube(10, 30), Displacement.identity(GRID)
    assert foreground_overlap(*pair, mask, mask) == 1
    assert foreground_overlap(*pair, fixed_mask=mask) == pytest.approx(2 * 15 / 35)


def test_what_the_moving_scan_does_not_hold_does_not_count():
    half = cube(10, 18, size=22)
    assert foreground_overlap(half, cube(10, 30), Displacement.identity(GRID)) == pytest.approx(0.8)


def test_scans_that_do_not_meet_overlap_by_nothing():
    """Not NaN, which is below no limit, and which JSON has not."""
    away = Displacement(np.full((40, 40, 40, 3), (900.0, 0, 0)), GRID)
    found = foreground_overlap(cube(10, 30), cube(10, 30), away)
    assert found == 0
    assert [*overlap_doubts(found)]


def test_without_air_nothing_is_known():
    noise = np.random.default_rng(0).normal(size=(40, 40, 40)).astype(np.float32)
    scan = read_volume(nibabel.Nifti1Image(noise, AFFINE))
    assert foreground_overlap(scan, cube(10, 30), Displacement.identity(GRID)) is None


def test_doubts():
    assert not [*warp_doubts(0.5, 0.6), *overlap_doubts(0.95)]
    assert "0.50 after the deformable stage" in next(warp_doubts(0.5, 0.5))
    assert "Dice of only 0.30" in next(overlap_doubts(0.3))
    assert not [*matrix_doubts(Affine.identity(), 0.5, 0.6)]
    assert len([*matrix_doubts(Affine(np.diag([0.4, 1, 1, 1])), 0.5, 0.1)]) == 2
