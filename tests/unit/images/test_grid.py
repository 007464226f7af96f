"""Resampling and units, against SimpleITK and slow sums."""

import nibabel
import numpy as np
import pytest
from nibabel.affines import from_matvec, voxel_sizes

from cifl_tf.images.grid import resample, sampling_steps, smooth_before_sampling
from cifl_tf.images.intensity import is_air, rescale_intensity
from cifl_tf.images.volumes import read_volume, to_original
from oblique_images import oblique_affine, saved

sitk = pytest.importorskip("SimpleITK")

MM = {"mm": 1.0, "micron": 1e-3, "meter": 1e3, "unknown": 1.0}


def stripped_head(rng, size=1.0, shape=(48, 56, 44)):
    """A noisy ball, 0 around it, on a grid of voxels of this size in mm."""
    distance = np.linalg.norm(np.indices(shape).T - np.array(shape) / 2, axis=-1).T
    data = np.where(distance < 18, rng.uniform(200, 1000, shape), 0).astype(np.float32)
    return nibabel.Nifti1Image(data, np.diag([size, size, size, 1]))


@pytest.mark.parametrize("unit", MM)
@pytest.mark.parametrize("sform_code", [0, 1])
def test_units_are_those_of_itk(tmp_path, rng, unit, sform_code):
    affine = oblique_affine()
    image = nibabel.Nifti1Image(rng.random((7, 9, 11), np.float32), affine)
    image.set_sform(affine, code=sform_code)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units(0 if unit == "unknown" else unit, "sec")
    path = saved(image, tmp_path / "image.nii.gz")
    volume = read_volume(path)
    assert volume.original.affine[0, 0] == pytest.approx(affine[0, 0] * MM[unit], rel=1e-5)
    theirs = sitk.ReadImage(str(path))
    for voxel in [(0, 0, 0), (6, 8, 10), (2, 0, 5)]:
        point = np.array(theirs.TransformIndexToPhysicalPoint(voxel)) * (-1, -1, 1)
        for ours in (volume.original.affine, volume.original.itk_affine):
            np.testing.assert_allclose(ours @ [*voxel, 1], [*point, 1], rtol=1e-4, atol=1e-6)

    # What is written lies where the input lies, for ITK and for what ignores units.
    back = saved(to_original(volume.data, volume), tmp_path / "back.nii.gz")
    np.testing.assert_allclose(nibabel.load(back).affine, affine, rtol=1e-5, atol=1e-6)
    again = sitk.ReadImage(str(back))
    np.testing.assert_allclose(again.GetSpacing(), theirs.GetSpacing(), rtol=1e-5)
    np.testing.assert_allclose(again.GetOrigin(), theirs.GetOrigin(), rtol=1e-4)


@pytest.mark.parametrize("shape", [(20, 24, 18), (20, 24, 18, 2)])
def test_coarse_sampling_does_not_alias(rng, shape):
    noise = rng.normal(size=shape).astype(np.float32)
    for factor in (2, 3):
        coarse = tuple(size // factor for size in shape[:3])
        affine = np.diag([factor, factor, factor, 1.0])
        affine[:3, 3] = (factor - 1) / 2
        found = resample(noise, np.eye(4), affine, coarse, "linear")
        # White noise of SD 1 becomes the mean of some factor ** 3 voxels.
        assert found.std() < 1.6 / factor**1.5
        blocks = noise[: 2 * factor, : 2 * factor, : 2 * factor]
        assert found.shape == (*coarse, *shape[3:])
        assert abs(found[:2, :2, :2].mean() - blocks.mean()) < 0.2


def test_a_ramp_stays_a_ramp(rng):
    ramp = np.indices((30, 30, 30))[1].astype(np.float32)
    affine = from_matvec(np.diag([1, 2.5, 1]), [0, 5, 0])
    found = resample(ramp, np.eye(4), affine, (30, 8, 30), "continuous")
    np.testing.assert_allclose(
        found[:, 1:-1], (5 + 2.5 * np.indices((30, 8, 30))[1])[:, 1:-1], atol=0.05
    )


def test_smoothing_is_that_of_the_scale_factor():
    impulse = np.zeros((41, 41, 41), np.float32)
    impulse[20, 20, 20] = 1
    blurred = smooth_before_sampling(impulse, (3.0, 1.0, 0.5))
    profile = blurred[:, 20, 20]
    # Full width at half maximum of the Gaussian, so that both together are 3 voxels wide.
    variance = np.sum((np.arange(41) - 20) ** 2 * profile) / profile.sum()
    assert np.sqrt(8 * np.log(2) * variance) == pytest.approx(np.sqrt(3**2 - 1), rel=0.01)
    assert np.count_nonzero(blurred[20, :, 20]) == 1
    assert smooth_before_sampling(impulse, (1.0, 0.4, 1.01)) is impulse


def test_steps_of_a_turned_grid():
    turn = np.array([[0, -2.0, 0], [3.0, 0, 0], [0, 0, 0.5]])  # fixed x along moving y
    steps = sampling_steps(np.diag([1.0, 1.5, 1.0, 1]), from_matvec(turn, [5, 6, 7]))
    np.testing.assert_allclose(steps, [2, 2, 0.5])


@pytest.mark.parametrize("voxel_size", [2.0, 1.7, 0.8])
def test_air_is_air_after_resampling(rng, voxel_size):
    image = stripped_head(rng)
    volume = read_volume(image, voxel_size=voxel_size)
    scaled = rescale_intensity(volume.data)
    expected = np.mean(image.get_fdata() == 0)
    assert np.mean(is_air(scaled)) == pytest.approx(expected, abs=0.02)
    assert np.mean(volume.data == 0) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("voxel_size", [1.6, 0.7, (2.0, None, 0.9)], ids=str)
def test_probabilities_keep_their_sum(rng, voxel_size):
    volume = read_volume(stripped_head(rng), voxel_size=voxel_size)
    logits = 8 * rng.normal(size=(*volume.data.shape, 4)).astype(np.float32)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    found = to_original(probabilities, volume, "linear").get_fdata()
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-6
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)


def test_an_axis_may_keep_its_voxel_size(rng):
    volume = read_volume(stripped_head(rng), voxel_size=(2.0, None, 3.0))
    np.testing.assert_allclose(voxel_sizes(volume.affine), (2, 1, 3))
    assert volume.data.shape == (24, 56, 15)
