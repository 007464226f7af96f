import json

import nibabel
import numpy as np
import pytest
import tensorflow as tf

import cifl_tf
from cifl_tf import Appearance, ContrastiveLoss, build_encoder, receptive_radius
from cifl_tf._compat import keras
from cifl_tf.features.callbacks import SaveEncoder, SnapshotEncoder
from cifl_tf.features.config import TrainingConfig
from cifl_tf.features.training import build_model, train
from cifl_tf.models.files import load_network
from cifl_tf.models.precision import in_float32
from cifl_tf.training.callbacks import read_history

TINY = {"shape": (24, 24), "num_features": 3, "num_filters": 2, "batch_size": 2}


@pytest.fixture(autouse=True)
def _short_epochs(monkeypatch):
    monkeypatch.setattr("cifl_tf.training.folder.MAX_STEPS_PER_EPOCH", 3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder after two epochs, which tests do not change, and the encoder that came of them."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cifl_tf.training.folder.MAX_STEPS_PER_EPOCH", 3)
        return folder, train(folder, TrainingConfig(steps=5, **TINY), verbose=0)


@pytest.fixture
def fitted(monkeypatch):
    """The models that were to be fitted; their encoders are saved as they are."""
    models = []

    def fit(model, data, steps, out, *_):
        models.append(model)
        model.encoder.save(out / "encoder.keras")

    monkeypatch.setattr("cifl_tf.training.folder.fit_in_folder", fit)
    return models


