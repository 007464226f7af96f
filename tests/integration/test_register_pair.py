"""``cifl register MOVING FIXED``: all stages in physical space, with SimpleITK as the oracle."""

import dataclasses
import json

import nibabel
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

import cifl_tf
from cifl_tf.datasets import virtual_cohort
from cifl_tf.registration.demons import DemonsSettings
from cifl_tf.registration.result import REGISTRATION_FILES
from cifl_tf.registration.stages import FAST
from command_runner import assert_one_line_error, run_here

sitk = pytest.importorskip("SimpleITK")

ALWAYS = {*REGISTRATION_FILES, "run.json", "report.html"} - {"labels.nii.gz"}
# Where the points of the fixed scan lie in the moving one, in ITK's axes.
TURN = Rotation.from_euler("xyz", [4, -6, 10], degrees=True).as_matrix()
SHIFT = np.array([14.0, -9.0, 6.0])


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """A subject, and the same in another contrast, turned and moved by SimpleITK; with labels."""
    folder = tmp_path_factory.mktemp("scans")
    subject = virtual_cohort(1, resolution=5).subjects[0]
    images = {
        "fixed": nibabel.Nifti1Image(subject.image("FLAIR"), subject.affine),
        "T1w": nibabel.Nifti1Image(subject.image("T1w"), subject.affine),
        "dseg": nibabel.Nifti1Image(subject.labels().astype(np.uint8), subject.affine),
    }
    files = {name: folder / f"{name}.nii.gz" for name in (*images, "moving", "labels")}
    for name, image in images.items():
        nibabel.save(image, files[name])
    # The resampled image shows at q what the subject has at T(q); so T leads back to the subject.
    back = sitk.AffineTransform(3)
    back.SetMatrix(TURN.T.ravel().tolist())
    back.SetTranslation((-TURN.T @ SHIFT).tolist())
    for source, target, order in (
        ("T1w", "moving", sitk.sitkLinear),
        ("dseg", "labels", sitk.sitkNearestNeighbor),
    ):
        image = sitk.ReadImage(str(files[source]))
        wide = sitk.ConstantPad(image, [8] * 3, [8] * 3)
        sitk.WriteImage(sitk.Resample(image, wide, back, order), str(files[target]))
    return files


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """An untrained encoder for volumes, which is fast."""
    file = tmp_path_factory.mktemp("encoder") / "encoder.keras"
    cifl_tf.build_encoder(ndim=3, num_features=6, num_filters=8).save(file)
    return file


def corners_missed(matrix_file, image):
    """How far the corners of an image's brain are from where the known turn leads, in mm."""
    found = sitk.ReadTransform(str(matrix_file))
    brain = np.argwhere(np.asarray(image.dataobj) > 0)
    ends = np.stack([brain.min(axis=0), brain.max(axis=0)])
    corners = np.indices((2, 2, 2)).reshape(3, -1).T
    points = nibabel.affines.apply_affine(image.affine, np.where(corners, ends[1], ends[0]))
    points = points * [-1, -1, 1]
    reached = np.array([found.TransformPoint(point) for point in points])
    return np.linalg.norm(reached - (points @ TURN.T + SHIFT), axis=1).max()


def resampled(files, transform, order=sitk.sitkLinear, source="moving"):
    """What SimpleITK makes of the moving image."""
    image, fixed = (sitk.ReadImage(str(files[name])) for name in (source, "fixed"))
    return sitk.GetArrayFromImage(sitk.Resample(image, fixed, transform, order)).T


def field(file):
    """A displacement field as SimpleITK reads it."""
    return sitk.DisplacementFieldTransform(sitk.ReadImage(str(file), sitk.sitkVectorFloat64))


@pytest.fixture(scope="module")
def aligned(scans, encoder, tmp_path_factory):
    """The folder of a rigid registration, with labels."""
    out = tmp_path_factory.mktemp("aligned") / "out"
    options = ["--stages", "rigid", "--model", encoder, "--labels", scans["labels"]]
    done = run_here("register", scans["moving"], scans["fixed"], "--out", out, *options)
    assert done.exit_code == 0, done.output
    return out


def test_a_turned_scan_of_another_contrast_is_found(scans, aligned):
    assert {path.name for path in aligned.iterdir()} == {*ALWAYS, "labels.nii.gz"}
    fixed = nibabel.load(scans["fixed"])
    assert corners_missed(aligned / "affine.mat", fixed) < 3
    matrix = cifl_tf.Affine.from_file(aligned / "affine.mat").matrix[:3, :3]
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-6)
    (run,) = json.loads((aligned / "run.json").read_text())["runs"]
    numbers = run["inputs"][0]["numbers"]
    assert numbers["similarity after the matrix"] > numbers["similarity before"]
    assert numbers["overlap of foregrounds (Dice)"] > 0.9
    labels = np.asarray(nibabel.load(aligned / "labels.nii.gz").dataobj)
    truth = np.asarray(nibabel.load(scans["dseg"]).dataobj)
    assert np.mean(labels[truth > 0] == truth[truth > 0]) > 0.6


