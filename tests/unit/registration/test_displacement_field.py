import nibabel
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from scipy.spatial.transform import Rotation

from cifl_tf.images.grid import grid_at
from cifl_tf.images.volumes import read_volume
from cifl_tf.registration.displacement_field import Displacement
from cifl_tf.synthesis.smooth_fields import interpolate

sitk = pytest.importorskip("SimpleITK")

ROTATION = Rotation.from_euler("xyz", [8, -12, 10], degrees=True).as_matrix()
SHAPES = {"oblique": (20, 24, 14), "permuted": (19, 25, 22), "mirrored": (24, 22, 23)}
AFFINES = {
    "oblique": from_matvec(ROTATION @ np.diag([2.0, 1.5, 3.0]), [-20, -16, -20]),
    # Axes towards inferior, anterior, left.
    "permuted": from_matvec(np.array([[0, 0, -1.5], [0, 1.5, 0], [-2.0, 0, 0]]), [17, -18, 19]),
    # x to the left: a left-handed grid.
    "mirrored": from_matvec(np.diag([-1.5, 1.5, 1.5]), [18, -16, -17]),
}
LPS = np.array([-1, -1, 1])


def smooth(rng, shape, channels, std=1.0, scale=3):
    coarse = std * rng.standard_normal((1, channels, scale, scale, scale))
    return np.moveaxis(interpolate(coarse.astype(np.float32), shape).numpy()[0], 0, -1)


def random_displacement(rng, name, std=1.5):
    """Smooth vectors in mm on one of the grids."""
    return Displacement(smooth(rng, SHAPES[name], 3, std), grid_at(AFFINES[name], SHAPES[name]))


def in_itk(displacement, path):
    displacement.to_file(path)
    return sitk.DisplacementFieldTransform(sitk.ReadImage(str(path), sitk.sitkVectorFloat64))


def through(transform, points):
    """Points in RAS through a transform of ITK, which is in LPS."""
    return np.array([transform.TransformPoint((point * LPS).tolist()) for point in points]) * LPS


def inner_points(rng, name, count=40):
    """Points in mm at least a quarter of the grid from its border."""
    voxels = (0.25 + 0.5 * rng.random((count, 3))) * (np.array(SHAPES[name]) - 1)
    return apply_affine(AFFINES[name], voxels)


def write_image(path, array, name):
    image = nibabel.Nifti1Image(array, AFFINES[name])
    image.set_sform(AFFINES[name], code="scanner")
    image.set_qform(AFFINES[name], code="scanner")
    nibabel.save(image, path)
    return path


def resampled(moving, fixed, transform, interpolator):
    images = [sitk.ReadImage(str(path), sitk.sitkFloat64) for path in (moving, fixed)]
    return sitk.GetArrayFromImage(sitk.Resample(*images, transform, interpolator, -5.0)).T


@pytest.mark.parametrize("name", SHAPES)
def test_itk_maps_points_alike(rng, tmp_path, name):
    displacement = random_displacement(rng, name)
    points = inner_points(rng, name)
    theirs = through(in_itk(displacement, tmp_path / "warp.nii.gz"), points)
    np.testing.assert_allclose(displacement.map(points), theirs, atol=1e-3)
    assert np.linalg.norm(theirs - points, axis=-1).mean() > 1


# The moving image is the coarser one, so that nothing is smoothed before.
@pytest.mark.parametrize(("moving", "fixed"), [("oblique", "mirrored"), ("permuted", "mirrored")])
def test_itk_warps_images_and_labels_alike(rng, tmp_path, moving, fixed):
    displacement = random_displacement(rng, fixed)
    transform = in_itk(displacement, tmp_path / "warp.nii")
    grid = write_image(tmp_path / "fixed.nii", np.zeros(SHAPES[fixed], np.float32), fixed)
    intensities = smooth(rng, SHAPES[moving], 1, 20.0, 8)[..., 0]
    image = write_image(tmp_path / "image.nii", intensities, moving)
    ours = displacement.apply(image, outside=-5.0)
    theirs = resampled(image, grid, transform, sitk.sitkLinear)
    np.testing.assert_allclose(ours.get_fdata(), theirs, atol=0.02)
    np.testing.assert_allclose(ours.affine, AFFINES[fixed])
    assert 0.02 < np.mean(theirs == -5) < 0.7

    values = rng.integers(0, 300, SHAPES[moving]).astype(np.int16)
    labels = write_image(tmp_path / "labels.nii", values, moving)
    ours = np.asarray(displacement.apply(labels, "nearest", outside=-5).dataobj)
    theirs = resampled(labels, grid, transform, sitk.sitkNearestNeighbor)
    assert ours.dtype == np.int16
    assert np.mean(ours == theirs) > 0.999


