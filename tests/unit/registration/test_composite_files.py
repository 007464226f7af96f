"""Composite transforms in HDF5, with SimpleITK as the oracle."""

import h5py
import nibabel
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from cifl_tf.cli.errors import mendable
from cifl_tf.images.grid import grid_at
from cifl_tf.registration import Affine, Displacement, TransformChain
from cifl_tf.registration.composite_files import read_composite, write_composite

sitk = pytest.importorskip("SimpleITK")

LPS = np.array([-1, -1, 1])
TURN = Rotation.from_euler("xyz", [8, -12, 10], degrees=True).as_matrix()
MATRIX = from_matvec(TURN @ np.diag([1.1, 0.9, 1.05]), [4, -6, 3])
OBLIQUE = from_matvec(TURN @ np.diag([2.0, 1.5, 3.0]), [-20, -16, -20])
SHAPE = (20, 24, 18)


@pytest.fixture
def warp(rng):
    """A matrix after a smooth displacement of up to 4 mm on an oblique grid."""
    field = gaussian_filter(rng.normal(size=(*SHAPE, 3)), (3, 3, 3, 0))
    field = Displacement(4 * field / np.abs(field).max(), grid_at(OBLIQUE, SHAPE))
    return Affine(MATRIX), Affine(MATRIX).after(field)


@pytest.fixture
def points(rng):
    """Of the fixed image, inside its grid."""
    return apply_affine(OBLIQUE, rng.uniform(2, 15, (20, 3)))


def through(transform, points):
    """Points in RAS through a transform of ITK, which is in LPS."""
    return np.array([transform.TransformPoint((point * LPS).tolist()) for point in points]) * LPS


def test_simpleitk_reads_the_same_points_and_image(warp, points, rng, tmp_path):
    affine, displacement = warp
    write_composite(tmp_path / "composite.h5", affine, displacement)
    found = sitk.ReadTransform(str(tmp_path / "composite.h5"))
    np.testing.assert_allclose(through(found, points), displacement.map(points), atol=1e-3)
    composite = sitk.CompositeTransform(found)
    names = [composite.GetNthTransform(number).GetName() for number in range(2)]
    assert names == ["AffineTransform", "DisplacementFieldTransform"]
    # A smooth image, so that the order of interpolations does not matter.
    data = gaussian_filter(rng.normal(size=(30, 30, 30)), 3).astype(np.float32)
    moving = nibabel.Nifti1Image(data, from_matvec(3 * np.eye(3), [-45, -45, -45]))
    nibabel.save(moving, tmp_path / "moving.nii.gz")
    warped = displacement.apply(moving)
    nibabel.save(warped, tmp_path / "warped.nii.gz")
    images = [sitk.ReadImage(str(tmp_path / f"{name}.nii.gz")) for name in ("moving", "warped")]
    resampled = sitk.GetArrayFromImage(sitk.Resample(*images, found, sitk.sitkLinear)).T
    np.testing.assert_allclose(resampled, warped.get_fdata(), atol=1e-3 * np.abs(data).max())


def test_a_file_of_simpleitk_is_read(warp, points, tmp_path):
    _, displacement = warp
    displacement.to_file(tmp_path / "field.nii.gz")
    image = sitk.ReadImage(str(tmp_path / "field.nii.gz"), sitk.sitkVectorFloat64)
    euler = sitk.Euler3DTransform([3.0, -4.0, 5.0], 0.1, -0.2, 0.3, [6.0, 7.0, 8.0])
    composite = sitk.CompositeTransform([euler, sitk.DisplacementFieldTransform(image)])
    sitk.WriteTransform(composite, str(tmp_path / "ants.h5"))
    chain = TransformChain([tmp_path / "ants.h5"])
    assert [type(each) for each in chain.transforms] == [Displacement, Affine]
    np.testing.assert_allclose(chain.map(points), through(composite, points), atol=1e-4)


def test_what_is_written_is_read(warp, points, tmp_path):
    affine, displacement = warp
    write_composite(tmp_path / "composite.h5", affine, displacement)
    chain = TransformChain([tmp_path / "composite.h5"])
    np.testing.assert_allclose(chain.map(points), displacement.map(points), atol=1e-3)
    assert chain.grid.shape == SHAPE
    back = TransformChain([tmp_path / "composite.h5"], inverse=True)
    middle = points[np.linalg.norm(points - points.mean(axis=0), axis=1) < 10]
    np.testing.assert_allclose(back.map(displacement.map(middle)), middle, atol=0.2)


def test_a_matrix_alone_has_no_field(points, tmp_path):
    affine = Affine(MATRIX)
    write_composite(
        tmp_path / "composite.h5", affine, affine.as_displacement(grid_at(OBLIQUE, SHAPE))
    )
    (matrix,) = read_composite(tmp_path / "composite.h5")
    np.testing.assert_allclose(matrix, MATRIX)
    found = sitk.ReadTransform(str(tmp_path / "composite.h5"))
    np.testing.assert_allclose(through(found, points), affine.map(points), atol=1e-6)


def test_bad_files_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_composite(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no transform")
    with pytest.raises(ValueError, match="is no transform of ITK in HDF5"):
        read_composite(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["TransformGroup/0/TransformType"] = ["CompositeTransform_double_3_3"]
    with pytest.raises(ValueError, match="holds no transforms"):
        read_composite(tmp_path / "other.h5")


def test_names_that_older_versions_of_itk_misspelled_are_read(warp, points, tmp_path):
    affine, displacement = warp
    write_composite(tmp_path / "composite.h5", affine, displacement)
    with h5py.File(tmp_path / "composite.h5", "a") as file:
        for number in ("1", "2"):
            group = file["TransformGroup"][number]
            for name in ("TransformParameters", "TransformFixedParameters"):
                group.move(name, name.replace("Transform", "Tranform"))
    sitk.ReadTransform(str(tmp_path / "composite.h5"))  # ITK still reads such files
    chain = TransformChain([tmp_path / "composite.h5"])
    np.testing.assert_allclose(chain.map(points), displacement.map(points), atol=1e-3)


def test_damaged_files_are_told(warp, tmp_path):
    """Cut anywhere, or with any bytes changed, a file is read or refused in one line."""
    write_composite(tmp_path / "composite.h5", *warp)
    content = (tmp_path / "composite.h5").read_bytes()
    choose, errors = np.random.default_rng(3), []
    for number in range(60):
        damaged = bytearray(content)
        for place in choose.integers(len(damaged) if number % 3 else 6000, size=20):
            damaged[place] = choose.integers(256)
        kept = len(damaged) if number % 3 else int(choose.integers(1, len(damaged)))
        (tmp_path / "damaged.h5").write_bytes(damaged[:kept])
        try:
            TransformChain([tmp_path / "damaged.h5"])
        except ValueError as error:
            errors.append(error)
    assert len(errors) > 20
    assert all(map(mendable, errors))


@pytest.mark.parametrize("layout", ["no group", "no transform", "a number", "empty text"])
def test_files_of_another_layout_are_told(layout, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        if layout == "no group":
            file["TransformGroup"] = [1.0]
        elif layout == "no transform":
            file["TransformGroup/0"] = [1.0]
        else:
            text = [] if layout == "empty text" else ["DisplacementFieldTransform_double_3_3"]
            file.create_dataset(
                "TransformGroup/0/TransformType", data=text, dtype=h5py.string_dtype("ascii")
            )
            for name in ("TransformParameters", "TransformFixedParameters"):
                file[f"TransformGroup/0/{name}"] = 1.0
    with pytest.raises(ValueError, match=r"other\.h5"):
        read_composite(tmp_path / "other.h5")
