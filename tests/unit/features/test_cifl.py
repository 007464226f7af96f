import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import cifl_tf
from cifl_tf import CIFL, ContrastiveLoss, PairSynthesizer, build_encoder, shape_maps
from cifl_tf._compat import keras
from cifl_tf.features.cifl import border_energy

SHAPE, NUM_LABELS = (28, 32), 6
SIGNALS = {"pair_similarity", "channel_similarity", "unrelated_similarity", "border_energy"}


def small_loss():
    return ContrastiveLoss(crop=8, window=6)


def label_maps(count=4, seed=0):
    return shape_maps(SHAPE, NUM_LABELS, scales=(6, 12), seed=seed).batch(count)


def compiled(encoder, synthesized=True, learning_rate=1e-2, **arguments):
    synthesizer = PairSynthesizer(SHAPE, NUM_LABELS, (0, 1)) if synthesized else None
    model = CIFL(encoder, synthesizer)
    model.compile(keras.optimizers.Adam(learning_rate), small_loss(), **arguments)
    return model


def given_pairs(count=6):
    """Images and, as their other contrast, their inversions."""
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(count, *SHAPE, 1)).astype(np.float32)
    return tf.data.Dataset.from_tensor_slices((images, 1 - images))


def random_images(count=2):
    return np.random.default_rng(1).uniform(size=(count, *SHAPE, 1)).astype(np.float32)


class Position(keras.layers.Layer):
    """Features of where a voxel is, the same for every image."""

    def call(self, inputs):
        features = np.random.default_rng(0).normal(size=(1, *SHAPE, 4)).astype(np.float32)
        return tf.zeros_like(inputs) + features


def blind_encoder():
    image = keras.Input((*SHAPE, 1))
    blind = keras.layers.Conv2D(4, 3, padding="same", kernel_initializer="zeros")(image)
    return keras.Model(image, Position()(blind))


@pytest.fixture(scope="module")
def fitted():
    """A model after two steps, shared: tests leave it as it is."""
    model = compiled(build_encoder(num_features=4, num_filters=4))
    model.fit(label_maps(), steps_per_epoch=2, verbose=0)
    return model


def test_fit_on_shapes_lowers_the_loss_and_logs_the_signals(tiny_encoder):
    model = compiled(tiny_encoder)
    history = model.fit(
        label_maps(),
        steps_per_epoch=10,
        epochs=4,
        validation_data=label_maps(seed=1),
        validation_steps=2,
        verbose=0,
    ).history
    names = SIGNALS | {"loss"}
    assert set(history) == names | {f"val_{name}" for name in names}
    assert all(len(values) == 4 and np.all(np.isfinite(values)) for values in history.values())
    assert history["loss"][-1] < history["loss"][0] - 0.3
    assert history["val_loss"][-1] < history["loss"][0] - 0.3


