import nibabel
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from scipy.spatial.transform import Rotation

from cifl_tf.images.grid import grid_at, grid_of
from cifl_tf.registration import Affine, Displacement

sitk = pytest.importorskip("SimpleITK")

LPS = np.array([-1, -1, 1])
TURN = Rotation.from_euler("xyz", [8, -12, 10], degrees=True).as_matrix()
MATRIX = from_matvec(TURN @ np.diag([1.1, 0.9, 1.05]) + 0.02, [4, -6, 3])
OTHER = from_matvec(TURN.T * 0.95, [-2, 5, 7])
OBLIQUE = from_matvec(TURN @ np.diag([2.0, 1.5, 3.0]), [-20, -16, -20])
MIRRORED = from_matvec(np.diag([-1.5, 1.5, 1.5]), [18, -16, -17])
VOLUME = """valid = 1  # volume info valid
filename = {name}
volume = {shape}
voxelsize = {sizes}
xras   = {x}
yras   = {y}
zras   = {z}
cras   = {center}
"""


def through(transform, points):
    """Points in RAS through a transform of ITK, which is in LPS."""
    return np.array([transform.TransformPoint((point * LPS).tolist()) for point in points]) * LPS


def points_of(rng):
    return rng.uniform(-80, 80, (20, 3))


def itk_image(image):
    """The same image for ITK, whose axes come in the opposite order."""
    array = np.asarray(image.dataobj, np.float64)
    itk = sitk.GetImageFromArray(array.T)
    sizes = np.linalg.norm(image.affine[:3, :3], axis=0)
    itk.SetSpacing(sizes.tolist())
    itk.SetDirection((LPS[:, None] * image.affine[:3, :3] / sizes).ravel().tolist())
    itk.SetOrigin((LPS * image.affine[:3, 3]).tolist())
    return itk


def lta(kind, matrix, shape, affine):
    """An LTA from an image to itself, as FreeSurfer writes it."""
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    center = apply_affine(affine, np.array(shape) / 2)
    rows = [shape, sizes, *(affine[:3, :3] / sizes).T, center]
    words = (" ".join(map(str, row)) for row in rows)
    names = ("shape", "sizes", "x", "y", "z", "center")
    volume = VOLUME.format(name="a.mgz", **dict(zip(names, words, strict=True)))
    numbers = "\n".join(" ".join(f"{value:.15e}" for value in row) for row in matrix)
    return (
        f"type      = {kind} # LINEAR\nnxforms   = 1\nmean      = 0.0 0.0 0.0\nsigma     = 1.0\n"
        f"1 4 4\n{numbers}\nsrc volume info\n{volume}dst volume info\n{volume}subject a\n"
    )


def test_points_go_where_itk_brings_them(rng):
    points = points_of(rng)
    found = Affine(MATRIX).map(points)
    np.testing.assert_allclose(found, through(Affine(MATRIX).to_itk(), points), atol=1e-9)
    np.testing.assert_allclose(found, points @ MATRIX[:3, :3].T + MATRIX[:3, 3], atol=1e-9)


def test_composition_is_that_of_itk_and_of_displacements(rng):
    points = points_of(rng)
    first, second = Affine(MATRIX), Affine(OTHER)
    # ITK applies the transform that was added last first.
    composite = sitk.CompositeTransform([first.to_itk(), second.to_itk()])
    found = first.then(second)
    np.testing.assert_allclose(found.map(points), through(composite, points), atol=1e-9)
    grid = grid_at(OBLIQUE, (12, 14, 9))
    fields = [affine.as_displacement(grid) for affine in (second, found)]
    whole = Displacement(first.map(grid.points() + fields[0].field) - grid.points(), grid)
    np.testing.assert_allclose(whole.field, fields[1].field, atol=1e-4)


def test_inverse_is_that_of_itk(rng):
    points = points_of(rng)
    inverse = Affine(MATRIX).inverse()
    np.testing.assert_allclose(
        inverse.map(points), through(Affine(MATRIX).to_itk().GetInverse(), points), atol=1e-9
    )
    np.testing.assert_allclose(inverse.then(Affine(MATRIX)).matrix, np.eye(4), atol=1e-12)