def test_simpleitk_reads_what_is_written(scans, aligned):
    warped = nibabel.load(aligned / "warped.nii.gz").get_fdata()
    matrix = sitk.ReadTransform(str(aligned / "affine.mat"))
    for transform in (matrix, field(aligned / "warp.nii.gz")):
        np.testing.assert_allclose(resampled(scans, transform), warped, atol=2e-3)
    labels = np.asarray(nibabel.load(aligned / "labels.nii.gz").dataobj)
    nearest = resampled(scans, matrix, sitk.sitkNearestNeighbor, "labels")
    assert np.mean(labels == nearest) > 0.999
    # The inverse leads from points of the moving scan to the fixed one.
    inverse = field(aligned / "inverse_warp.nii.gz")
    for point in ([10.0, 20.0, -5.0], [-30.0, 0.0, 15.0]):
        there = matrix.TransformPoint(point)
        np.testing.assert_allclose(inverse.TransformPoint(there), point, atol=0.01)


def test_the_warp_holds_matrix_and_deformation(scans, encoder, tmp_path):
    # Smooth, so that interpolation does not matter.
    for name in ("moving", "fixed"):
        image = nibabel.load(scans[name])
        smooth = gaussian_filter(image.get_fdata(), 1.5).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(smooth, image.affine), tmp_path / f"{name}.nii.gz")
    files = {name: tmp_path / f"{name}.nii.gz" for name in ("moving", "fixed")}
    start = tmp_path / "start.txt"
    flip = np.diag([-1.0, -1.0, 1.0])
    known = nibabel.affines.from_matvec(flip @ TURN @ flip, flip @ SHIFT)
    np.savetxt(start, known)
    options = ["--stages", "deformable", "--initial", start, "--model", encoder, "--stripped"]
    out = tmp_path / "out"
    done = run_here("register", *options, "--out", out, files["moving"], files["fixed"])
    assert done.exit_code == 0, done.output
    np.testing.assert_allclose(cifl_tf.Affine.from_file(out / "affine.mat").matrix, known)
    warped = nibabel.load(out / "warped.nii.gz").get_fdata()
    composite = sitk.ReadTransform(str(out / "composite.h5"))
    for transform in (field(out / "warp.nii.gz"), composite):
        found = resampled(files, transform)
        np.testing.assert_allclose(found, warped, atol=0.02 * warped.max())
    once_more = ["--transform", out / "composite.h5", "--out", tmp_path / "again"]
    assert run_here("warp", files["moving"], *once_more).exit_code == 0
    again = nibabel.load(tmp_path / "again" / "moving_warped.nii.gz").get_fdata()
    np.testing.assert_allclose(again, warped, atol=0.02 * warped.max())
    (run,) = json.loads((out / "run.json").read_text())["runs"]
    numbers = run["inputs"][0]["numbers"]
    assert 0.5 < numbers["similarity before the warp"] < 1
    assert 0.5 < numbers["similarity after the warp"] < 1
    forward, backward = (field(out / f"{name}.nii.gz") for name in ("warp", "inverse_warp"))
    middle = np.array([0.0, 20.0, 15.0])  # of the brain
    there = forward.TransformPoint(middle.tolist())
    assert np.linalg.norm(np.array(there) - (TURN @ middle + SHIFT)) < 15
    np.testing.assert_allclose(backward.TransformPoint(there), middle, atol=1.0)


def test_fast_and_masks_reach_the_deformable_stage(scans, encoder, tmp_path, monkeypatch):
    seen, masks = [], []

    def deform(moving, fixed, used, remappings, settings, moving_mask, fixed_mask, channels):
        assert channels is None  # an encoder was given
        seen.append((remappings, settings))
        masks.append([moving_mask, fixed_mask])
        return np.zeros((*fixed.shape, 3), np.float32)

    monkeypatch.setattr("cifl_tf.registration.methods.register_deformable", deform)
    common = [scans["fixed"], scans["T1w"], "--stages", "deformable", "--model", encoder]
    assert run_here("register", *common, "--out", tmp_path / "default").exit_code == 0
    more = ["--fast", "--smoothness", 5, "--remappings", "none", "--fixed-mask", scans["dseg"]]
    start = tmp_path / "start.txt"
    np.savetxt(start, nibabel.affines.from_matvec(np.eye(3), [5, 0, 0]))  # a voxel
    more += ["--moving-mask", scans["dseg"], "--initial", start]
    assert run_here("register", *common, *more, "--out", tmp_path / "fast").exit_code == 0
    voxel = nibabel.affines.voxel_sizes(nibabel.load(scans["T1w"]).affine).mean()
    assert seen[0] == (("inverted",), DemonsSettings())
    remappings, settings = seen[1]
    assert remappings == ()
    assert settings == dataclasses.replace(FAST, diffusion=settings.diffusion)
    assert settings.diffusion == pytest.approx(5 / voxel / 2)  # voxels of the finest level
    assert masks[0] == [None, None]
    brain = nibabel.as_closest_canonical(nibabel.load(scans["dseg"])).get_fdata() > 0
    np.testing.assert_array_equal(masks[1][1], brain)
    np.testing.assert_array_equal(masks[1][0][:-1], brain[1:])


