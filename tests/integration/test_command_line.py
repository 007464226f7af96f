import gzip
import hashlib
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tensorflow as tf
from matplotlib.image import imread

import cifl_tf
from cifl_tf.cli.demo import DEMO_STEPS
from cifl_tf.features import pretrained
from cifl_tf.features.config import TrainingConfig
from command_runner import assert_one_line_error, run_here

RAW = Path(__file__).parents[3] / "shared" / "data" / "raw"
AFFINE = np.array([[-2, 0, 0, 20], [0, 0, 2, -15], [0, 2, 0, -10], [0, 0, 0, 1]], np.float32)


@pytest.fixture
def head(tmp_path, rng):
    path = tmp_path / "head.nii.gz"
    image = rng.random((20, 22, 24)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(image, AFFINE), path)
    return path


def test_version_and_help(run_cifl):
    version = run_cifl("--version")
    expected = f"cifl_tf {cifl_tf.__version__} (TensorFlow {tf.__version__})\n"
    assert (version.stdout, version.stderr) == (expected, "")
    device = run_cifl("device")
    assert re.fullmatch(r"(CPU .+, \d+ threads?|GPU .+)\n", device.stdout)
    assert device.stderr == ""
    text = run_here("--help").stdout
    commands = re.findall(r"^  (\w+) +[A-Z].+\.$", text.partition("Commands:")[2], re.MULTILINE)
    names = {"train", "features", "export", "demo", "info", "device", "evaluate", "cohort"}
    assert {*commands} == {*names, "strip", "segment", "register", "warp"}


def test_features(model_folder, head, tmp_path):
    options = ["--model", model_folder, "--out", tmp_path / "new"]
    done = run_here("features", head, *options, "--stripped")
    target = tmp_path / "new" / "head_features.nii.gz"
    assert done.stdout == f"{target}\n"
    assert done.stderr == ""
    written = nibabel.load(target)
    np.testing.assert_array_equal(written.affine, AFFINE)
    expected = cifl_tf.features_of(head, cifl_tf.load_encoder(model_folder))
    np.testing.assert_allclose(written.get_fdata(), expected.get_fdata(), atol=1e-5)
    assert written.get_data_dtype() == np.float32


def test_features_of_an_ensemble(model_folder, head, tmp_path):
    options = ["--model", model_folder, "--out", tmp_path / "new"]
    done = run_here("features", head, *options, "--remappings", "inverted, gamma")
    assert done.exit_code == 0
    written = nibabel.load(tmp_path / "new" / "head_features.nii.gz")
    encoder = cifl_tf.load_encoder(model_folder)
    expected = cifl_tf.features_of(head, encoder, remappings=("inverted", "gamma"))
    np.testing.assert_allclose(written.get_fdata(), expected.get_fdata(), atol=1e-5)
    done = run_here("features", head, *options, "--remappings", "t2")
    assert_one_line_error(done, "remappings are ['t2']; give names out of ['inverted',")


def test_features_in_bounded_memory(model_folder, head, tmp_path):
    options = ["--model", model_folder, "--out", tmp_path / "new", "--stripped"]
    done = run_here("features", head, *options, "--memory", "50M")
    assert_one_line_error(done, "memory is 50.0 MB, but the program, the image and what is made")
    assert run_here("features", head, *options, "--memory", "900G").exit_code == 0
    written = nibabel.load(tmp_path / "new" / "head_features.nii.gz")
    expected = cifl_tf.features_of(head, cifl_tf.load_encoder(model_folder))
    np.testing.assert_allclose(written.get_fdata(), expected.get_fdata(), atol=1e-5)
    done = run_here("features", head, *options, "--dtype", "int16", "--overwrite")
    assert done.exit_code == 0, done.output
    written = nibabel.load(tmp_path / "new" / "head_features.nii.gz")
    assert written.get_data_dtype() == np.int16
    np.testing.assert_allclose(written.get_fdata(), expected.get_fdata(), atol=1e-3)


