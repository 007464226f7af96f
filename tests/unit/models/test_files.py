import copy
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import cifl_tf
from cifl_tf import Encoder, Segmenter
from cifl_tf._compat import keras
from cifl_tf.augmentation.test_time import average_over_copies
from cifl_tf.features.config import TrainingConfig
from cifl_tf.features.mind import build_mind_ssc
from cifl_tf.features.training import build_model
from cifl_tf.models.files import ENCODER, REGISTRATION, SEGMENTER, load_network
from cifl_tf.models.precision import precision_policy
from crafted_models import (
    EVIL,
    EVIL_FUNCTION,
    EVIL_LAYER,
    bytecode,
    chain,
    image,
    layer,
    model,
    old_format,
    refusal,
    saved,
    small_encoder,
    strided_encoder,
    zipped,
)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"does not exist; give the folder of a `cifl train`"):
        load_network(tmp_path / "encoder.keras")
    (tmp_path / "segmenter.keras").mkdir()
    with pytest.raises(ValueError, match="is not a file; give the folder of a `cifl segment tra"):
        cifl_tf.load_segmenter(tmp_path)


def test_training_is_left_out(good, trap):
    config = json.loads(good["config.json"])
    config["compile_config"] = {"optimizer": EVIL_LAYER, "loss": EVIL_FUNCTION}
    config["config"]["layers"][1]["compile_config"] = EVIL_LAYER
    content = model(config, good["model.weights.h5"])
    Path("encoder.keras").write_bytes(content)
    assert load_network("encoder.keras").output_shape == (None, None, None, 2)
    assert not trap.exists()
    assert EVIL not in sys.modules


def segmenter(encoder, ndim=2, **options):
    return cifl_tf.build_segmenter(encoder, 3, ndim, 2, 2, **options)


def in_bfloat16(architecture):
    with precision_policy("mixed_bfloat16"):
        return cifl_tf.build_encoder(2, 2, 2, architecture)


def compiled_segmenter():
    found = segmenter(small_encoder(), remappings=["inverted"], batch_norm=True)
    found.compile("adam", cifl_tf.SegmentationLoss(), [cifl_tf.MeanDice(3)])
    return found


def own_encoder():
    """What somebody may build of layers of Keras."""
    layers, image = keras.layers, keras.Input((None, None, 1))
    hidden = layers.Conv2D(4, 3, padding="same", activation=keras.activations.gelu)(image)
    hidden = layers.BatchNormalization()(
        layers.Add()([hidden, layers.PReLU(shared_axes=[1, 2])(hidden)])
    )
    hidden = layers.DepthwiseConv2D(3, padding="same", kernel_regularizer="l2")(hidden)
    hidden = layers.GroupNormalization(2)(layers.SpatialDropout2D(0.5)(hidden))
    features = layers.Conv2D(3, 1, kernel_constraint="non_neg", dtype="float32")(hidden)
    return keras.Model(image, features)


def sequential():
    layers = [
        keras.Input((None, None, None, 1)),
        keras.layers.Conv3D(2, 3, padding="same", activation="tanh"),
        keras.layers.Activation(keras.activations.swish),
    ]
    return keras.Sequential(layers)


def registration(**options):
    found = cifl_tf.RegistrationNetwork(None, [9, 8], num_filters=1, int_steps=1, **options)
    found.compile("adam", "mse")
    return found