def test_what_becomes_coarser_is_smoothed_and_labels_are_not(rng, tmp_path):
    fine = nibabel.Nifti1Image(rng.standard_normal((60, 60, 60)).astype("f4"), np.eye(4))
    coarse = Displacement.identity(grid_at(np.diag([4, 4, 4, 1]), (15, 15, 15)))
    assert coarse.apply(fine).get_fdata().std() < 0.3
    labels = nibabel.Nifti1Image(rng.integers(0, 2, (60, 60, 60)).astype("u1") * 200, np.eye(4))
    assert set(np.unique(coarse.apply(labels, "nearest").dataobj)) == {0, 200}


def test_one_warp_after_the_other_is_the_composite_of_itk(rng, tmp_path):
    first, second = random_displacement(rng, "oblique"), random_displacement(rng, "permuted")
    both = first.then(second)
    assert both.grid is second.grid
    transforms = [in_itk(one, tmp_path / f"{one.grid.shape}.nii.gz") for one in (first, second)]
    # ITK applies the last transform of a list to a point first.
    theirs = sitk.CompositeTransform(transforms)
    points = apply_affine(AFFINES["permuted"], [(8, 10, 9), (9, 12, 11), (11, 13, 12)])
    found = both.map(points)
    np.testing.assert_allclose(found, through(theirs, points), atol=1e-3)
    assert np.abs(found - through(sitk.CompositeTransform(transforms[::-1]), points)).max() > 0.05

    image = write_image(tmp_path / "i.nii", smooth(rng, SHAPES["oblique"], 1, 9)[..., 0], "oblique")
    inside = (slice(6, -6),) * 3
    twice = second.apply(first.apply(image)).get_fdata()[inside]
    np.testing.assert_allclose(both.apply(image).get_fdata()[inside], twice, atol=1.5)


@pytest.mark.parametrize("name", SHAPES)
def test_the_inverse_leads_back_in_itk(rng, tmp_path, name):
    displacement = random_displacement(rng, name)
    inverse, residual = displacement.inverse()
    centers = grid_at(AFFINES[name], SHAPES[name]).points()[5:-5:3, 5:-5:3, 4:-4:3].reshape(-1, 3)
    points = inner_points(rng, name)
    transforms = [
        in_itk(one, tmp_path / f"{index}.nii") for index, one in enumerate((displacement, inverse))
    ]
    there = through(transforms[1], points)
    assert np.linalg.norm(there - points, axis=-1).mean() > 0.8
    assert np.linalg.norm(through(transforms[0], there) - points, axis=-1).mean() < 0.05
    # At the centers of voxels, between which the inverse is linear.
    missed = through(transforms[0], through(transforms[1], centers)) - centers
    assert np.linalg.norm(missed, axis=-1).max() < 0.01
    assert residual < 0.01


def test_a_displacement_that_folds_has_no_inverse(rng):
    torn = np.zeros((30, 8, 8, 3), np.float32)
    torn[..., 0] = 3 * rng.standard_normal((30, 8, 8))
    in_voxels = Displacement.from_voxels(torn, grid_at(np.eye(4), (30, 8, 8)))
    residual = in_voxels.inverse()[1]
    assert residual > 0.5
    assert np.asarray(in_voxels.jacobian().dataobj).min() < 0
    longer = Displacement.from_voxels(torn, grid_at(np.diag([2.5, 1, 1, 1]), (30, 8, 8)))
    assert longer.inverse()[1] == pytest.approx(2.5 * residual, rel=1e-3)