@pytest.mark.skipif(not RAW.is_dir(), reason="the real heads are not beside the repository")
def test_real_heads_come_back_on_their_own_grids(model_folder, tmp_path):
    heads = sorted(RAW.glob("*_T1.nii.gz")) + sorted(RAW.glob("*_FL.nii.gz"))
    assert len(heads) == 4
    options = ["--model", model_folder, "--out", tmp_path, "--plane", "axial"]
    assert run_here("features", *heads, *options).exit_code == 0
    for head in heads:
        image = nibabel.load(head)
        features = nibabel.load(tmp_path / head.name.replace(".nii.gz", "_features.nii.gz"))
        assert features.shape == (*image.shape, 3)
        np.testing.assert_allclose(features.affine, image.affine, atol=1e-6)
        assert np.isfinite(features.get_fdata()).all()


def test_export(model_folder, tmp_path, rng):
    done = run_here("export", "--model", model_folder, "--out", tmp_path / "saved_model")
    assert done.exit_code == 0
    image = rng.random((1, 30, 31, 1)).astype(np.float32)
    features = tf.saved_model.load(str(tmp_path / "saved_model"))(image)["features"][0]
    expected = cifl_tf.features_of(image[0, ..., 0], cifl_tf.load_encoder(model_folder))
    np.testing.assert_allclose(features, expected, atol=1e-4)


@pytest.fixture
def weights(tmp_path, monkeypatch, tiny_encoder):
    """Small encoders in place of those that ship with the package."""
    folder = tmp_path / "weights"
    sums = ""
    for name, encoder in (
        ("coarse-2d", cifl_tf.build_encoder(2, 3, 2)),
        ("shapes-2d", tiny_encoder),
        ("shapes-2d-v2", tiny_encoder),
    ):
        file = folder / name / "encoder.keras"
        file.parent.mkdir(parents=True)
        encoder.save(file)
        card = f"# {name}\n\nFor slices,\nof a test.\n\n## Limits\n\nAll.\n"
        (folder / name / "README.md").write_text(card)
        sums += f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {name}/encoder.keras\n"
    (folder / "SHA256SUMS").write_text(sums)
    monkeypatch.setattr(pretrained, "WEIGHTS", folder)
    return folder


def test_info_lists_the_encoders_and_prints_a_card(weights):
    done = run_here("info")
    assert done.exit_code == 0
    assert done.stdout == "".join(
        f"{name:<12}   For slices, of a test.\n"
        for name in ("coarse-2d", "shapes-2d", "shapes-2d-v2")
    )
    done = run_here("info", "shapes-2d")
    assert done.exit_code == 0
    assert done.stdout == (weights / "shapes-2d" / "README.md").read_text()
    done = run_here("info", "shapes-4d")
    assert done.exit_code == 1
    assert done.stdout == ""
    message = "there are no pretrained weights 'shapes-4d'; choose from ['coarse-2d', 'shapes-2d', "
    message += "'shapes-2d-v2']"
    assert done.stderr == f"cifl: {message}\n"


def test_info_of_the_models_that_ship():
    known = pretrained.shipped_models()
    assert {*known} == {*cifl_tf.pretrained_encoders(), "strip", "tissues"}
    assert "shapes-2d" in known
    done = run_here("info")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(known)
    for line, shipped in zip(lines, known.values(), strict=True):
        assert line.endswith(f"   {shipped.summary}")
        card = run_here("info", shipped.name).stdout
        assert card.rstrip() == (shipped.folder / "README.md").read_text().rstrip()


def similarities(text):
    """The rows of the demo's table: untrained, trained."""
    return {
        match[1].strip(): [float(value) for value in match[2].split()]
        for match in re.finditer(r"^(.{20})((?:\s+-?\d\.\d+){2})", text, re.MULTILINE)
    }


def test_demo_of_a_trained_model(model_folder, tmp_path):
    done = run_here("demo", "--model", model_folder, "--out", tmp_path)
    assert done.exit_code == 0
    rows = similarities(done.stdout)
    assert list(rows) == [
        "inverted",
        "gamma 0.4",
        "folded",
        "different channels",
        "unrelated images",
    ]
    assert all(-1 <= value <= 1 for values in rows.values() for value in values)
    for name in ("features.png", "synthesis.png"):
        picture = imread(tmp_path / name)
        assert min(picture.shape[:2]) > 100
        assert picture.std() > 0.05


