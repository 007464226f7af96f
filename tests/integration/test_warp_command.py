"""``cifl warp``, with SimpleITK as the oracle."""

import nibabel
import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from cifl_tf.images.grid import grid_at
from cifl_tf.images.volumes import read_grid
from cifl_tf.registration import Affine, Displacement, TransformChain
from command_runner import assert_one_line_error, run_here

sitk = pytest.importorskip("SimpleITK")

POINTS = np.array([[3.0, -4.0, 5.0], [-8.0, 2.5, 0.0], [0.0, 0.0, 0.0]])
SMOOTH = 3


def random_affine(rng):
    """A matrix that turns by up to 40°, scales by 0.8 to 1.2 and moves by up to 30 mm."""
    turn = Rotation.from_euler("xyz", rng.uniform(-40, 40, 3), degrees=True).as_matrix()
    return Affine.about(
        turn * rng.uniform(0.8, 1.2, 3), rng.uniform(-9, 9, 3), rng.uniform(-30, 30, 3)
    )


def random_image(rng, turned):
    """A smooth image whose axes do not lie along the scanner's."""
    data = gaussian_filter(rng.random((26, 24, 22)), SMOOTH)
    data = ((data - data.min()) / np.ptp(data)).astype(np.float32)
    turn = Rotation.from_euler("xyz", turned, degrees=True).as_matrix() @ np.diag([-2, 2, 2.5])
    return nibabel.Nifti1Image(data, nibabel.affines.from_matvec(turn, (22, -20, -25)))


