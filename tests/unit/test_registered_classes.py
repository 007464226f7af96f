"""What every layer, model, loss and metric keeps that Keras saves under a name of this package."""

import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import tensorflow as tf

import cifl_tf
from cifl_tf._compat import keras
from cifl_tf.augmentation.test_time import AverageOverCopies
from cifl_tf.features.frozen import FrozenFeatures
from cifl_tf.features.layers import CropTo, L2Normalize, PadToMultiple, RescaleIntensity
from cifl_tf.features.mind import MindSSC
from cifl_tf.features.slicewise import Slicewise
from cifl_tf.images.preprocessing import Preprocessing, exact_voxel_size
from cifl_tf.models.config import PREFIX, REGISTERING_MODULES
from cifl_tf.models.image_model import ImageModel
from cifl_tf.registration.dense import ResizeDisplacement
from cifl_tf.registration.similarity import LocalNCC, MultiScaleMSE
from cifl_tf.stripping.losses import DistanceLoss
from cifl_tf.synthesis.integration import IntegrateVelocity

SHAPE, NUM_LABELS = (16, 20), 3
IMAGE, FEATURES, LABELS = (*SHAPE, 1), (*SHAPE, 4), "labels"
AT_2_MM = Preprocessing(exact_voxel_size((2, 2, 2)), "axial")
APPEARANCE = cifl_tf.Appearance(mean=(10, 90), noise_std=(3, 4), gamma_std=0.1)


def encoder():
    return cifl_tf.build_encoder(num_features=4, num_filters=2)


def segmenter():
    return cifl_tf.build_segmenter(encoder(), NUM_LABELS, num_filters=2, num_levels=2)


def registration():
    return cifl_tf.Registration(
        encoder(), SHAPE, ("gamma",), int_steps=1, num_filters=2, preprocessing=AT_2_MM
    )


@dataclass(frozen=True)
class Case:
    """A layer or model.

    Attributes:
        build: gives one, with settings that are not the defaults.
        inputs: shapes of its inputs without batch, or "labels" for label maps.
        drawn: its output is random.
    """

    build: Callable
    inputs: Sequence = (IMAGE,)
    drawn: bool = False


LAYERS = {
    "L2Normalize": Case(lambda: L2Normalize(1e-6, name="a"), (FEATURES, IMAGE)),
    "PadToMultiple": Case(lambda: PadToMultiple(8, name="b")),
    "CropTo": Case(CropTo, (FEATURES, IMAGE)),
    "RescaleIntensity": Case(lambda: RescaleIntensity(upper=98.0)),
    "IntegrateVelocity": Case(lambda: IntegrateVelocity(2), ((*SHAPE, 2),)),
    "ResizeDisplacement": Case(lambda: ResizeDisplacement([9, 8]), ((*SHAPE, 2),)),
    "MindSSC": Case(lambda: MindSSC(2, 3)),
    "Slicewise": Case(lambda: Slicewise(encoder(), (2, 0)), ((8, 6, 4, 1),)),
    "FrozenFeatures": Case(lambda: FrozenFeatures(encoder(), ("inverted", "gamma"))),
    "AverageOverCopies": Case(lambda: AverageOverCopies(encoder(), 1, (0.8,))),
    "PairSynthesizer": Case(
        lambda: cifl_tf.PairSynthesizer(SHAPE, NUM_LABELS, (1, 2), 9.0, APPEARANCE),
        (LABELS,),
        drawn=True,
    ),
}
MODELS = {
    "ImageModel": Case(lambda: ImageModel(encoder(), AT_2_MM)),
    "Encoder": Case(lambda: cifl_tf.Encoder(encoder(), AT_2_MM, receptive_radius=7)),
    "Segmenter": Case(
        lambda: cifl_tf.Segmenter(segmenter(), AT_2_MM, ("", "a", "b"), (0, 2, 41), (0.1, 0.9))
    ),
    "Stripper": Case(lambda: cifl_tf.Stripper(encoder(), AT_2_MM)),
    "CIFL": Case(lambda: cifl_tf.CIFL(encoder(), name="mine")),
    "Registration": Case(registration, (IMAGE, IMAGE)),
}
LOSSES = {
    "ContrastiveLoss": lambda: cifl_tf.ContrastiveLoss(0.4, 0.5, 0.2, 3, 6, True, name="mine"),
    "SegmentationLoss": lambda: cifl_tf.SegmentationLoss(name="mine"),
    "MultiScaleMSE": lambda: MultiScaleMSE(num_scales=2),
    "LocalNCC": lambda: LocalNCC(window=5),
    "DistanceLoss": lambda: DistanceLoss(name="mine"),
}
METRICS = {"MeanDice": lambda: cifl_tf.MeanDice(NUM_LABELS, name="mine")}
CASES = LAYERS | MODELS
FORMER_NAMES = {"RegistrationNetwork"}


