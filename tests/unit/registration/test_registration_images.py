from dataclasses import dataclass

import nibabel
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from scipy.spatial.transform import Rotation

from cifl_tf.images.preprocessing import Preprocessing
from cifl_tf.images.warps import write_warp
from cifl_tf.registration.arrays import register_arrays
from cifl_tf.registration.displacement_field import Displacement
from cifl_tf.registration.displacements import invert_displacement
from cifl_tf.registration.images import register_images, save_registration
from cifl_tf.registration.instance import InstanceSettings
from cifl_tf.registration.methods import InstanceMethod, NetworkMethod, register_volumes
from cifl_tf.registration.network import Registration
from cifl_tf.synthesis.smooth_fields import interpolate

sitk = pytest.importorskip("SimpleITK")

ROTATION = Rotation.from_euler("xyz", [8, -12, 10], degrees=True).as_matrix()
OBLIQUE = from_matvec(ROTATION @ np.diag([2.0, 1.5, 3.0]), [-20, -16, -24])
# Axes towards inferior, anterior, left.
PERMUTED = from_matvec(np.array([[0, 0, -2.0], [0, 1.5, 0], [-2.5, 0, 0]]), [21, -17, 26])
# x to the left, y to the front: a left-handed grid.
MIRRORED = from_matvec(np.diag([-2.0, 2.0, 2.0]), [24, -20, -22])
GRIDS = {
    "oblique": ((20, 24, 18), OBLIQUE),
    "permuted": ((21, 25, 22), PERMUTED),
    "mirrored": ((24, 22, 23), MIRRORED),
}


def smooth(rng, shape, std, scale=3, channels=3):
    """Smooth random field (*shape, channels)."""
    coarse = std * rng.standard_normal((1, channels, *[scale] * len(shape)))
    field = interpolate(coarse.astype(np.float32), shape).numpy()
    return np.moveaxis(field[0], 0, -1)


def write_image(path, array, affine):
    """An image file that SimpleITK reads."""
    image = nibabel.Nifti1Image(array, affine)
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    nibabel.save(image, path)
    return path


def write_texture(rng, path, name):
    shape, affine = GRIDS[name]
    return write_image(path, smooth(rng, shape, 20.0, 8, 1)[..., 0], affine)


def transform_of(image, folder):
    nibabel.save(image, folder / "field.nii.gz")
    field = sitk.ReadImage(str(folder / "field.nii.gz"), sitk.sitkVectorFloat64)
    return sitk.DisplacementFieldTransform(field)


def steps_in(moving, fixed):
    """How many voxels of the moving image one step along the fixed axes goes, along each axis."""
    origin = fixed.TransformIndexToPhysicalPoint((0, 0, 0))
    start = np.array(moving.TransformPhysicalPointToContinuousIndex(origin))
    steps = []
    for unit in np.eye(3, dtype=int).tolist():
        point = fixed.TransformIndexToPhysicalPoint(unit)
        steps.append(np.array(moving.TransformPhysicalPointToContinuousIndex(point)) - start)
    return np.linalg.norm(steps, axis=0)


def smoothed(image, steps):
    """A SimpleITK image blurred so that a voxel is as wide as the steps, by convolutions."""
    array = sitk.GetArrayFromImage(image)
    for axis, step in enumerate(reversed(steps)):
        if step > 1:
            distance = np.arange(-8, 9)
            kernel = np.exp(-4 * np.log(2) * distance**2 / (step**2 - 1))
            padded = np.pad(array, [(8, 8) if a == axis else (0, 0) for a in range(3)], "edge")
            array = np.apply_along_axis(np.convolve, axis, padded, kernel / kernel.sum(), "valid")
    blurred = sitk.GetImageFromArray(array)
    blurred.CopyInformation(image)
    return blurred


def resampled(moving, fixed, transform, interpolator=sitk.sitkLinear):
    """The moving file on the grid of the fixed one by SimpleITK, axes as in nibabel."""
    images = [sitk.ReadImage(str(path), sitk.sitkFloat32) for path in (moving, fixed)]
    if interpolator == sitk.sitkLinear:
        images[0] = smoothed(images[0], steps_in(*images))
    return sitk.GetArrayFromImage(sitk.Resample(*images, transform, interpolator, 0.0)).transpose()