def random_field(rng, image):
    """A smooth displacement of some mm on the grid of an image."""
    field = gaussian_filter(rng.standard_normal((*image.shape, 3)), (5, 5, 5, 0))
    return Displacement(4 * field / np.abs(field).max(), read_grid(image))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Moving and fixed image, labels, points, a matrix and a field."""
    rng = np.random.default_rng(1)
    folder = tmp_path_factory.mktemp("warp")
    images = {"moving": random_image(rng, (5, 8, -6)), "fixed": random_image(rng, (-7, 3, 4))}
    labels = (6 * np.asarray(images["moving"].dataobj)).astype(np.uint8)
    images["labels"] = nibabel.Nifti1Image(labels, images["moving"].affine)
    paths = {name: folder / f"{name}.nii.gz" for name in (*images, "field")}
    for name, image in images.items():
        nibabel.save(image, paths[name])
    random_field(rng, images["fixed"]).to_file(paths["field"])
    paths |= {"matrix": folder / "matrix.mat", "points": folder / "points.csv"}
    small = Affine.about(np.diag([1.05, 0.97, 1.0]), (1, 2, 3), (2, -3, 1))
    small.write(paths["matrix"])
    table = pd.DataFrame(POINTS, columns=["x", "y", "z"]).assign(name=["a", "b", "c"])
    table.to_csv(paths["points"], index=False)
    return paths


def transforms(files, *names):
    """A composite of SimpleITK, whose last transform is the first for points."""
    read = {
        "matrix": lambda path: sitk.ReadTransform(path),
        "field": lambda path: sitk.DisplacementFieldTransform(
            sitk.ReadImage(path, sitk.sitkVectorFloat64)
        ),
    }
    return sitk.CompositeTransform([read[name](str(files[name])) for name in reversed(names)])


def warp(files, out, *arguments):
    done = run_here("warp", *arguments, "--out", out)
    assert done.exit_code == 0, done.output
    return done


@pytest.mark.parametrize("names", [("field", "matrix"), ("matrix", "field"), ("field",)])
def test_images_and_labels_as_simpleitk_warps_them(names, files, tmp_path):
    chain = [part for name in names for part in ("--transform", files[name])]
    warp(files, tmp_path, files["moving"], *chain, "--like", files["fixed"])
    warp(files, tmp_path, files["labels"], *chain, "--like", files["fixed"], "--labels")
    fixed = sitk.ReadImage(str(files["fixed"]))
    for name, order in (("moving", sitk.sitkLinear), ("labels", sitk.sitkNearestNeighbor)):
        moving = sitk.ReadImage(str(files[name]))
        theirs = sitk.GetArrayFromImage(
            sitk.Resample(moving, fixed, transforms(files, *names), order)
        )
        ours = np.asarray(nibabel.load(tmp_path / f"{name}_warped.nii.gz").dataobj)
        assert ours.any()
        # A field ends at its grid: ITK goes on without displacement, this package with its edge.
        inner = (slice(4, -4),) * 3
        difference = np.abs(ours - theirs.T.astype(float))[inner]
        assert np.mean(difference > (1e-3 if name == "moving" else 0)) < 0.01


def test_without_like_the_result_lies_on_the_grid_of_the_field(files, tmp_path):
    warp(files, tmp_path, files["moving"], "--transform", files["field"])
    written = nibabel.load(tmp_path / "moving_warped.nii.gz")
    np.testing.assert_allclose(written.affine, nibabel.load(files["fixed"]).affine, atol=1e-5)


@pytest.mark.parametrize("lps", [False, True])
def test_points_as_simpleitk_moves_them(lps, files, tmp_path):
    chain = ["--transform", files["field"], "--transform", files["matrix"]]
    warp(files, tmp_path, files["points"], *chain, *(["--lps"] if lps else []))
    found = pd.read_csv(tmp_path / "points_warped.csv")
    signs = np.ones(3) if lps else np.array([-1.0, -1.0, 1.0])
    theirs = transforms(files, "field", "matrix")
    expected = [
        np.array(theirs.TransformPoint((point * signs).tolist())) * signs for point in POINTS
    ]
    np.testing.assert_allclose(found[["x", "y", "z"]], expected, atol=1e-3)
    assert found["name"].tolist() == ["a", "b", "c"]

    back = tmp_path / "back"
    warp(
        files,
        back,
        tmp_path / "points_warped.csv",
        *chain,
        "--inverse",
        *(["--lps"] if lps else []),
    )
    again = pd.read_csv(back / "points_warped_warped.csv")
    np.testing.assert_allclose(again[["x", "y", "z"]], POINTS, atol=0.02)


def test_an_inverse_brings_the_fixed_image_back(files, tmp_path):
    chain = ["--transform", files["field"], "--transform", files["matrix"]]
    warp(files, tmp_path, files["moving"], *chain)
    there = tmp_path / "moving_warped.nii.gz"
    warp(files, tmp_path / "back", there, *chain, "--inverse", "--like", files["moving"])
    again = np.asarray(nibabel.load(tmp_path / "back" / "moving_warped_warped.nii.gz").dataobj)
    inner = (slice(6, -6),) * 3
    original = np.asarray(nibabel.load(files["moving"]).dataobj)
    assert np.abs(again - original)[inner].mean() < 0.02


def test_a_thousand_transforms_survive_files_composition_and_inversion(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(1000):
        first, second = random_affine(rng), random_affine(rng)
        file = tmp_path / f"{index % 3}.{('mat', 'tfm', 'txt')[index % 3]}"
        first.write(file)
        there = TransformChain([file, second])
        back = TransformChain([Affine.from_file(file), second], inverse=True)
        theirs = sitk.ReadTransform(str(file))
        flip = np.array([-1.0, -1.0, 1.0])
        expected = (
            np.array([theirs.TransformPoint((point * flip).tolist()) for point in POINTS]) * flip
        )
        np.testing.assert_allclose(there.map(POINTS), second.map(expected), atol=1e-6)
        np.testing.assert_allclose(back.map(there.map(POINTS)), POINTS, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("{moving} --transform {matrix}", "a matrix has no grid; give an image with --like"),
        ("{moving} --transform {field} --inverse", "give the moving image with --like"),
        ("{moving} --transform {points} --like {fixed}", "points.csv"),
        ("{moving} --transform {fixed} --like {fixed}", "a displacement field of ITK has"),
        ("{moving} --transform nowhere.mat --like {fixed}", "nowhere.mat"),
        ("{moving} --transform {field} --like nowhere.nii", "nowhere.nii"),
        ("{moving} --transform {field} --labels", "moving.nii.gz"),
        ("nowhere.csv --transform {field}", "nowhere.csv does not exist"),
        ("{matrix} --transform {field}", "matrix.mat"),
    ],
)
def test_bad_input_is_one_line(arguments, message, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [word.format(**files) for word in arguments.split()]
    done = run_here("warp", *words, "--out", tmp_path / "out")
    assert_one_line_error(done, message)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "has the columns a, b, but no x, y, z"),
        ("x,y,z\n1,2,nan\n", "row 1 of the table has no finite numbers"),
        ("x,y,z\n1,2,3\n1,two,3\n", "row 2 of the table has no finite numbers"),
        ("", "is no table"),
    ],
)
def test_bad_tables_of_points(text, message, files, tmp_path):
    (tmp_path / "bad.csv").write_text(text)
    done = run_here(
        "warp", tmp_path / "bad.csv", "--transform", files["matrix"], "--out", tmp_path / "out"
    )
    assert_one_line_error(done, message)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("apart", [0, 63, 150])
def test_the_inverse_of_a_warp_with_its_matrix_is_right_far_away(apart, rng):
    turn = Rotation.from_euler("xyz", [0, 0, 10], degrees=True).as_matrix()
    affine = Affine.about(turn, (0, 0, 0), (apart, 0, 0))
    grid = grid_at(nibabel.affines.from_matvec(np.eye(3) * 4, [-100] * 3), (51, 51, 51))
    bumps = gaussian_filter(rng.standard_normal((*grid.shape, 3)), (5, 5, 5, 0))
    local = Displacement(4 * bumps / np.abs(bumps).max(), grid)
    warp = affine.after(local)
    brain = rng.uniform(-1, 1, (500, 3))
    brain = 70 * brain[np.linalg.norm(brain, axis=1) < 1]
    back = TransformChain([warp], inverse=True).map(warp.map(brain))
    assert np.linalg.norm(back - brain, axis=1).max() < 0.05


def test_frames_of_label_maps_and_names_of_points_are_kept(files, tmp_path):
    labels = nibabel.load(files["labels"])
    frames = np.stack([np.zeros(labels.shape), labels.get_fdata()], axis=-1)
    image = nibabel.Nifti1Image(frames.astype(np.uint8), labels.affine)
    nibabel.save(image, tmp_path / "frames.nii.gz")
    one = ["--transform", files["field"], "--labels"]
    warp(files, tmp_path / "one", files["labels"], *one)
    warp(files, tmp_path / "many", tmp_path / "frames.nii.gz", *one, "--volume-index", 1)
    found, expected = (
        np.asarray(nibabel.load(tmp_path / name).dataobj)
        for name in ("many/frames_warped.nii.gz", "one/labels_warped.nii.gz")
    )
    np.testing.assert_array_equal(found, expected)
    (tmp_path / "points.csv").write_text("id,x,y,z\n007,1,2,3\n1e3,4,5,6\n")
    warp(files, tmp_path / "points", tmp_path / "points.csv", "--transform", files["field"])
    written = (tmp_path / "points" / "points_warped.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in written] == ["id", "007", "1e3"]


def test_half_a_warp_is_one_line(files, tmp_path):
    half = tmp_path / "half.nii.gz"
    whole = files["field"].read_bytes()
    half.write_bytes(whole[: len(whole) // 2])
    done = run_here("warp", files["moving"], "--transform", half, "--out", tmp_path / "out")
    assert_one_line_error(done, "half.nii.gz is truncated or damaged")


def test_a_transform_among_the_images_is_refused_before_all_work(files, tmp_path):
    arguments = files["moving"], "--transform", files["field"], files["matrix"]
    done = run_here("warp", *arguments, "--out", tmp_path / "out")
    assert_one_line_error(done, "each transform needs its own --transform")
    assert not (tmp_path / "out").exists()


def test_labels_that_are_not_declared_are_noted(files, tmp_path):
    arguments = files["labels"], "--transform", files["field"], "--out"
    assert "looks like a label map" in run_here("warp", *arguments, tmp_path / "a").stderr
    assert "looks like" not in run_here("warp", *arguments, tmp_path / "b", "--labels").stderr


def test_points_are_no_labels(files, tmp_path):
    done = run_here(
        "warp", files["points"], "--transform", files["field"], "--labels", "--out", tmp_path / "o"
    )
    assert_one_line_error(done, "points alone")


def test_a_table_with_other_separators_is_told(files, tmp_path):
    (tmp_path / "points.csv").write_text("x;y;z\n1;2;3\n")
    done = run_here(
        "warp", tmp_path / "points.csv", "--transform", files["field"], "--out", tmp_path / "out"
    )
    assert "has one column, 'x;y;z'" in done.stderr
    assert done.exit_code == 1