@pytest.mark.parametrize("suffix", [".mat", ".tfm", ".txt"])
def test_files_go_to_itk_and_back(rng, tmp_path, suffix):
    points = points_of(rng)
    file = tmp_path / f"affine{suffix}"
    Affine(MATRIX).write(file)
    np.testing.assert_allclose(
        through(sitk.ReadTransform(str(file)), points), Affine(MATRIX).map(points), atol=1e-9
    )
    np.testing.assert_allclose(Affine.from_file(file).matrix, MATRIX, atol=1e-12)


@pytest.mark.parametrize("suffix", [".mat", ".tfm"])
@pytest.mark.parametrize("kind", ["affine", "euler", "zyx"])
def test_files_of_itk_with_a_center_are_read(rng, tmp_path, suffix, kind):
    points = points_of(rng)
    if kind == "affine":
        transform = Affine(MATRIX).to_itk()
        transform.SetCenter([10, -20, 30])
    else:
        transform = sitk.Euler3DTransform([10, -20, 30], 0.3, -0.2, 0.4, [1, 2, 3])
        transform.SetComputeZYX(kind == "zyx")
    file = tmp_path / f"itk{suffix}"
    sitk.WriteTransform(transform, str(file))
    found = Affine.from_file(file).map(points)
    np.testing.assert_allclose(found, through(transform, points), atol=1e-9)


def test_other_transforms_of_itk_are_refused(tmp_path):
    file = tmp_path / "other.tfm"
    sitk.WriteTransform(sitk.Similarity3DTransform(), str(file))
    with pytest.raises(ValueError, match=r"is a Similarity3DTransform.*convert it"):
        Affine.from_file(file)


def test_a_plain_matrix_is_read_as_it_is(tmp_path):
    file = tmp_path / "aladin.txt"
    np.savetxt(file, MATRIX)
    np.testing.assert_allclose(Affine.from_file(file).matrix, MATRIX)


def test_lta_maps_the_moving_image_to_the_fixed_one(tmp_path):
    to_fixed = np.linalg.inv(MATRIX)
    file = tmp_path / "a.lta"
    file.write_text(lta(1, to_fixed, (12, 14, 9), OBLIQUE))
    np.testing.assert_allclose(Affine.from_file(file).matrix, MATRIX, atol=1e-9)
    voxels = np.linalg.inv(OBLIQUE) @ to_fixed @ OBLIQUE
    file.write_text(lta(0, voxels, (12, 14, 9), OBLIQUE))
    np.testing.assert_allclose(Affine.from_file(file).matrix, MATRIX, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("a.txt", "1 0 0\n", "holds no affine"),
        ("a.mat", "1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n", "FLIRT"),
        ("a.mat", "nothing", "cannot be read"),
        ("a.lta", "type = 1\n", "no LTA"),
        ("a.lta", lta(14, np.eye(4), (4, 4, 4), np.eye(4)), "of type 14"),
    ],
)
def test_files_without_an_affine_are_refused(tmp_path, name, text, match):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=match):
        Affine.from_file(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.lta"):
        Affine.from_file(tmp_path / "gone.lta")


def test_other_names_are_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"does not end in \.mat"):
        Affine(MATRIX).write(tmp_path / "a.lta")


@pytest.mark.parametrize(
    ("matrix", "match"),
    [
        (np.eye(3), "shape"),
        (np.zeros((4, 4)), "singular"),
        (np.full((4, 4), np.nan), "not finite"),
        (np.eye(4) + np.eye(4)[::-1], "singular"),
        (MATRIX.T, "last row"),
    ],
)
def test_bad_matrices_are_refused(matrix, match):
    with pytest.raises(ValueError, match=match):
        Affine(matrix)


def test_an_image_is_warped_as_itk_warps_it(rng):
    image = nibabel.Nifti1Image(rng.random((24, 22, 23)), MIRRORED)
    affine = Affine.about(TURN, [0, 0, 0], [2, -1, 3])
    grid = grid_at(from_matvec(TURN.T * 1.0, [-8, -8, -6]), (16, 17, 12))
    ours = np.asarray(affine.apply(image, grid).dataobj)
    fixed = itk_image(grid.image(np.zeros(grid.shape, np.float32)))
    theirs = sitk.Resample(itk_image(image), fixed, affine.to_itk(), sitk.sitkLinear, 0.0)
    np.testing.assert_allclose(ours, sitk.GetArrayFromImage(theirs).T, atol=1e-5)
    field = affine.as_displacement(grid).apply(image)
    np.testing.assert_allclose(ours, np.asarray(field.dataobj), atol=1e-4)