@dataclass
class Given:
    """A method that gives a smooth random displacement, or another one."""

    rng: np.random.Generator
    ndim: int = 3
    plane: str = "coronal"
    scale: float | None = None

    @property
    def preprocessing(self):
        return Preprocessing(plane=self.plane)

    def displacements(self, moving, fixed):
        shape = moving.shape[1:-1]
        if self.scale is not None:
            found = self.scale * np.moveaxis(np.indices(shape), 0, -1)[None]
        elif self.ndim == 3:
            found = smooth(self.rng, shape, 0.8)[None]
        else:
            found = smooth(self.rng, moving.shape[:-1], 0.8, channels=2)
        return found.astype(np.float32), invert_displacement(found, max_iterations=20)


def test_ants_does_the_same_with_the_warp(tmp_path, rng):
    ants = pytest.importorskip("ants", reason="ANTsPy is an optional extra")
    moving = write_texture(rng, tmp_path / "moving.nii.gz", "oblique")
    fixed = write_texture(rng, tmp_path / "fixed.nii.gz", "permuted")
    found = register_images(moving, fixed, Given(rng))
    nibabel.save(found.warp, tmp_path / "warp.nii.gz")
    images = [ants.image_read(str(path)) for path in (fixed, moving)]
    theirs = ants.apply_transforms(*images, [str(tmp_path / "warp.nii.gz")])
    np.testing.assert_allclose(found.warped.get_fdata(), theirs.numpy(), atol=0.02)


def test_ants_puts_an_affine_before_the_warp(tmp_path, rng):
    ants = pytest.importorskip("ants", reason="ANTsPy is an optional extra")
    original = ants.image_read(str(write_texture(rng, tmp_path / "original.nii.gz", "oblique")))
    fixed = ants.image_read(str(write_texture(rng, tmp_path / "fixed.nii.gz", "permuted")))
    affine = ants.create_ants_transform(
        dimension=3, matrix=[[1.05, 0.1, 0], [-0.1, 0.95, 0.05], [0, 0, 1]], translation=[2, -1, 3]
    )
    ants.write_transform(affine, str(tmp_path / "affine.mat"))
    aligned = ants.apply_transforms(fixed, original, [str(tmp_path / "affine.mat")])
    ants.image_write(aligned, str(tmp_path / "aligned.nii.gz"))
    found = register_images(tmp_path / "aligned.nii.gz", tmp_path / "fixed.nii.gz", Given(rng))
    nibabel.save(found.warp, tmp_path / "warp.nii.gz")
    transforms = [str(tmp_path / name) for name in ("warp.nii.gz", "affine.mat")]
    once = ants.apply_transforms(fixed, original, transforms).numpy()
    twice = found.warped.get_fdata()
    inside = (once != 0) & (twice != 0)
    assert inside.mean() > 0.2
    assert np.corrcoef(once[inside], twice[inside])[0, 1] > 0.98


@pytest.mark.parametrize(
    ("moving_name", "fixed_name", "voxel_size", "ndim"),
    [
        ("oblique", "permuted", None, 3),
        ("permuted", "oblique", 2.2, 3),
        ("mirrored", "oblique", None, 2),
        ("oblique", "mirrored", 2.6, 2),
    ],
)
def test_itk_does_the_same_with_the_warp(tmp_path, rng, moving_name, fixed_name, voxel_size, ndim):
    moving = write_texture(rng, tmp_path / "moving.nii.gz", moving_name)
    fixed = write_texture(rng, tmp_path / "fixed.nii.gz", fixed_name)
    shape, affine = GRIDS[moving_name]
    labels = write_image(
        tmp_path / "labels.nii.gz", rng.integers(0, 2000, shape).astype(np.int16), affine
    )
    found = register_images(moving, fixed, Given(rng, ndim), labels, voxel_size)
    transform = transform_of(found.warp, tmp_path)
    reference = nibabel.load(fixed)
    for image in (found.warped, found.jacobian, found.labels):
        assert image.shape == reference.shape
        np.testing.assert_allclose(image.affine, reference.affine)
    np.testing.assert_allclose(
        found.warped.get_fdata(), resampled(moving, fixed, transform), atol=0.02
    )
    assert np.mean(found.warped.get_fdata() != 0) > 0.5

    assert found.labels.get_data_dtype() == np.int16
    values = np.asarray(found.labels.dataobj)
    theirs = resampled(labels, fixed, transform, sitk.sitkNearestNeighbor)
    assert np.mean(values == theirs) > 0.999
    assert len(np.unique(values)) > 500

    backward = transform_of(found.inverse_warp, tmp_path)
    assert found.inverse_warp.shape[:3] == shape
    np.testing.assert_allclose(found.inverse_warp.affine, affine, atol=1e-5)
    lengths, errors = [], []
    for offset in np.ndindex(3, 3, 3):
        voxel = np.array(reference.shape) // 2 + 2 * (np.array(offset) - 1)
        point = apply_affine(reference.affine, voxel) * (-1, -1, 1)
        there = np.array(transform.TransformPoint(point))
        vector = np.asarray(found.warp.dataobj)[tuple(voxel)][0]
        np.testing.assert_allclose(there, point + vector, atol=1e-3)
        lengths.append(np.linalg.norm(vector))
        errors.append(np.linalg.norm(backward.TransformPoint(there) - point))
    assert np.mean(lengths) > 0.8
    assert np.mean(errors) < 0.15 * np.mean(lengths)
    if ndim == 2 and fixed_name == "mirrored":
        np.testing.assert_allclose(np.asarray(found.warp.dataobj)[..., 0, 1], 0, atol=1e-4)