def draw(rng, shape, batch=2):
    if shape == LABELS:
        return rng.integers(0, NUM_LABELS, (batch, *IMAGE)).astype(np.int32)
    return rng.random((batch, *shape)).astype(np.float32)


def in_a_model(case):
    """The layer as a model of its own; a model as it is."""
    built = case.build()
    if isinstance(built, keras.Model):
        return built
    inputs = [
        keras.Input(IMAGE if shape == LABELS else shape, dtype="int32" if shape == LABELS else None)
        for shape in case.inputs
    ]
    return keras.Model(inputs, built(inputs if len(inputs) > 1 else inputs[0]))


def outputs_of(model, arrays):
    found = tf.nest.flatten(model(arrays if len(arrays) > 1 else arrays[0]))
    return [tf.cast(each, tf.float32).numpy() for each in found]


def through_json(thing):
    """The object that the JSON of this one describes."""
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(thing)))
    return keras.saving.deserialize_keras_object(config)


def as_json(config):
    return json.loads(json.dumps(config))


def test_all_classes_are_here():
    for module in REGISTERING_MODULES:
        importlib.import_module(f"cifl_tf.{module}")
    registered = {
        name.removeprefix(PREFIX)
        for name, found in keras.saving.get_custom_objects().items()
        if name.startswith(PREFIX) and found.__module__.startswith("cifl_tf.")
    }
    assert registered == {*CASES, *LOSSES, *METRICS} | FORMER_NAMES


@pytest.mark.parametrize("name", [*CASES, *LOSSES, *METRICS])
def test_its_configuration_builds_it_again(name):
    built = CASES[name].build() if name in CASES else (LOSSES | METRICS)[name]()
    again = through_json(built)
    assert type(again) is type(built)
    assert as_json(again.get_config()) == as_json(built.get_config())


@pytest.mark.parametrize("name", CASES)
def test_saved_and_loaded_without_custom_objects_it_gives_the_same(name, tmp_path, rng):
    case = CASES[name]
    model, arrays = in_a_model(case), [draw(rng, shape) for shape in case.inputs]
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for ours, theirs in zip(outputs_of(again, arrays), outputs_of(model, arrays), strict=True):
        assert ours.shape == theirs.shape
        assert case.drawn or np.array_equal(ours, theirs)
    assert as_json(again.get_config()) == as_json(model.get_config())


@pytest.mark.usefixtures("mixed_bfloat16")
@pytest.mark.parametrize("name", CASES)
def test_in_lower_precision_its_weights_are_float32_and_its_outputs_finite(name, rng):
    case = CASES[name]
    model = in_a_model(case)
    assert {weight.dtype for weight in model.weights if weight.dtype.is_floating} <= {tf.float32}
    arrays = [draw(rng, shape) for shape in case.inputs]
    assert all(np.isfinite(each).all() for each in outputs_of(model, arrays))


