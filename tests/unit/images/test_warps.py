import nibabel
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from scipy.spatial.transform import Rotation

from cifl_tf.images.warps import itk_field, read_warp, write_warp
from cifl_tf.registration.displacements import warp
from cifl_tf.synthesis.pairs import interpolate

sitk = pytest.importorskip("SimpleITK")

SHAPE = (20, 24, 18)
OBLIQUE = from_matvec(
    Rotation.from_euler("xyz", [10, -20, 15], degrees=True).as_matrix() @ np.diag([2.0, 1.5, 3.0]),
    [-30, 12, 40],
)
FLIPPED = from_matvec(np.array([[0, 0, -2.0], [1.5, 0, 0], [0, -1.0, 0]]), [20, -10, 30])
# x to the left, y to the front: a left-handed grid.
MIRRORED = from_matvec(np.diag([-2.0, 2.0, 2.0]), [90, -126, -72])


def smooth(rng, shape, std, scale=3):
    """Smooth random field (*shape, len(shape))."""
    coarse = std * rng.standard_normal((1, len(shape), *[scale] * len(shape)))
    field = interpolate(coarse.astype(np.float32), shape).numpy()
    return np.moveaxis(field[0], 0, -1)


def texture(rng, shape):
    return smooth(rng, shape, 1.0, scale=8)[..., 0]


def saved(path, array, affine):
    """An image that SimpleITK reads."""
    image = nibabel.Nifti1Image(array.astype(np.float32), affine)
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    nibabel.save(image, path)
    return sitk.ReadImage(str(path), sitk.sitkFloat32)


def itk_transform(path):
    field = sitk.ReadImage(str(path), sitk.sitkVectorFloat64)
    return sitk.DisplacementFieldTransform(field)


@pytest.mark.parametrize("affine", [np.eye(4), OBLIQUE, FLIPPED, MIRRORED])
@pytest.mark.parametrize("moving_affine", [None, OBLIQUE])
def test_itk_moves_points_and_images_as_we_do(tmp_path, rng, affine, moving_affine):
    u = smooth(rng, SHAPE, 1.0)
    write_warp(tmp_path / "warp.nii.gz", u, affine, moving_affine)
    transform = itk_transform(tmp_path / "warp.nii.gz")

    to_moving = affine if moving_affine is None else moving_affine
    for voxel in ((3, 4, 5), (10, 12, 9), (15, 7, 11)):
        lps = apply_affine(affine, voxel) * (-1, -1, 1)
        expected = apply_affine(to_moving, voxel + u[voxel]) * (-1, -1, 1)
        np.testing.assert_allclose(transform.TransformPoint(lps), expected, atol=1e-3)

    moving = texture(rng, SHAPE)
    moving_image = saved(tmp_path / "moving.nii", moving, to_moving)
    fixed_image = saved(tmp_path / "fixed.nii", np.zeros(SHAPE), affine)
    theirs = sitk.Resample(moving_image, fixed_image, transform, sitk.sitkLinear, 0.0)
    inside = (slice(5, -5),) * 3
    ours = warp(moving, u)
    np.testing.assert_allclose(
        sitk.GetArrayFromImage(theirs).transpose()[inside], ours[inside], atol=1e-3
    )


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_is_a_field_of_one_voxel_thickness(tmp_path, rng, axis):
    u = smooth(rng, (20, 24), 1.0)
    write_warp(tmp_path / "warp.nii", u, OBLIQUE, axis=axis)
    found, _ = read_warp(tmp_path / "warp.nii")
    np.testing.assert_allclose(np.delete(found.squeeze(axis), axis, -1), u, atol=1e-4)
    np.testing.assert_allclose(found[..., axis], 0, atol=1e-4)
    if axis == 2:
        return  # SimpleITK reads one slice of the last axis as a 2D image
    voxel = np.insert([6, 9], axis, 0)
    expected = apply_affine(OBLIQUE, voxel + np.insert(u[6, 9], axis, 0)) * (-1, -1, 1)
    point = apply_affine(OBLIQUE, voxel) * (-1, -1, 1)
    np.testing.assert_allclose(
        itk_transform(tmp_path / "warp.nii").TransformPoint(point), expected, atol=1e-3
    )


@pytest.mark.parametrize("moving_affine", [None, FLIPPED])
def test_read_gives_back_what_was_written(tmp_path, rng, moving_affine):
    u = smooth(rng, SHAPE, 2.0)
    write_warp(tmp_path / "warp.nii.gz", u, OBLIQUE, moving_affine)
    found, affine = read_warp(tmp_path / "warp.nii.gz", moving_affine)
    np.testing.assert_allclose(found, u, atol=1e-4)
    np.testing.assert_allclose(affine, OBLIQUE, atol=1e-5)


def test_header_is_that_of_itk():
    image = itk_field(np.zeros((4, 5, 6, 3)), OBLIQUE)
    assert image.shape == (4, 5, 6, 1, 3)
    assert image.header["intent_code"] == 1007
    assert image.header.get_xyzt_units()[0] == "mm"
    assert not np.asarray(image.dataobj).any()


def test_what_itk_writes_is_read(tmp_path):
    field = sitk.Image([4, 5, 6], sitk.sitkVectorFloat64)
    field[1, 2, 3] = (-1.0, 2.0, 3.0)
    sitk.WriteImage(field, str(tmp_path / "itk.nii.gz"))
    u, affine = read_warp(tmp_path / "itk.nii.gz")
    # The axes of an ITK image without direction point to the left and the back, as its vectors do.
    np.testing.assert_allclose(np.diag(affine)[:3], [-1, -1, 1])
    np.testing.assert_allclose(u[1, 2, 3], [-1, 2, 3], atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "affine", "message"),
    [
        ((4, 4), np.eye(4), r"shape \(4, 4\)"),
        ((4, 4, 4, 2), np.eye(4), r"shape \(4, 4, 4, 2\)"),
        ((4, 4, 4, 3), np.eye(3), "affine of the fixed image"),
        ((4, 4, 4, 3), np.zeros((4, 4)), "affine of the fixed image"),
    ],
)
def test_refuses(shape, affine, message):
    with pytest.raises(ValueError, match=message):
        itk_field(np.zeros(shape), affine)


def test_refuses_values_that_are_not_finite():
    with pytest.raises(ValueError, match="192 values that are not finite"):
        itk_field(np.full((4, 4, 4, 3), np.nan), np.eye(4))


def test_refuses_files_without_vectors(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4)), np.eye(4)), tmp_path / "image.nii")
    with pytest.raises(ValueError, match="intent 0"):
        read_warp(tmp_path / "image.nii")
    (tmp_path / "text.nii").write_text("no image")
    with pytest.raises(ValueError, match="no NIfTI or MGH image in spite of its name"):
        read_warp(tmp_path / "text.nii")
    with pytest.raises(FileNotFoundError):
        read_warp(tmp_path / "missing.nii")