def test_a_known_warp_is_recovered_across_grids(tmp_path, rng):
    shape, affine = (26, 30, 28), from_matvec(np.diag([-2.0, 2.0, 2.0]), [26, -30, -28])
    # A textured ball in the dark.
    distance = np.linalg.norm(np.indices(shape).T - np.array(shape) / 2, axis=-1).T
    data = (100 + smooth(rng, shape, 40.0, 8, 1)[..., 0]) * np.clip(10 - distance, 0, 1)
    moving = write_image(tmp_path / "moving.nii.gz", data.astype(np.float32), affine)
    truth = smooth(rng, (24, 22, 24), 2.0)
    fixed_affine = from_matvec(np.array([[0, 0, 2.0], [2.0, 0, 0], [0, 2.0, 0]]), [-24, -24, -22])
    write_image(tmp_path / "grid.nii.gz", np.zeros((24, 22, 24), np.float32), fixed_affine)
    write_warp(tmp_path / "truth.nii.gz", truth, fixed_affine)
    field = nibabel.load(tmp_path / "truth.nii.gz")
    fixed = resampled(moving, tmp_path / "grid.nii.gz", transform_of(field, tmp_path))
    fixed = nibabel.Nifti1Image(fixed, fixed_affine)
    settings = InstanceSettings(scales=(2, 1), steps=(40, 40), smoothness=0.03)
    found = register_images(moving, fixed, InstanceMethod(None, 3, settings=settings))
    inside = (slice(6, -6),) * 3
    expected = np.asarray(field.dataobj)[inside]
    error = np.linalg.norm(np.asarray(found.warp.dataobj)[inside] - expected, axis=-1)
    length = np.linalg.norm(expected, axis=-1)
    assert length.mean() > 1.8
    assert error.mean() < 0.6  # mm, less than a third of a voxel
    center = apply_affine(fixed_affine, (12, 11, 12)) * (-1, -1, 1)
    points = [transform_of(image, tmp_path).TransformPoint(center) for image in (found.warp, field)]
    np.testing.assert_allclose(*points, atol=1)
    assert np.linalg.norm(points[1] - center) > 2
    assert found.folded == 0


@pytest.mark.parametrize(("dtype", "slope"), [(np.uint8, 2.0), (np.int16, 1.0), (np.float32, 1.0)])
def test_warped_labels_are_whole_in_the_file_too(tmp_path, rng, dtype, slope):
    image = nibabel.Nifti1Image(smooth(rng, (12, 14, 13), 1.0, 8, 1)[..., 0], PERMUTED)
    stored = rng.integers(0, 255, image.shape).astype(dtype)
    labels = nibabel.Nifti1Image(stored, PERMUTED)
    labels.header.set_slope_inter(slope, 0)  # nibabel drops it on the way to a file
    path = tmp_path / "labels.nii"
    nibabel.save(labels, path)
    with path.open("r+b") as file:
        file.seek(112)
        file.write(np.float32(slope).tobytes())
    assert np.asarray(nibabel.load(path).dataobj).max() == slope * stored.max() > 250
    found = register_images(image, image, Given(rng), path)
    nibabel.save(found.labels, tmp_path / "warped.nii.gz")
    again = np.asarray(nibabel.load(tmp_path / "warped.nii.gz").dataobj)
    np.testing.assert_array_equal(again, np.asarray(found.labels.dataobj))
    assert set(np.unique(again)) <= set(np.unique(slope * stored))
    assert again.dtype.kind in "iu"


def test_an_inverse_that_does_not_exist_is_reported_in_mm(rng):
    image = nibabel.Nifti1Image(smooth(rng, (12, 14, 13), 1.0, 8, 1)[..., 0], PERMUTED)
    assert register_images(image, image, Given(rng)).inverse_residual < 0.5
    torn = Given(rng)
    field = 2 * rng.standard_normal((1, *image.shape, 3)).astype(np.float32)
    field = np.moveaxis(field, (1, 2, 3), (3, 2, 1))  # the canonical shape of PERMUTED
    torn.displacements = lambda moving, fixed: (field, invert_displacement(field))
    assert register_images(image, image, torn).inverse_residual > 0.5