def test_one_step_follows_the_gradient_of_the_loss(tiny_encoder):
    view_1, view_2 = (np.stack(views) for views in zip(*given_pairs().as_numpy_iterator()))  # noqa: B905
    model = CIFL(tiny_encoder)
    model.compile(keras.optimizers.SGD(0.1), small_loss())
    with tf.GradientTape() as tape:
        loss = small_loss()(tiny_encoder(view_1), tiny_encoder(view_2))
    gradients = tape.gradient(loss, tiny_encoder.trainable_variables)
    expected = [
        variable - 0.1 * gradient
        for variable, gradient in zip(tiny_encoder.trainable_variables, gradients, strict=True)
    ]
    logs = model.train_on_batch(view_1, view_2, return_dict=True)
    np.testing.assert_allclose(logs["loss"], loss, rtol=1e-5)
    for variable, value in zip(tiny_encoder.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(variable, value, rtol=1e-4, atol=1e-6)


def test_fit_on_given_pairs(tiny_encoder):
    model = compiled(tiny_encoder, synthesized=False, learning_rate=3e-3)
    history = model.fit(given_pairs().batch(3), epochs=8, verbose=0).history
    assert history["loss"][-1] < history["loss"][0] - 0.1
    assert set(history) == SIGNALS | {"loss"}


def test_fit_without_synthesizer_needs_pairs(tiny_encoder):
    model = compiled(tiny_encoder, synthesized=False)
    with pytest.raises(ValueError, match="without a synthesizer is fitted on a dataset of"):
        model.fit(random_images(), verbose=0)


def test_evaluate_does_not_train(fitted):
    weights = fitted.encoder.get_weights()
    logs = fitted.evaluate(label_maps(), steps=2, verbose=0, return_dict=True)
    assert set(logs) == SIGNALS | {"loss"}
    for weight, before in zip(fitted.encoder.weights, weights, strict=True):
        np.testing.assert_array_equal(weight, before)


def test_call_and_predict_give_the_features_of_the_encoder(fitted):
    images = random_images()
    features = fitted.encoder(images)
    np.testing.assert_array_equal(fitted(images), features)
    np.testing.assert_allclose(fitted.predict(images, verbose=0), features, atol=1e-5)
    other_size = np.zeros((1, 17, 41, 1), np.float32)
    assert fitted(other_size).shape == (1, 17, 41, 4)


def test_reload_goes_on_training(tmp_path, fitted, recwarn):
    fitted.save(tmp_path / "model.keras")
    assert [str(warning.message) for warning in recwarn if warning.category is UserWarning] == []
    restored = keras.models.load_model(tmp_path / "model.keras")
    images = random_images()
    assert type(restored) is CIFL
    np.testing.assert_array_equal(restored(images), fitted(images))
    assert type(restored.loss) is ContrastiveLoss
    assert restored.loss.get_config() == fitted.loss.get_config()
    assert type(restored.synthesizer) is PairSynthesizer
    assert restored.synthesizer.get_config() == fitted.synthesizer.get_config()
    assert restored.optimizer.iterations == 2
    restored.fit(label_maps(), steps_per_epoch=1, verbose=0)
    assert restored.optimizer.iterations == 3
    assert np.any(restored(images) != fitted(images))


def test_reload_keeps_the_state_of_the_optimizer(tmp_path, tiny_encoder):
    view_1, view_2 = random_images(), random_images()[::-1]
    model = compiled(tiny_encoder, synthesized=False)
    model.train_on_batch(view_1, view_2)
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    assert restored.synthesizer is None
    for one in (model, restored):
        one.train_on_batch(view_1, view_2)
    for weight, expected in zip(restored.encoder.weights, model.encoder.weights, strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-5, atol=1e-7)


def test_weights_go_to_a_new_model(tmp_path, fitted):
    fitted.save_weights(tmp_path / "cifl.weights.h5")
    other = compiled(build_encoder(num_features=4, num_filters=4))
    other.load_weights(tmp_path / "cifl.weights.h5")
    np.testing.assert_array_equal(other(random_images()), fitted(random_images()))


@pytest.mark.parametrize("synthesized", [True, False])
def test_config_round_trip(tiny_encoder, synthesized):
    synthesizer = PairSynthesizer(SHAPE, NUM_LABELS, name="pairs") if synthesized else None
    model = CIFL(tiny_encoder, synthesizer, name="mine")
    config = model.get_config()
    restored = CIFL.from_config(config)
    assert restored.name == "mine"
    assert restored.get_config() == config
    assert (restored.synthesizer is not None) == synthesized
    restored.set_weights(model.get_weights())
    np.testing.assert_array_equal(restored(random_images()), model(random_images()))


@pytest.mark.usefixtures("mixed_bfloat16")
def test_fit_under_mixed_precision():
    model = compiled(build_encoder(num_features=4, num_filters=4))
    logs = model.fit(label_maps(), steps_per_epoch=3, verbose=0).history
    assert np.all([np.isfinite(values) for values in logs.values()])
    assert model.encoder.get_layer("conv_0").compute_dtype == "bfloat16"
    assert {weight.dtype for weight in model.encoder.weights} == {tf.float32}
    assert model(random_images()).dtype == tf.float32


# Signals of collapse


def test_an_encoder_that_ignores_its_image_shows():
    logs = compiled(blind_encoder()).evaluate(label_maps(), steps=1, verbose=0, return_dict=True)
    assert logs["pair_similarity"] == pytest.approx(1, abs=1e-5)
    assert logs["unrelated_similarity"] == pytest.approx(1, abs=1e-5)


def test_an_encoder_that_sees_its_image_shows():
    # Both views are the image itself, so that even an untrained encoder agrees on them.
    model = compiled(build_encoder(num_features=4, num_filters=4), synthesized=False)
    logs = model.test_on_batch(random_images(6), random_images(6), return_dict=True)
    assert logs["pair_similarity"] == pytest.approx(1, abs=1e-5)
    assert logs["unrelated_similarity"] < 0.5


def test_unrelated_similarity_of_a_batch_of_one_is_not_a_number(tiny_encoder):
    model = compiled(tiny_encoder, synthesized=False)
    for count in (1, 2):
        logs = model.test_on_batch(random_images(count), random_images(count), return_dict=True)
        assert np.isnan(logs["unrelated_similarity"]) == (count == 1)
        assert np.isfinite([logs[name] for name in logs if name != "unrelated_similarity"]).all()


def test_signals_are_those_of_the_features_in_the_losss_own_crop():
    rng = np.random.default_rng(0)
    inside = np.zeros((1, *SHAPE, 1), bool)
    inside[:, 8:-8, 8:-8] = True
    same = rng.normal(size=(1, *SHAPE, 1))
    # Identity as encoder; views alike only where the loss looks.
    views = [np.where(inside, same, rng.normal(size=(3, *SHAPE, 1))) for _ in range(2)]
    views = [np.concatenate([view, -view], axis=-1).astype(np.float32) for view in views]
    image = keras.Input((*SHAPE, 2))
    model = CIFL(keras.Model(image, keras.layers.Activation("linear")(image)))
    for crop, expected in ((8, 1.0), (0, 0.5)):
        model.compile("sgd", ContrastiveLoss(crop=crop, window=None))
        logs = model.test_on_batch(*views, return_dict=True)
        assert (logs["pair_similarity"] > 0.99) == (expected == 1)
        assert logs["channel_similarity"] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("shape", [(20, 24), (12, 13, 14)])
@pytest.mark.parametrize("width", [1, 3])
def test_border_energy(shape, width):
    ring = np.ones(shape, bool)
    ring[tuple(slice(width, -width) for _ in shape)] = False
    features = np.random.default_rng(0).normal(size=(4, *shape, 3)).astype(np.float32)
    features[0] = -2
    features[1] = 5 * ring[..., None]
    features[2] = ~ring[..., None]
    energy = (features.astype(np.float64) ** 2).mean(-1)
    expected = [one[ring].mean() / one.mean() for one in energy]
    np.testing.assert_allclose(border_energy(tf.constant(features), width), expected, rtol=1e-4)
    np.testing.assert_allclose(expected[:3], [1, ring.size / ring.sum(), 0], rtol=1e-6)


def test_border_energy_of_nothing_is_zero_and_of_all_border_is_one():
    features = np.zeros((2, 6, 7, 2), np.float32)
    features[1] = np.random.default_rng(0).normal(size=(6, 7, 2))
    np.testing.assert_allclose(border_energy(tf.constant(features), 8), [0, 1], rtol=1e-5)


def test_border_energy_is_logged_in_the_width_of_the_crop():
    signal = np.zeros((2, *SHAPE, 4), np.float32)
    signal[:, :10, :10] = 1
    image = keras.Input((*SHAPE, 4))
    model = CIFL(keras.Model(image, keras.layers.Activation("linear")(image)))
    for crop, width in ((3, 3), (0, 8)):
        model.compile("sgd", ContrastiveLoss(crop=crop, window=None))
        logs = model.test_on_batch(signal, signal, return_dict=True)
        expected = border_energy(tf.constant(signal), width)[0]
        assert logs["border_energy"] == pytest.approx(float(expected), rel=1e-5)


def test_two_devices(tmp_path):
    # In a process of its own: logical devices must be configured before TensorFlow starts.
    code = f"""
        import cifl_tf, numpy as np, tensorflow as tf
        from cifl_tf._compat import keras
        tf.config.threading.set_intra_op_parallelism_threads(2)
        cpu = tf.config.list_physical_devices("CPU")[0]
        logical = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, logical)
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        assert strategy.num_replicas_in_sync == 2
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model = cifl_tf.CIFL(cifl_tf.build_encoder(2, 4, 4))
            model.compile(keras.optimizers.SGD(0.1), cifl_tf.ContrastiveLoss(crop=8, window=6))
        assert model.weights[0].values[0].device != model.weights[0].values[1].device
        images = np.random.default_rng(0).uniform(size=(4, {SHAPE[0]}, {SHAPE[1]}, 1))
        images = images.astype("float32")
        with tf.GradientTape() as tape:
            views = model.encoder(images), model.encoder(1 - images)
            loss = cifl_tf.ContrastiveLoss(crop=8, window=6)(*views)
        weights = model.encoder.get_weights()
        gradients = tape.gradient(loss, model.encoder.trainable_variables)
        # What two devices do with a batch of 4 is what one would do.
        history = model.fit(images, 1 - images, batch_size=4, verbose=0).history
        np.testing.assert_allclose(history["loss"], [loss], rtol=1e-4)
        for weight, before, gradient in zip(model.encoder.weights, weights, gradients, strict=True):
            expected = before - 0.1 * np.array(gradient)
            np.testing.assert_allclose(weight, expected, rtol=1e-3, atol=1e-5)

        with strategy.scope():
            synthesizer = cifl_tf.PairSynthesizer({SHAPE}, {NUM_LABELS}, (0, 0))
            model = cifl_tf.CIFL(model.encoder, synthesizer)
            model.compile("adam", cifl_tf.ContrastiveLoss(crop=8, window=6))
        maps = cifl_tf.shape_maps({SHAPE}, {NUM_LABELS}).batch(4)
        history = model.fit(maps, steps_per_epoch=2, verbose=0).history
        assert np.isfinite(list(history.values())).all(), history
        model.save("model.keras")
        restored = keras.models.load_model("model.keras")
        np.testing.assert_allclose(restored(images), model(images), atol=1e-5)
    """
    root = Path(cifl_tf.__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(root), "CUDA_VISIBLE_DEVICES": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-3000:]