def contents(folder):
    """All files of a folder with their times and bytes."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_folder_is_complete(trained):
    folder, encoder = trained
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "encoder.keras", "history.csv", "checkpoints", "logs"}
    history = read_history(folder / "history.csv")
    assert [(row["epoch"], row["step"]) for row in history] == [("0", "3"), ("1", "5")]
    assert float(history[0]["loss"]) > 0
    assert json.loads((folder / "config.json").read_text())["shape"] == [24, 24]
    image = np.random.default_rng(0).random((30, 30))
    np.testing.assert_array_equal(
        cifl_tf.features_of(image, encoder),
        cifl_tf.features_of(image, cifl_tf.load_encoder(folder)),
    )
    pictures = [
        value
        for file in (folder / "logs" / "pictures").iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    ]
    assert len(pictures) == 2
    pixels = tf.io.decode_png(pictures[0].tensor.string_val[2])
    assert len(np.unique(pixels)) > 50


def test_complete_folder_is_loaded_not_trained(trained):
    folder, encoder = trained
    before = contents(folder)
    again = train(folder, TrainingConfig(steps=5, **TINY), verbose=0)
    assert contents(folder) == before
    for mine, other in zip(again.get_weights(), encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_an_epoch_enters_the_history_when_its_files_are_there(tmp_path, monkeypatch):
    def killed(self, epoch, logs=None):
        raise InterruptedError

    config = TrainingConfig(steps=2, **TINY)
    with monkeypatch.context() as patch:
        patch.setattr(SaveEncoder, "on_epoch_end", killed)
        with pytest.raises(InterruptedError):
            train(tmp_path, config, verbose=0)
    assert read_history(tmp_path / "history.csv") == []
    train(tmp_path, config, verbose=0)
    assert len(read_history(tmp_path / "history.csv")) == 1
    cifl_tf.load_encoder(tmp_path)


def test_snapshots_are_the_encoder_on_the_way_and_do_not_change_the_end(trained, tmp_path):
    _, encoder = trained
    snapshots = SnapshotEncoder(tmp_path / "snapshots", [2, 5])
    config = TrainingConfig(steps=5, **TINY)
    train(tmp_path / "model", config, verbose=0, callbacks=[snapshots])
    assert {path.name for path in snapshots.folder.iterdir()} == {"step-2.keras", "step-5.keras"}
    on_the_way, at_the_end = (load_network(snapshots.path(step)).get_weights() for step in (2, 5))
    for mine, early, other in zip(at_the_end, on_the_way, encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)
        assert np.any(mine != early)


def test_training_starts_from_an_encoder_and_goes_on_without_it(tmp_path, monkeypatch):
    sizes = {"num_features": 3, "num_filters": 2}
    initial = tmp_path / "initial.keras"
    source = build_encoder(2, **sizes)
    source.save(initial)
    config = TrainingConfig(steps=6, learning_rate=1e-9, initial=str(initial), **TINY)

    def killed(self, epoch, logs=None):
        if epoch == 1:
            raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(SaveEncoder, "on_epoch_begin", killed)
        with pytest.raises(InterruptedError):
            train(tmp_path / "model", config, verbose=0)
    initial.unlink()
    encoder = train(tmp_path / "model", config, verbose=0)
    assert len(read_history(tmp_path / "model" / "history.csv")) == 2
    image = np.random.default_rng(0).random((1, 30, 30, 1))
    np.testing.assert_allclose(encoder(image), source(image), atol=1e-4)


def test_nothing_is_written_where_an_initial_encoder_does_not_fit(tmp_path):
    config = TrainingConfig(steps=1, initial="shapes-3d", **TINY)
    with pytest.raises(ValueError, match="the encoder to start from has 8 3D convolutions"):
        train(tmp_path / "model", config, verbose=0)
    assert not (tmp_path / "model").exists()


def test_another_configuration_is_refused(trained):
    folder, _ = trained
    before = contents(folder)
    with pytest.raises(ValueError, match="steps 5 there, 6 asked, seed 0 there, 1 asked"):
        train(folder, TrainingConfig(steps=6, seed=1, **TINY), verbose=0)
    assert contents(folder) == before


def test_bfloat16_is_for_training_only(tmp_path):
    config = TrainingConfig(steps=3, precision="mixed_bfloat16", **TINY)
    model = build_model(config, None)
    assert model.encoder.layers[1].compute_dtype == "bfloat16"
    assert keras.mixed_precision.global_policy().name == "float32"
    copy = in_float32(model.encoder)
    for mine, other in zip(copy.get_weights(), model.encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)
    assert in_float32(copy) is copy
    encoder = train(tmp_path / "model", config, verbose=0)
    assert {layer.compute_dtype for layer in encoder.layers} == {"float32"}


def test_foreign_and_damaged_folders_are_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(ValueError, match="not a training folder"):
        train(tmp_path, TrainingConfig(steps=1, **TINY), verbose=0)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        train(tmp_path, TrainingConfig(steps=1, **TINY), verbose=0)


def test_temporary_files_of_a_killed_run_do_not_matter(tmp_path, fitted):
    (tmp_path / ".1234.config.json").write_text("{")
    train(tmp_path, TrainingConfig(steps=1, **TINY), verbose=0)
    assert len(fitted) == 1
    assert (tmp_path / "encoder.keras").exists()


def test_volumes_and_own_segmentations(tmp_path):
    labels = np.zeros((24, 24, 24), np.int16)
    labels[4:15, 6:17, 8:19] = 3
    labels[8:12, 9:12, 10:13] = 9
    (tmp_path / "labels").mkdir()
    nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), tmp_path / "labels" / "a.nii.gz")
    config = TrainingConfig(
        3, (20, 20, 20), 2, 2, steps=1, batch_size=1, labels=str(tmp_path / "labels")
    )
    encoder = train(tmp_path / "model", config, verbose=0)
    assert encoder.output_shape == (None, None, None, None, 2)


def test_the_whole_recipe_reaches_loss_and_images(tmp_path, fitted):
    looks = {"noise_std": (1, 25), "blur_std": (0, 0), "bias_std": (0.1, 0.6)}
    losses = {"tau_alpha": 0.4, "tau_beta": 0.5, "tau_gamma": 0.2, "crop": 4, "both_orders": True}
    config = TrainingConfig(**TINY, **looks, **losses, window=0)
    train(tmp_path, config)
    train(tmp_path, config)  # the same after JSON, where pairs are lists
    written = json.loads((tmp_path / "config.json").read_text())
    del written["version"]
    assert {name: tuple(written[name]) for name in looks} == looks
    assert TrainingConfig(**written).appearance == config.appearance
    assert len(fitted) == 2
    for model in fitted:
        assert model.synthesizer.appearance == Appearance(**looks)
        assert (losses | {"window": None}).items() <= model.loss.get_config().items()


def test_without_a_choice_the_loss_leaves_out_what_the_encoder_sees():
    default = build_model(TrainingConfig(), None).loss.get_config()
    assert default == ContrastiveLoss().get_config()
    unet = TrainingConfig(shape=(128, 128), architecture="unet")
    assert unet.loss_crop == receptive_radius("unet")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ndim": 4}, "ndim is 4"),
        ({"shape": (96, 96, 96)}, "one size per axis"),
        ({"shape": (96, 16)}, "at least 20 voxels"),
        ({"steps": 0}, "steps is 0"),
        ({"tau_gamma": -1.0}, "tau_gamma is -1.0"),
        ({"window": -1}, "window is -1"),
        ({"crop": -1}, "crop is -1"),
        ({"crop": 50}, "at least 104 voxels"),
        ({"shape": (6, 6), "crop": 0}, "at least 8 voxels"),
        ({"noise_std": (5, 0)}, r"noise_std is \(5, 0\)"),
        ({"blur_std": (-1, 0)}, r"blur_std is \(-1, 0\)"),
        ({"bias_std": (0, float("nan"))}, r"bias_std is \(0, nan\)"),
        ({"precision": "float8"}, "precision is 'float8'"),
        ({"architecture": "transformer"}, "architecture is 'transformer'"),
    ],
)
def test_wrong_configurations(wrong, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**wrong)