def test_python_gives_the_same(scans, aligned, encoder):
    found = cifl_tf.register(
        scans["moving"], scans["fixed"], cifl_tf.load_encoder(encoder), stages="rigid"
    )
    written = nibabel.load(aligned / "warped.nii.gz").get_fdata()
    np.testing.assert_allclose(found.warped.get_fdata(), written, atol=1e-4)
    assert found.transform is found.displacement
    assert found.report["matrix (s)"] > 0
    assert not found.warnings


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stages", "rigid,nonlinear"], "the stages are rigid, nonlinear; give one or more of"),
        (["--stages", ","], "the stages are , ; give one or more of rigid, affine, deformable"),
        (["--model", "shapes-2d"], "is not for volumes"),
        (["--initial", "{fixed}"], "fixed.nii.gz"),
    ],
)
def test_bad_choices(arguments, message, scans, encoder, tmp_path):
    arguments = [argument.format(**scans) for argument in arguments]
    out = tmp_path / "out"
    done = run_here("register", scans["moving"], scans["fixed"], "--out", out, *arguments)
    assert_one_line_error(done, message)
    assert not out.exists()


def test_a_misspelled_command_is_no_file(tmp_path):
    done = run_here("register", "trian", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "No such command 'trian'" in done.stderr


def test_many_pairs_of_a_table(scans, encoder, tmp_path, quick_alignment):
    folder = scans["moving"].parent
    (folder / "broken.nii.gz").write_text("no image")
    table = tmp_path / "pairs.csv"
    rows = ["name,moving,fixed,labels", ",moving.nii.gz,fixed.nii.gz,labels.nii.gz"]
    rows += [",broken.nii.gz,fixed.nii.gz,", f"again,{scans['moving']},fixed.nii.gz,"]
    table.write_text("\n".join(rows) + "\n")
    table = table.rename(folder / "pairs.csv")  # its paths lead from its own folder
    out = tmp_path / "out"
    done = run_here("register", table, "--out", out, "--stages", "rigid", "--model", encoder)
    assert done.exit_code == 1
    assert "broken.nii.gz" in done.stderr
    assert {path.name for path in out.iterdir()} == {
        *("run.json", "report.html", "moving_to_fixed", "again"),
    }
    written = {name: {path.name for path in (out / name).iterdir()} for name in ("again",)}
    assert written == {"again": ALWAYS - {"run.json", "report.html"}}
    assert (out / "moving_to_fixed" / "labels.nii.gz").exists()
    one, other = (
        nibabel.load(out / name / "warped.nii.gz").get_fdata()
        for name in ("again", "moving_to_fixed")
    )
    np.testing.assert_allclose(one, other, atol=1e-4)
    (run,) = json.loads((out / "run.json").read_text())["runs"]
    assert [entry["outcome"] for entry in run["inputs"]] == ["done", "failed", "done"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("moving,goal\na.nii,b.nii\n", "with the columns moving, goal; give the columns moving"),
        ("moving,fixed\n", "has 0 rows"),
        ("moving,fixed\na.nii,\n", "row 1 of"),
        ("name,moving,fixed\nx,a.nii,b.nii\nx,c.nii,d.nii\n", "has two pairs 'x'"),
        ("name,moving,fixed\n../x,a.nii,b.nii\n", "give the name of a folder"),
    ],
)
def test_bad_tables_of_pairs(text, message, encoder, tmp_path):
    (tmp_path / "pairs.csv").write_text(text)
    done = run_here(
        "register", tmp_path / "pairs.csv", "--out", tmp_path / "out", "--model", encoder
    )
    assert_one_line_error(done, message)
    assert not (tmp_path / "out").exists()


def test_a_table_has_the_fixed_images_itself(scans, encoder, tmp_path):
    (tmp_path / "pairs.csv").write_text("moving,fixed\na.nii,b.nii\n")
    options = ["--out", tmp_path / "out", "--model", encoder]
    done = run_here("register", tmp_path / "pairs.csv", scans["fixed"], *options)
    assert "a CSV file of pairs names the fixed images itself" in done.stderr
    done = run_here("register", scans["fixed"], *options)
    assert "there is no fixed image" in done.stderr