def test_an_inverse_that_is_missing_in_air_alone_is_not_reported(rng):
    image = np.zeros((24, 20, 22), np.float32)
    image[4:12, 5:15, 5:16] = 1 + smooth(rng, (8, 10, 11), 1.0, 8, 1)[..., 0]
    field = np.zeros((1, *image.shape, 3), np.float32)
    field[0, 15:23, 5:15, 5:16] = 2 * rng.standard_normal((8, 10, 11, 3))
    torn = Given(rng)
    torn.displacements = lambda moving, fixed: (field, invert_displacement(field))
    image = nibabel.Nifti1Image(image, np.diag([2.0, 2, 2, 1]))
    found = register_images(image, image, torn)
    assert found.inverse_residual < 1e-3
    displacement = Displacement.from_voxels(field[0], found.displacement.grid)
    assert displacement.residual(displacement.inverse()[0]) > 0.5  # somewhere


def test_jacobian_and_folding(rng):
    image = nibabel.Nifti1Image(smooth(rng, (12, 14, 13), 1.0, 8, 1)[..., 0], PERMUTED)
    found = register_images(image, image, Given(rng, scale=0.1))
    np.testing.assert_allclose(found.jacobian.get_fdata(), 1.1**3, rtol=1e-4)
    assert found.folded == 0
    folded = register_images(image, image, Given(rng, scale=-1.5))
    np.testing.assert_allclose(folded.jacobian.get_fdata(), -(0.5**3), rtol=1e-4)
    assert folded.folded == 1
    in_plane = register_images(image, image, Given(rng, ndim=2, scale=0.1), voxel_size=2)
    np.testing.assert_allclose(in_plane.jacobian.get_fdata()[3:-3, 3:-3, 3:-3], 1.1**2, rtol=1e-3)


def test_the_warp_is_in_mm_along_the_axes_of_the_scanner(rng):
    image = nibabel.Nifti1Image(smooth(rng, (12, 14, 13), 1.0, 8, 1)[..., 0], OBLIQUE)
    found = register_images(image, image, Given(rng, scale=0.1))
    voxel = np.array([7, 3, 5])
    expected = OBLIQUE[:3, :3] @ (0.1 * voxel) * (-1, -1, 1)
    np.testing.assert_allclose(np.asarray(found.warp.dataobj)[tuple(voxel)][0], expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(24, 1, 20), (24, 20)])