@pytest.mark.parametrize("name", LAYERS)
def test_a_model_with_the_layer_is_fitted(name, rng):
    case = LAYERS[name]
    model = in_a_model(case)
    first = tf.nest.flatten(model.outputs)[0]
    fitted = keras.Model(model.inputs, keras.layers.Dense(1, dtype="float32")(first))
    fitted.compile("sgd", "mse", metrics=["mae"])
    arrays = [draw(rng, shape) for shape in case.inputs]
    target = np.ones((2, *first.shape[1:-1], 1), np.float32)
    before = fitted.layers[-1].get_weights()
    history = fitted.fit(arrays, target, verbose=0).history
    assert np.isfinite(history["loss"] + history["mae"]).all()
    assert (fitted.layers[-1].get_weights()[1] != before[1]).all()


@pytest.mark.parametrize("name", MODELS)
def test_the_model_is_fitted_and_logs_what_compile_asks_for(name, rng):
    model = MODELS[name].build()
    image, other = draw(rng, IMAGE), draw(rng, IMAGE)
    data = {
        "Segmenter": (image, draw(rng, LABELS)),
        "CIFL": (image, other),
        "Registration": ((image, other),),
    }.get(name, (image, draw(rng, FEATURES)))
    loss = {"Segmenter": cifl_tf.SegmentationLoss(), "CIFL": cifl_tf.ContrastiveLoss(crop=2)}
    metric = cifl_tf.MeanDice(NUM_LABELS) if name == "Segmenter" else "mae"
    model.compile("sgd", loss.get(name, "mse"), metrics=[metric])
    before = [weight.numpy() for weight in model.trainable_weights]
    dataset = tf.data.Dataset.from_tensors(data)
    history = model.fit(dataset, validation_data=dataset, verbose=0).history
    wanted = "dice" if name == "Segmenter" else "mae"
    assert {"loss", "val_loss", wanted, f"val_{wanted}"} <= set(history)
    assert np.isfinite(history[wanted]).all()
    pairs = zip(model.trainable_weights, before, strict=True)
    assert any(np.any(weight.numpy() != old) for weight, old in pairs)


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_is_one_finite_value_per_image_in_any_precision(name, rng):
    loss = LOSSES[name]()
    again = through_json(loss)
    if name == "SegmentationLoss":
        truth, found = draw(rng, LABELS), draw(rng, (*SHAPE, NUM_LABELS)) / NUM_LABELS
    else:
        truth, found = draw(rng, FEATURES), draw(rng, FEATURES)
    values = loss.call(tf.constant(truth), tf.constant(found)).numpy()
    assert values.shape == (2,)
    np.testing.assert_array_equal(again.call(tf.constant(truth), tf.constant(found)), values)
    coarse = loss.call(tf.constant(truth), tf.cast(found, tf.bfloat16))
    np.testing.assert_allclose(tf.cast(coarse, tf.float32), values, rtol=0.1, atol=0.05)


@pytest.mark.parametrize("name", METRICS)
def test_the_metric_counts_and_forgets(name, rng):
    metric = METRICS[name]()
    labels = draw(rng, LABELS)
    perfect = np.eye(NUM_LABELS, dtype=np.float32)[labels[..., 0]]
    metric.update_state(labels, perfect)
    assert float(metric.result()) == pytest.approx(1)
    metric.reset_state()
    metric.update_state(labels, np.roll(perfect, 1, axis=-1))
    assert float(metric.result()) == pytest.approx(0)


def test_a_metric_of_a_registration_gets_what_the_loss_compares(rng):
    images = draw(rng, IMAGE), draw(rng, IMAGE)
    model = registration()
    model.compile("sgd", "mse", metrics=["mse"])
    logs = model.evaluate(tf.data.Dataset.from_tensors((images,)), verbose=0, return_dict=True)
    assert logs["mse"] == pytest.approx(logs["similarity"], rel=1e-5)


def test_a_metric_of_cifl_gets_the_features_of_both_views(rng):
    images = draw(rng, IMAGE), draw(rng, IMAGE)
    model = cifl_tf.CIFL(encoder())
    model.compile("sgd", cifl_tf.ContrastiveLoss(crop=2), metrics=["mse"])
    logs = model.test_on_batch(*images, return_dict=True)
    first, second = (model(image).numpy() for image in images)
    assert logs["mse"] == pytest.approx(np.mean((first - second) ** 2), rel=1e-4)