@pytest.mark.parametrize("name", SHAPES)
def test_jacobian_of_a_linear_map(name):
    grid = grid_at(AFFINES[name], SHAPES[name])
    matrix = np.array([[0.1, 0.05, 0], [0, -0.2, 0], [0.02, 0, 0.3]])
    displacement = Displacement(grid.points() @ matrix.T, grid)
    expected = np.linalg.det(np.eye(3) + matrix)
    np.testing.assert_allclose(displacement.jacobian().get_fdata(), expected, rtol=1e-3)


@pytest.mark.parametrize("name", SHAPES)
def test_a_file_gives_the_same_back(rng, tmp_path, name):
    displacement = random_displacement(rng, name)
    displacement.to_file(tmp_path / "warp.nii.gz")
    again = Displacement.from_file(tmp_path / "warp.nii.gz")
    np.testing.assert_allclose(again.field, displacement.field, atol=1e-5)
    np.testing.assert_allclose(again.grid.affine, AFFINES[name], atol=1e-5)


def test_a_field_that_itk_wrote(rng, tmp_path):
    field = sitk.GetImageFromArray(rng.standard_normal((9, 8, 7, 3)), isVector=True)
    field.SetSpacing((2.0, 1.5, 3.0))
    field.SetOrigin((5.0, -4.0, 3.0))
    field.SetDirection(ROTATION.ravel().tolist())
    sitk.WriteImage(field, str(tmp_path / "itk.nii.gz"))
    found = Displacement.from_file(tmp_path / "itk.nii.gz")
    points = found.map(found.grid.points()[2:-2, 2:-2, 2:-2].reshape(-1, 3)[:20])
    transform = sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))
    theirs = through(transform, found.grid.points()[2:-2, 2:-2, 2:-2].reshape(-1, 3)[:20])
    np.testing.assert_allclose(points, theirs, atol=1e-3)


@pytest.mark.parametrize("name", SHAPES)
def test_on_another_grid_it_is_the_same(rng, name):
    displacement = random_displacement(rng, "mirrored")
    finer = displacement.on(grid_at(AFFINES[name] @ np.diag([0.5, 0.7, 0.6, 1]), (20, 21, 22)))
    points = inner_points(rng, "mirrored", 4000)
    voxels = apply_affine(np.linalg.inv(finer.grid.affine), points)
    shared = points[((voxels > 1) & (voxels < np.array([18, 19, 20]))).all(axis=-1)]
    assert len(shared) > 10
    np.testing.assert_allclose(finer.map(shared), displacement.map(shared), atol=0.1)


def test_a_slice(rng):
    affine = np.diag([2, 2, 5, 1])
    image = nibabel.Nifti1Image(rng.random((16, 18)).astype(np.float32), affine)
    displacement = Displacement.identity(read_volume(image).original)
    np.testing.assert_allclose(displacement.apply(image).get_fdata(), image.get_fdata(), atol=1e-6)
    np.testing.assert_allclose(displacement.jacobian().get_fdata(), 1)
    assert displacement.to_itk().shape == (16, 18, 1, 1, 3)


def test_refuses(rng, tmp_path):
    grid = grid_at(np.eye(4), (4, 5, 6))
    with pytest.raises(ValueError, match=r"shape \(4, 5, 6, 2\), but the grid \(4, 5, 6\); give"):
        Displacement(np.zeros((4, 5, 6, 2)), grid)
    with pytest.raises(ValueError, match="360 values that are not finite"):
        Displacement(np.full((4, 5, 6, 3), np.nan), grid)
    with pytest.raises(ValueError, match="order is 'cubic'"):
        Displacement.identity(grid).apply(tmp_path / "image.nii", "cubic")
    nibabel.save(nibabel.Nifti1Image(rng.random((4, 4, 4)), np.eye(4)), tmp_path / "image.nii")
    with pytest.raises(ValueError, match="is no label map"):
        Displacement.identity(grid).apply(tmp_path / "image.nii", "nearest")
    with pytest.raises(ValueError, match="intent 0"):
        Displacement.from_file(tmp_path / "image.nii")