def test_a_single_slice(tmp_path, rng, shape):
    affine = np.diag([1.5, 4, 2, 1]) if len(shape) == 3 else np.diag([1.5, 2, 4, 1])
    images = [
        nibabel.Nifti1Image(smooth(rng, (24, 20), 1.0, 8, 1).reshape(shape), affine)
        for _ in range(2)
    ]
    found = register_images(*images, Given(rng, ndim=2))
    assert found.warped.shape == found.jacobian.shape == shape
    assert found.warp.shape == (*(*shape, 1)[:3], 1, 3)
    assert len(found.views) == 1
    (tmp_path / "labels.nii.gz").write_text("of the user, or of another warp")
    with pytest.raises(ValueError, match=r"holds labels.nii.gz; give another folder, or pass"):
        save_registration(found, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["labels.nii.gz"]
    save_registration(found, tmp_path, overwrite=True)
    assert not (tmp_path / "labels.nii.gz").exists()
    assert (tmp_path / "warped.nii.gz").exists()


def test_itk_does_the_same_where_sform_and_qform_differ(tmp_path, rng):
    shape, affine = GRIDS["oblique"]
    image = nibabel.Nifti1Image(smooth(rng, shape, 20.0, 8, 1)[..., 0], affine)
    image.set_sform(affine, code="aligned")
    image.set_qform(affine @ from_matvec(np.eye(3), [4, -3, 5]), code="scanner")
    moving, fixed = tmp_path / "moving.nii.gz", tmp_path / "fixed.nii.gz"
    nibabel.save(image, moving)
    neither = nibabel.Nifti1Image(smooth(rng, (20, 22, 24), 20.0, 8, 1)[..., 0], None)
    neither.header.set_zooms((2, 2, 1.5))
    nibabel.save(neither, fixed)
    assert (nibabel.load(fixed).header["sform_code"], nibabel.load(moving).affine[0, 3]) == (0, -20)
    found = register_images(moving, fixed, Given(rng))
    ours = found.warped.get_fdata()
    theirs = resampled(moving, fixed, transform_of(found.warp, tmp_path))
    assert np.mean(ours != 0) > 0.3
    np.testing.assert_allclose(ours, theirs, atol=0.02)


def test_thin_volumes_need_a_method_for_slices(rng):
    with pytest.raises(ValueError, match=r"shape \(8, 9, 2\).*give one for slices"):
        register_volumes(rng.random((8, 9, 2)), rng.random((8, 9, 2)), Given(rng))


def moved(network, rng):
    """The network with weights of the last layer that move something."""
    for weight in network.trainable_variables[-2:]:
        weight.assign(0.2 * rng.standard_normal(weight.shape))
    return network


def test_a_network_for_slices_goes_through_a_volume(rng):
    network = moved(Registration(None, (16, 16), int_steps=2), rng)
    moving, fixed = rng.random((2, 18, 6, 20)).astype(np.float32)
    fixed[:, 2] = 0
    forward, inverse = register_volumes(moving, fixed, NetworkMethod(network, "coronal"))
    apart = network.for_shape((18, 20))
    pair = moving[:, 4], fixed[:, 4]
    np.testing.assert_allclose(forward[:, 4][..., [0, 2]], register_arrays(apart, *pair), atol=1e-5)
    np.testing.assert_allclose(
        inverse[:, 4][..., [0, 2]], register_arrays(apart, *pair, inverse=True), atol=1e-5
    )
    assert np.abs(forward[:, 4]).max() > 0.1
    assert not forward[..., 1].any()
    assert not forward[:, 2].any()

    settings = InstanceSettings(scales=(1,), steps=(3,))
    one = moving[:, 4:5], fixed[:, 4:5]
    refined, _ = register_volumes(*one, NetworkMethod(network, "coronal", settings))
    change = np.abs(refined - forward[:, 4:5])
    assert 0.01 < change.max() < 3


def test_a_network_for_another_shape_follows_the_weights(rng):
    network = moved(Registration(None, (16, 16), int_steps=1, num_filters=2), rng)
    method = NetworkMethod(network)
    sizes = (20, 24), (16, 16), (18, 17)
    pairs = {size: rng.random((2, 1, *size, 1)).astype(np.float32) for size in sizes}
    before = {size: method.displacements(*pair) for size, pair in pairs.items()}
    network.set_weights([0.7 * weight for weight in network.get_weights()])
    for size, (moving, fixed) in pairs.items():
        found = method.displacements(moving, fixed)
        apart = network.for_shape(size)
        for inverse in (False, True):
            expected = register_arrays(apart, moving, fixed, inverse=inverse)
            np.testing.assert_allclose(found[inverse], expected, atol=1e-5)
            assert np.abs(found[inverse] - before[size][inverse]).max() > 0.01


def test_without_a_velocity_the_warp_is_inverted(rng):
    network = moved(Registration(None, (18, 20), int_steps=0), rng)
    moving, fixed = rng.random((2, 18, 1, 20)).astype(np.float32)
    forward, inverse = register_volumes(moving, fixed, NetworkMethod(network))
    expected = invert_displacement(forward[:, 0][..., [0, 2]])
    np.testing.assert_allclose(inverse[:, 0][..., [0, 2]], expected, atol=1e-5)


def test_refuses(tmp_path, rng):
    data = smooth(rng, (12, 14, 13), 1.0, 8, 1)[..., 0]
    image = nibabel.Nifti1Image(data, np.eye(4))
    far = nibabel.Nifti1Image(data, from_matvec(np.eye(3), [100, 0, 0]))
    with pytest.raises(ValueError, match="shows nothing where the fixed image lies; align"):
        register_images(far, image, Given(rng))
    with pytest.raises(ValueError, match=r"is no label map: .* are not whole numbers"):
        register_images(image, image, Given(rng), labels=image)
    with pytest.raises(FileNotFoundError, match=r"missing\.nii does not exist"):
        register_images(tmp_path / "missing.nii", image, Given(rng))
    flat = nibabel.Nifti1Image(data[:, :1], np.eye(4))
    for_volumes = NetworkMethod(Registration(None, (8, 8, 8)))
    with pytest.raises(ValueError, match=r"shape \(12, 1, 13\), but the method is for volumes"):
        register_images(flat, flat, for_volumes)
    empty = np.zeros((12, 4, 13), np.float32)
    with pytest.raises(ValueError, match="no slice shows something in both"):
        register_volumes(empty, empty, Given(rng, ndim=2))
    with pytest.raises(ValueError, match="ndim is 4"):
        InstanceMethod(None, 4)