@pytest.fixture
def demonstrated(monkeypatch):
    """Encoders that the demo shows, and trainings that it asks for, in place of both."""
    shown, trained = [], []

    def train(out, config):
        trained.append((out, config))
        return "trained"

    monkeypatch.setattr("cifl_tf.features.training.train", train)
    monkeypatch.setattr(
        "cifl_tf.cli.demo_images.run_demo", lambda encoder, out: shown.append(encoder) or "table"
    )
    return shown, trained


def test_demo_shows_what_ships_unless_told_to_train(weights, demonstrated, tiny_encoder, tmp_path):
    shown, trained = demonstrated
    assert run_here("demo", "--out", tmp_path / "demo").exit_code == 0
    assert trained == []
    (encoder,) = shown
    for one, other in zip(encoder.get_weights(), tiny_encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    done = run_here("demo", "--model", "coarse-2d", "--out", tmp_path / "demo")
    assert done.stdout.startswith("table\n")
    assert shown[1].output_shape[-1] == 3

    assert run_here("demo", "--train", "--out", tmp_path / "demo").exit_code == 0
    expected = TrainingConfig(steps=DEMO_STEPS)
    assert trained == [(tmp_path / "demo" / "model", expected)]
    assert shown[2:] == ["trained"]


def test_demo_of_the_encoder_that_ships(tmp_path):
    rows = similarities(run_here("demo", "--out", tmp_path).stdout)
    written = {"features.png", "synthesis.png", "run.json", "report.html"}
    assert {path.name for path in tmp_path.iterdir()} == written
    for name in ("inverted", "gamma 0.4", "folded"):
        assert rows[name][1] > 0.8
    assert rows["different channels"][1] < 0.2


def test_without_a_model_it_is_the_one_that_ships(weights, head, tiny_encoder, tmp_path):
    assert run_here("features", head, "--out", tmp_path / "features").exit_code == 0
    written = nibabel.load(tmp_path / "features" / "head_features.nii.gz")
    expected = cifl_tf.features_of(head, tiny_encoder)
    np.testing.assert_allclose(written.get_fdata(), expected.get_fdata(), atol=1e-5)
    image = np.random.default_rng(0).random((1, 20, 21, 1), np.float32)
    assert run_here("export", "--out", tmp_path / "saved_model").exit_code == 0
    features = tf.saved_model.load(str(tmp_path / "saved_model"))(image)["features"][0]
    expected = cifl_tf.features_of(image[0, ..., 0], tiny_encoder)
    np.testing.assert_allclose(features, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("command", "function", "shipped"),
    [
        ("segment", "cifl_tf.segmentation.training.train_segmenter", "shapes-2d-v2"),
        ("register", "cifl_tf.registration.training.train_registration", "shapes-2d"),
    ],
)
def test_trainings_name_the_encoder_that_ships(
    weights, tmp_path, monkeypatch, command, function, shipped
):
    configs = []
    monkeypatch.setattr(function, lambda out, config, *_: configs.append(config))
    options = [command, "train", "--data", "virtual:5", "--out", tmp_path / "out"]
    done = run_here(*options)
    assert done.exit_code == 0
    assert done.stdout.startswith("Device: ")
    (weights / "my-2d").mkdir()
    monkeypatch.chdir(weights)
    chosen = ["--no-intensity-augmentation", "--random-contrast", 0.5, "--encoder"]
    for model in ("coarse-2d", "./coarse-2d", "my-2d", "intensity"):
        assert run_here(*options, *chosen, model).exit_code == 0
    default, *others = configs
    assert (default.encoder, default.intensity_augmentation, default.random_contrast) == (
        shipped,
        True,
        0,
    )
    folders = [str(weights / "coarse-2d"), str(weights / "my-2d")]
    assert [config.encoder for config in others] == ["coarse-2d", *folders, "intensity"]
    assert {(config.intensity_augmentation, config.random_contrast) for config in others} == {
        (False, 0.5)
    }

    for wrong, message in (
        (["--ndim", 3], "no encoder for 3D images ships with the package; give --encoder"),
        (["--random-contrast", 1.5], "random_contrast is 1.5; give a share"),
    ):
        done = run_here(*options, *wrong)
        assert done.exit_code == 1
        assert done.stderr.startswith(f"cifl: {message}")
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def _save(path, array, affine=AFFINE):
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def _broken_images(folder):
    """Files that cannot be used, and what the error has to say."""
    smooth = np.linspace(0, 1, 512, dtype=np.float32).reshape(8, 8, 8)
    (folder / "text.nii").write_text("this is no image")
    _save(folder / "whole.nii.gz", np.random.default_rng(0).random((30, 30, 30)))
    (folder / "short.nii.gz").write_bytes((folder / "whole.nii.gz").read_bytes()[:-5000])
    plain = gzip.decompress((folder / "whole.nii.gz").read_bytes())
    (folder / "short.nii").write_bytes(plain[:-5000])
    _save(folder / "frames.nii", np.stack([smooth] * 5, axis=-1))
    _save(folder / "constant.nii", np.ones((8, 8, 8), np.float32))
    _save(folder / "nan.nii", np.where(smooth > 0.99, np.nan, smooth))
    (folder / "image.png").write_bytes(b"png")
    return {
        "text.nii": "damaged",
        "short.nii.gz": "truncated",
        "short.nii": "truncated",
        "frames.nii": "5 frames",
        "constant.nii": "constant",
        "nan.nii": "6 NaN",
        "image.png": "does not end in",
        "missing.nii": "does not exist",
    }


def test_bad_images(model_folder, tmp_path):
    for name, message in _broken_images(tmp_path).items():
        options = ["--model", model_folder, "--out", tmp_path / "out", "--stripped"]
        done = run_here("features", tmp_path / name, *options)
        assert_one_line_error(done, message)
        assert name in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_recipe_of_a_training_is_chosen_by_options(tmp_path, monkeypatch):
    configs = []
    monkeypatch.setattr(
        "cifl_tf.features.training.train", lambda out, config: configs.append(config)
    )

    def run(*options):
        return run_here("train", "--out", tmp_path, *options)

    assert run().exit_code == 0
    loss = ["--window", "0", "--crop", "4", "--both-orders", "--scales", "2,4.5"]
    looks = ["--noise-std", "1,25", "--blur-std", "0,0", "--bias-std", "0,0.6"]
    assert run(*loss, *looks, "--initial", "shapes-2d").exit_code == 0
    chosen = TrainingConfig(
        scales=(2.0, 4.5),
        window=0,
        crop=4,
        both_orders=True,
        noise_std=(1.0, 25.0),
        blur_std=(0.0, 0.0),
        bias_std=(0.0, 0.6),
        initial="shapes-2d",
    )
    assert configs == [TrainingConfig(), chosen]
    for option, text, message in (
        ("--noise-std", "0,1,2", "'0,1,2'; give the lowest and the highest"),
        ("--blur-std", "0;1", "--blur-std is '0;1'; give numbers"),
        ("--bias-std", "0.6,0", "bias_std is (0.6, 0.0)"),
        ("--shape", "96,9.5", "--shape is '96,9.5'; give whole numbers"),
        ("--crop", "60", "at least 124 voxels"),
    ):
        assert_one_line_error(run(option, text), message)


def test_one_line_errors(model_folder, head, tmp_path):
    twin = tmp_path / "twin" / head.name
    twin.parent.mkdir()
    twin.write_bytes(head.read_bytes())
    out = ["--model", model_folder, "--out", tmp_path / "out"]
    assert_one_line_error(run_here("features", head, twin, *out), "would both become")
    other_steps = run_here("train", "--out", model_folder, "--steps", 5)
    assert_one_line_error(other_steps, "another configuration")
    no_model = run_here("demo", "--model", tmp_path, "--out", tmp_path / "out")
    assert_one_line_error(no_model, "does not exist")


def test_errors_are_one_line_of_a_process_too(run_cifl, tmp_path):
    done = run_cifl("features", tmp_path / "none.nii", "--out", tmp_path / "out", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("cifl: ")
    assert done.stderr.count("\n") == 1


def test_wrong_option_is_a_usage_error(tmp_path):
    done = run_here("train", "--out", tmp_path, "--step", 5)
    assert done.exit_code == 2
    assert "No such option" in done.stderr
