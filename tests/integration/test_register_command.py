import nibabel
import numpy as np
import pytest
from matplotlib.image import imread

from cifl_tf.datasets import virtual_cohort
from cifl_tf.training.callbacks import read_history
from command_runner import run_here

OUTPUTS = {
    *("warped.nii.gz", "warp.nii.gz", "inverse_warp.nii.gz", "jacobian.nii.gz"),
    *("composite.h5", "run.json", "report.html"),
}
PICTURE = "registration.png"
TRAIN = ["train", "--encoder", "intensity", "--data", "{data}"]
TRAINING = ["--steps", 2, "--num-slices", 1, "--remappings", "none"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two small virtual subjects: the images, of other contrasts, and labels of the first."""
    folder = tmp_path_factory.mktemp("images")
    moving, fixed = virtual_cohort(2, resolution=8)
    images = {
        "moving": nibabel.Nifti1Image(moving.image("T1w"), moving.affine),
        "labels": nibabel.Nifti1Image(moving.labels().astype(np.uint8), moving.affine),
        "fixed": nibabel.Nifti1Image(fixed.image("FLAIR"), fixed.affine),
    }
    # Axes towards anterior, left, superior.
    images["fixed"] = images["fixed"].as_reoriented(np.array([[1, -1], [0, 1], [2, 1]]))
    for name, image in images.items():
        nibabel.save(image, folder / f"{name}.nii.gz")
    return {name: folder / f"{name}.nii.gz" for name in images}


def run(*arguments):
    return run_here("register", *arguments)


def test_train_and_apply(tiny_encoder, dataset, files, tmp_path):
    tiny_encoder.save(tmp_path / "encoder.keras")
    folder, out = tmp_path / "registration", tmp_path / "out"
    train = ["train", "--encoder", tmp_path / "encoder.keras", "--out", folder, *TRAINING]
    train += ["--data", dataset]
    done = run(*train)
    assert done.exit_code == 0
    assert done.stdout.endswith(f"The registration network is in {folder}.\n")
    history = read_history(folder / "history.csv")
    assert [row["step"] for row in history] == ["2"]
    assert "val_label_dice" in history[0]
    assert run(*train).exit_code == 0  # nothing is left to do
    assert read_history(folder / "history.csv") == history

    images = [files["moving"], files["fixed"]]
    options = ["--model", folder, "--labels", files["labels"], "--voxel-size", 6]
    done = run("apply", *images, "--out", out, *options)
    assert done.stdout.endswith(f"of the voxels are folded. The warp is in {out}.\n")
    assert {path.name for path in out.iterdir()} == {*OUTPUTS, "labels.nii.gz", PICTURE}
    fixed = nibabel.load(files["fixed"])
    for name in ("warped", "jacobian", "labels"):
        image = nibabel.load(out / f"{name}.nii.gz")
        assert image.shape == fixed.shape
        np.testing.assert_allclose(image.affine, fixed.affine)
    labels = nibabel.load(out / "labels.nii.gz")
    assert labels.get_data_dtype() == np.uint8
    assert set(np.unique(labels.dataobj)) == set(range(5))
    assert imread(out / PICTURE).std() > 0.05


def test_optimize_brings_two_images_together(files, tmp_path):
    images = [files["moving"], tmp_path / "deformed.nii.gz"]
    moving = nibabel.load(files["moving"])
    # Half a voxel to the left.
    data = moving.get_fdata(dtype=np.float32)
    deformed = (data + np.roll(data, -1, axis=0)) / 2
    nibabel.save(nibabel.Nifti1Image(deformed, moving.affine), images[1])
    options = ["--model", "intensity", "--ndim", 2, "--plane", "axial", "--out", tmp_path / "out"]
    done = run_here("register", "optimize", *images, *options)
    assert "every axial slice was registered alone;" in done.stderr
    assert "0.00% of the voxels are folded." in done.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*OUTPUTS, PICTURE}
    warped = nibabel.load(tmp_path / "out" / "warped.nii.gz").get_fdata()
    assert np.mean((warped - deformed) ** 2) < 0.5 * np.mean((data - deformed) ** 2)


def header(shape, voxel_size):
    return nibabel.Nifti1Image(np.zeros(shape, np.uint8), np.diag([*voxel_size, 1.0]))


@pytest.mark.parametrize(
    ("fixed", "options", "features", "ndim", "voxel_size"),
    [
        (header((9, 8, 7), (1, 1, 1)), [], 16, 3, None),
        (header((9, 8, 1), (1, 1, 1)), [], 16, 2, None),
        (header((9, 8), (1, 1, 1)), ["--model", "intensity"], None, 2, None),
        (header((9, 8, 7, 2), (1, 1, 1)), ["--model", "intensity"], None, 3, None),
        (header((9, 8, 7), (1, 1, 1)), ["--ndim", 2], 16, 2, None),
        (header((9, 8, 7), (1, 1, 1)), ["--model", "shapes-2d"], 16, 2, None),
        (header((256, 256, 176), (1, 1, 1)), [], 16, 3, 2.0),
        (header((256, 256, 176), (1, 1, 1)), ["--voxel-size", 1.5], 16, 3, 1.5),
        (header((256, 256, 176), (1, 1, 1)), ["--ndim", 2], 16, 2, None),
        (header((400, 200, 200), (0.1, 0.12, 0.12)), [], 16, 3, 0.25),
        (header((192, 192, 24), (1, 1, 6)), [], 16, 3, 1.5),
        (header((20, 22, 10), (1, 0.9, 3)), [], 16, 3, 0.9),
    ],
)
def test_volumes_are_optimized_in_three_dimensions(
    tmp_path, monkeypatch, fixed, options, features, ndim, voxel_size
):
    seen = []

    def register(moving, fixed, method, labels, voxel_size, *frames):
        seen.append((method, voxel_size))
        raise ValueError("seen")

    monkeypatch.setattr("cifl_tf.registration.images.register_images", register)
    for name in ("moving", "fixed"):
        nibabel.save(fixed, tmp_path / f"{name}.nii")
    images = [tmp_path / f"{name}.nii" for name in ("moving", "fixed")]
    arguments = ["optimize", *images, "--out", tmp_path / "out"]
    done = run(*arguments, *options)
    assert done.stderr == "cifl: seen\n"
    ((method, found),) = seen
    assert (method.ndim, found) == (ndim, voxel_size)
    if features is None:
        assert method.encoder is None
    else:
        assert method.encoder.output_shape == (*[None] * (ndim + 1), features)
    chosen = voxel_size is not None and "--voxel-size" not in options
    told = f"registering at {voxel_size:g} mm" if chosen else ""
    assert told in done.stdout
    assert bool(done.stdout) == bool(told)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["apply", "{moving}", "{fixed}", "--model", "{tmp}/none"],
            "{tmp}/none/registration.keras does not exist; give",
        ),
        (["optimize", "{tmp}/a.nii", "{fixed}", "--model", "intensity"], "{tmp}/a.nii does not"),
        (
            [*TRAIN, "--validation-subjects", "sub-1"],
            "the validation subjects are ['sub-1'], but pairs are of different subjects",
        ),
        (
            [*TRAIN, "--remappings", "inverted,t2"],
            "remappings are ['inverted', 't2']; give names out of ['inverted', 'gamma 0.4', ",
        ),
        (
            ["optimize", "{moving}", "{fixed}", "--model", "intensity", "--remappings", "t2"],
            "remappings are ['t2']; give names",
        ),
    ],
)
def test_bad_inputs_are_one_line(dataset, files, tmp_path, arguments, message):
    names = {"tmp": tmp_path, "data": dataset, **files}
    filled = [str(argument).format(**names) for argument in arguments]
    done = run(*filled, "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert done.stderr.startswith(f"cifl: {message.format(**names)}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