def test_labels_keep_their_values_and_type(rng):
    labels = nibabel.Nifti1Image(rng.integers(0, 9, (24, 22, 23)).astype(np.uint8), MIRRORED)
    grid = grid_at(OBLIQUE, (12, 14, 9))
    warped = np.asarray(Affine(OTHER).apply(labels, grid, "nearest").dataobj)
    assert warped.dtype == np.uint8
    assert set(np.unique(warped)) <= set(range(9))


def test_what_shrinks_is_smoothed_first():
    stripes = np.zeros((40, 40, 40), np.float32)
    stripes[::2] = 1
    image = nibabel.Nifti1Image(stripes, np.eye(4))
    grid = grid_at(from_matvec(np.eye(3), [2, 2, 2]), (8, 8, 8))
    wide = np.asarray(Affine(np.diag([4, 4, 4, 1])).apply(image, grid).dataobj)
    np.testing.assert_allclose(wide, 0.5, atol=0.02)


def test_files_whose_qform_and_sform_differ_are_met_where_itk_sees_them(rng):
    images = []
    for shift in ([0, 0, 0], [5, -3, 2]):
        image = nibabel.Nifti1Image(rng.random((8, 9, 7)), OBLIQUE)
        image.set_sform(OBLIQUE, code="aligned")
        image.set_qform(from_matvec(OBLIQUE[:3, :3], OBLIQUE[:3, 3] + shift), code="scanner")
        images.append(image)
    moving, fixed = (grid_of(image, image.shape, "image") for image in images)
    voxel = np.array([[3.0, 4.0, 2.0]])
    reached = apply_affine(
        moving.itk_affine @ np.linalg.inv(moving.affine),
        Affine(MATRIX).map(apply_affine(fixed.affine, voxel)),
    )
    seen = apply_affine(fixed.itk_affine, voxel)
    assert not np.allclose(seen, apply_affine(fixed.affine, voxel))
    transform = Affine(MATRIX).to_itk(moving, fixed)
    np.testing.assert_allclose(through(transform, seen), reached, atol=1e-6)


def test_a_file_of_itk_is_read_back_where_qform_and_sform_differ(tmp_path, rng):
    grids = []
    for shift in ([3, -20, 15], [0, 4, 0]):
        image = nibabel.Nifti1Image(rng.random((8, 9, 7)), OBLIQUE)
        image.set_sform(OBLIQUE, code="aligned")
        image.set_qform(from_matvec(OBLIQUE[:3, :3], OBLIQUE[:3, 3] + shift), code="scanner")
        grids.append(grid_of(image, image.shape, "image"))
    Affine(MATRIX).write(tmp_path / "affine.mat", *grids)
    assert not np.allclose(Affine.from_file(tmp_path / "affine.mat").matrix, MATRIX, atol=1)
    found = Affine.from_file(tmp_path / "affine.mat", *grids)
    np.testing.assert_allclose(found.matrix, MATRIX, atol=1e-6)
    np.savetxt(tmp_path / "niftyreg.txt", MATRIX)  # lies where nibabel sees both
    found = Affine.from_file(tmp_path / "niftyreg.txt", *grids)
    np.testing.assert_allclose(found.matrix, MATRIX, atol=1e-12)


@pytest.mark.parametrize("shape", [(40, 70, 9), (40, 33, 1)])
def test_the_affine_of_a_displacement_is_found(rng, shape):
    affine = Affine(MATRIX)
    field = affine.as_displacement(grid_at(OBLIQUE, shape))
    wave = 0.5 * np.sin(np.arange(40) * np.pi / 2)[:, None, None, None]  # of no affine
    found = Affine.fitted(Displacement(field.field + wave, field.grid))
    points = field.grid.points()
    np.testing.assert_allclose(found.map(points), affine.map(points), atol=0.1)
