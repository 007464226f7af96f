import nibabel
import numpy as np
import pytest

from balls import AFFINE, RADIUS, ball_head
from cifl_tf.stripping.heads import INSIDE, OUTSIDE, VOXEL_SIZE, read_head, signed_distance


def test_a_signed_distance_is_that_of_a_ball():
    middle = np.array([20, 21, 22])
    radii = 1.5 * np.linalg.norm(np.moveaxis(np.indices((41, 43, 45)), 0, -1) - middle, axis=-1)
    found = signed_distance(radii < 20, 1.5)
    np.testing.assert_allclose(found, radii - 20, atol=1.2)
    assert abs(np.mean(found - (radii - 20))) < 0.3


def test_regions_of_the_brain_are_not_those_around_it():
    head = read_head("ball", *ball_head())
    brain = head.distance < 0
    assert set(np.unique(head.regions[brain])) == {*range(OUTSIDE + 1, OUTSIDE + INSIDE + 1)}
    assert set(np.unique(head.regions[~brain])) == {*range(OUTSIDE + 1)}
    volume = brain.sum() * VOXEL_SIZE**3
    assert volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.05)
    # Dark bone belongs to the head.
    bone = (head.distance > 2) & (head.distance < 6)
    assert (head.regions[bone] > 0).mean() > 0.95
    assert (head.regions[head.distance > 26] == 0).mean() > 0.95


def test_a_border_moves_the_surface_of_the_brain():
    near, far = (read_head("ball", *ball_head(), border=border) for border in (0.0, 1.5))
    np.testing.assert_allclose(far.distance, near.distance - 1.5, atol=1e-5)
    np.testing.assert_array_equal(far.regions, near.regions)


def test_an_empty_mask_is_refused():
    scan, mask = ball_head()
    empty = nibabel.Nifti1Image(np.zeros(mask.shape, np.uint8), AFFINE)
    with pytest.raises(ValueError, match="mask of one is empty"):
        read_head("one", scan, empty)


@pytest.mark.filterwarnings("error")
def test_an_image_of_few_intensities_has_as_few_regions():
    _, mask = ball_head()
    brain = np.asarray(mask.dataobj) > 0
    stripped = nibabel.Nifti1Image(np.where(brain, 90, 0).astype(np.uint8), AFFINE)
    head = read_head("stripped", stripped, mask, voxel_size=AFFINE[0, 0])  # not resampled
    assert len(np.unique(head.regions[head.distance < 0])) == 1