KINDS = {
    "plain": (small_encoder, ENCODER),
    "plain, bfloat16": (lambda: in_bfloat16("plain"), ENCODER),
    "unet": (lambda: cifl_tf.build_encoder(2, 2, 1, "unet"), ENCODER),
    "unet, bfloat16": (lambda: in_bfloat16("unet"), ENCODER),
    "unet, volumes": (lambda: cifl_tf.build_encoder(3, 2, 1, "unet"), ENCODER),
    "of its voxel size": (lambda: Encoder(small_encoder()), ENCODER),
    "CIFL": (lambda: cifl_tf.CIFL(small_encoder()), ENCODER),
    "CIFL, compiled, with its synthesizer": (
        lambda: build_model(
            TrainingConfig(num_features=2, num_filters=1), cifl_tf.PairSynthesizer([9, 9], 3)
        ),
        ENCODER,
    ),
    "MIND": (build_mind_ssc, ENCODER),
    "MIND, volumes": (lambda: build_mind_ssc(3), ENCODER),
    "averaged encoder": (lambda: average_over_copies(small_encoder(), 0, [0.8]), ENCODER),
    "of Keras' layers": (own_encoder, ENCODER),
    "sequential": (sequential, ENCODER),
    "segmenter": (compiled_segmenter, SEGMENTER),
    "segmenter, volumes, intensities": (lambda: segmenter(None, 3), SEGMENTER),
    "averaged segmenter": (
        lambda: average_over_copies(segmenter(small_encoder()), 1, [0.8]),
        SEGMENTER,
    ),
    "segmenter of its labels": (
        lambda: Segmenter(average_over_copies(segmenter(None), 1), label_names=["", "a", "b"]),
        SEGMENTER,
    ),
    "registration": (registration, REGISTRATION),
}


@pytest.mark.parametrize(("build", "kind"), KINDS.values(), ids=KINDS)
def test_every_kind_that_is_saved_loads(build, kind, tmp_path, rng):
    given = build()
    given.save(tmp_path / "network.keras")
    found = load_network(tmp_path / "network.keras", kind)
    used = getattr(given, "encoder", given)
    if kind is REGISTRATION:
        images = [rng.random((1, 9, 8, 1), np.float32) for _ in range(2)]
    else:
        images = rng.random((1, *[9] * (len(used.input_shape) - 2), 1), np.float32)
    np.testing.assert_array_equal(found(images), used(images))
    assert type(found) is type(used)


@pytest.mark.parametrize(
    ("build", "kind", "match"),
    [
        (
            registration,
            ENCODER,
            "holds a registration network, which `cifl register apply` takes; give an encoder, "
            "trained by `cifl train`",
        ),
        (lambda: segmenter(None), ENCODER, "holds a segmenter, which `cifl segment apply` takes"),
        (lambda: Segmenter(segmenter(None)), REGISTRATION, "holds a segmenter"),
        (small_encoder, SEGMENTER, "holds an encoder, which `cifl features` takes; give a segm"),
        (lambda: cifl_tf.CIFL(small_encoder()), REGISTRATION, "holds an encoder"),
        (
            strided_encoder,
            ENCODER,
            r"from \(1, 32, 32, 1\) to \(1, 16, 16, 2\), but an encoder gives",
        ),
    ],
)
def test_another_kind_is_refused(build, kind, match, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert re.search(match, refusal(saved(build(), tmp_path), kind))


@pytest.mark.parametrize(
    "config",
    [
        chain(layer("Conv2D", filters=1, kernel_size=1)),
        chain(layer("GlobalAveragePooling2D")),
        chain(start=image((None, None, None, 3))),
        chain(layer("Flatten"), start=image((None, 4, 4, 1))),
    ],
)
def test_other_shapes_are_refused(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = copy.deepcopy(config)
    given = keras.saving.deserialize_keras_object(config)
    assert "an encoder gives at least two channels" in refusal(saved(given, tmp_path))


def test_the_file_that_was_checked_is_the_one_that_is_loaded(good, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "encoder.keras"
    file.write_bytes(zipped(*good.items()))
    load = keras.models.load_model

    def exchanged(path, **options):
        file.write_bytes(old_format(bytecode(tmp_path / "RAN")))
        return load(path, **options)

    monkeypatch.setattr(keras.models, "load_model", exchanged)
    assert load_network(file).output_shape == (None, None, None, 2)
    assert not (tmp_path / "RAN").exists()


def test_nothing_else_of_the_package_loads_models():
    package = Path(cifl_tf.__file__).parent
    loading = re.compile(r"load_model|saved_model\.load|load_weights|pickle|marshal")
    found = {
        file.relative_to(package).as_posix()
        for file in package.rglob("*.py")
        if loading.search(file.read_text())
    }
    # The second runs SavedModels, which TensorFlow alone reads.
    assert found == {"models/files.py", "beam/models.py"}
