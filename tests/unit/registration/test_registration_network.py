import dataclasses

import numpy as np
import pytest
import tensorflow as tf

import cifl_tf
from cifl_tf._compat import keras
from cifl_tf.metrics import folding_fraction
from cifl_tf.registration.arrays import register_arrays
from cifl_tf.registration.displacements import compose, invert_displacement, warp
from cifl_tf.registration.instance import (
    InstanceSettings,
    _optimizer,
    bspline_basis,
    optimize_instance,
)
from cifl_tf.registration.network import Registration
from cifl_tf.registration.similarity import LocalNCC
from cifl_tf.synthesis.pairs import interpolate

SHAPE = (37, 44)  # no multiple of anything


def smooth(rng, shape, std, scale):
    """Smooth random field (*shape, len(shape))."""
    ndim = len(shape)
    coarse = std * rng.standard_normal((1, ndim, *(max(2, size // scale) for size in shape)))
    return np.moveaxis(interpolate(coarse.astype(np.float32), shape).numpy()[0], 0, -1)


def textures(rng, num, shape=SHAPE):
    """Images (num, *shape, 1) in [0, 1] with structure at two scales."""
    images = [
        smooth(rng, shape, 1.0, 4)[..., :1] + smooth(rng, shape, 1.0, 10)[..., :1]
        for _ in range(num)
    ]
    return np.stack([(image - image.min()) / np.ptp(image) for image in images])


def moved(network):
    """The network with weights of the last layer that move something."""
    for weight in network.trainable_variables[-2:]:
        weight.assign(tf.random.normal(weight.shape, stddev=0.3))
    return network


@pytest.mark.parametrize("intensity", [True, False])
def test_a_network_of_zeros_does_not_move(rng, tiny_encoder, intensity):
    network = Registration(None if intensity else tiny_encoder, SHAPE)
    for weight in network.trainable_variables[-2:]:
        weight.assign(tf.zeros_like(weight))
    images = textures(rng, 2)
    displacement = register_arrays(network, images, images[::-1])
    assert displacement.shape == (2, *SHAPE, 2)
    np.testing.assert_array_equal(displacement, 0)
    np.testing.assert_array_equal(warp(images, displacement), images)


@pytest.mark.parametrize(("similarity", "num_cascades"), [("image", 1), ("features", 2)])
def test_fit_learns_and_leaves_the_encoder_alone(rng, tiny_encoder, similarity, num_cascades):
    network = Registration(
        tiny_encoder, SHAPE, ["gamma"], similarity, label_weight=1.0, num_cascades=num_cascades
    )
    network.compile(keras.optimizers.Adam(1e-3), LocalNCC(window=5))
    before = [weight.numpy() for weight in tiny_encoder.weights]
    images = textures(rng, 4)
    labels = np.eye(3, dtype=np.float32)[np.digitize(images[..., 0], [0.4, 0.6])]
    pairs = (images, images[::-1]), (labels, labels[::-1])
    data = tf.data.Dataset.from_tensor_slices(pairs).batch(4).repeat()
    validation = data.take(1) if similarity == "features" else None
    logs = network.fit(data, epochs=2, steps_per_epoch=12, verbose=0, validation_data=validation)
    assert logs.history["loss"][1] < logs.history["loss"][0]
    assert {"similarity", "smoothness", "label_dice"} <= set(logs.history)
    assert ("val_label_dice" in logs.history) == (validation is not None)
    for weight, old in zip(tiny_encoder.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), old)
    encoder_names = {weight.ref() for weight in tiny_encoder.weights}
    assert not encoder_names & {weight.ref() for weight in network.trainable_variables}


def test_a_look_changes_what_the_network_sees_and_not_what_the_loss_compares(rng, tiny_encoder):
    network = moved(Registration(tiny_encoder, SHAPE, smoothness=0.0))
    network.compile(keras.optimizers.SGD(0.0), "mse")
    moving, fixed = (textures(rng, 3) for _ in range(2))
    network.intensity_augmentation = lambda image, labels: (1 - image, labels)
    data = tf.data.Dataset.from_tensors(((moving, fixed),))
    logs = network.fit(data, verbose=0, validation_data=data).history
    for name, seen in (
        ("similarity", [1 - moving, 1 - fixed]),
        ("val_similarity", [moving, fixed]),
    ):
        expected = np.mean((fixed - warp(moving, network(seen).numpy())) ** 2)
        assert logs[name] == [pytest.approx(expected, rel=1e-4)]


def test_saved_and_loaded_it_gives_the_same(rng, tiny_encoder, tmp_path):
    network = moved(Registration(tiny_encoder, SHAPE, ("inverted", "gamma")))
    network.compile("adam", LocalNCC(window=7))
    network.save(tmp_path / "network.keras")
    again = keras.models.load_model(tmp_path / "network.keras")
    moving, fixed = textures(rng, 2)[..., 0]
    displacement = register_arrays(network, moving, fixed)
    assert np.abs(displacement).max() > 0.1
    np.testing.assert_array_equal(register_arrays(again, moving, fixed), displacement)
    assert again.loss.window == 7
    assert again.extract.remappings == ("inverted", "gamma 0.4")
    assert again.get_config()["remappings"] == network.get_config()["remappings"]


def test_the_same_network_for_another_shape(rng, tiny_encoder):
    network = moved(Registration(tiny_encoder, SHAPE, ("inverted",), int_steps=3))
    moving, fixed = textures(rng, 2)[..., 0]
    same = network.for_shape(SHAPE)
    np.testing.assert_array_equal(
        register_arrays(same, moving, fixed), register_arrays(network, moving, fixed)
    )
    assert same.get_config() == network.get_config()
    # A mirrored end is what the network pads with itself.
    larger = network.for_shape((48, 48))
    padding = [(0, 48 - size) for size in SHAPE]
    padded = [np.pad(image, padding, "symmetric") for image in (moving, fixed)]
    intensity = moved(Registration(None, SHAPE))
    np.testing.assert_allclose(
        register_arrays(intensity.for_shape((48, 48)), *padded)[:37, :44],
        register_arrays(intensity, moving, fixed),
        atol=1e-4,
    )
    assert register_arrays(larger, *padded).shape == (48, 48, 2)
    with pytest.raises(ValueError, match="network is for 2D images; give 2 sizes"):
        network.for_shape((16, 16, 16))


def test_the_loss_by_name_is_the_mean_over_voxels(rng):
    network = Registration(None, SHAPE, int_steps=0)
    network.compile(loss="mse")
    images = textures(rng, 2)
    data = tf.data.Dataset.from_tensors(((images, images[::-1]),))
    loss = network.evaluate(data, verbose=0, return_dict=True)
    warped = warp(images, register_arrays(network, images, images[::-1]))
    assert loss["similarity"] == pytest.approx(np.mean((warped - images[::-1]) ** 2), rel=1e-4)
    moving, fixed = tf.constant(images), tf.constant(images[::-1])
    assert network._step(((moving, fixed),), training=False).shape == ()


def test_three_dimensions(rng):
    encoder = cifl_tf.build_encoder(ndim=3, num_features=2, num_filters=2)
    network = moved(Registration(encoder, (17, 18, 20)))
    moving, fixed = textures(rng, 2, (17, 18, 20))[..., 0]
    assert register_arrays(network, moving, fixed).shape == (17, 18, 20, 3)


def test_passes_go_on_from_what_was_warped(rng, tiny_encoder):
    network = moved(Registration(tiny_encoder, SHAPE, ("inverted",), num_cascades=3))
    single = Registration(tiny_encoder, SHAPE, ("inverted",))
    single.dense.set_weights(network.dense.get_weights())
    moving, fixed = textures(rng, 2)[..., 0]
    expected = register_arrays(single, moving, fixed)
    assert np.abs(expected).max() > 0.1
    for _ in range(2):
        expected = compose(expected, register_arrays(single, warp(moving, expected), fixed))
    np.testing.assert_allclose(register_arrays(network, moving, fixed), expected, atol=1e-4)
    assert network.for_shape(SHAPE).num_cascades == 3


def test_training_makes_one_pass_and_validation_all(rng):
    network = moved(Registration(None, SHAPE, int_steps=0, num_cascades=2))
    single = Registration(None, SHAPE, int_steps=0)
    single.dense.set_weights(network.dense.get_weights())
    images = textures(rng, 2)
    data = ((tf.constant(images), tf.constant(images[::-1])),)
    for training, model in ((True, single), (False, network)):
        network.compile(loss="mse")
        network.reset_metrics()
        network._step(data, training=training)
        warped = warp(images, register_arrays(model, images, images[::-1]))
        expected = np.mean((warped - images[::-1]) ** 2)
        assert float(network._signals["similarity"].result()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("num_cascades", [1, 2])
def test_the_inverse_undoes_the_warp(rng, num_cascades):
    network = moved(Registration(None, (48, 48), num_cascades=num_cascades))
    moving, fixed = textures(rng, 2, (48, 48))[..., 0]
    forward = register_arrays(network, moving, fixed)
    inside = (slice(8, -8),) * 2
    assert np.abs(forward[inside]).max() > 0.5
    assert folding_fraction(forward) == 0
    backward = register_arrays(network, moving, fixed, inverse=True)
    for both in (compose(forward, backward), compose(backward, forward)):
        assert np.abs(both[inside]).max() < 0.1 * np.abs(forward[inside]).max()
    fixed_point = invert_displacement(forward)
    np.testing.assert_allclose(fixed_point[inside], backward[inside], atol=0.15 * num_cascades)


@pytest.mark.parametrize("shape", [(40, 44), (14, 16, 18)])
def test_the_fixed_point_inverts(rng, shape):
    displacement = smooth(rng, shape, 1.0, 8)
    inside = (slice(4, -4),) * len(shape)
    inverse = invert_displacement(displacement)
    np.testing.assert_allclose(compose(inverse, displacement)[inside], 0, atol=0.1)
    np.testing.assert_allclose(compose(displacement, inverse)[inside], 0, atol=0.1)


def test_warp_of_labels_and_other_grids():
    labels = np.arange(12, dtype=np.int16).reshape(3, 4)
    shift = np.zeros((2, 3, 2))
    shift[..., 0] = 1
    found = warp(labels, shift, "nearest")
    assert found.dtype == np.int16
    np.testing.assert_array_equal(found, labels[1:, :3])
    shift[..., 0] = 2
    np.testing.assert_array_equal(warp(labels, shift, "nearest", outside=0)[1], 0)
    np.testing.assert_allclose(warp(labels, shift)[1], labels[2, :3])


SETTINGS = InstanceSettings(scales=(4, 2, 1), steps=(25, 25, 35), smoothness=0.01)


@pytest.mark.parametrize("refine", [False, True])
def test_instance_optimization_recovers_a_known_warp(rng, refine):
    shape = (61, 66)
    moving = textures(rng, 1, shape)[0, ..., 0]
    truth = smooth(rng, shape, 1.5, 20)
    fixed = warp(moving, truth)
    initial = 0.5 * truth if refine else None
    found = optimize_instance(moving, fixed, None, settings=SETTINGS, initial=initial)
    inside = (slice(6, -6),) * 2
    error = np.linalg.norm(found - truth, axis=-1)[inside]
    assert np.linalg.norm(truth, axis=-1)[inside].mean() > 1
    assert error.mean() < 0.25
    assert folding_fraction(found) == 0


def test_an_inverted_image_is_registered_as_the_image_itself(rng, tiny_encoder):
    # Features averaged over an image and its inversion are the same for both.
    moving, fixed = textures(rng, 2)[..., 0] * 0.9 + 0.05
    settings = InstanceSettings(scales=(2,), steps=(10,))
    same = optimize_instance(moving, fixed, tiny_encoder, settings=settings)
    inverted = optimize_instance(moving, 1 - fixed, tiny_encoder, settings=settings)
    assert np.abs(same).max() > 0.5
    np.testing.assert_allclose(inverted, same, atol=0.02)


def test_intensities_beside_random_features_find_more_of_a_warp(rng, tiny_encoder):
    shape = (61, 66)
    moving = textures(rng, 1, shape)[0, ..., 0] * 0.9 + 0.05
    truth = smooth(rng, shape, 1.5, 20)
    fixed = 1 - warp(moving, truth)
    errors = []
    for weight in (0.0, 1.0):
        settings = dataclasses.replace(
            SETTINGS, scales=(4, 2), steps=(20, 20), intensity_weight=weight
        )
        found = optimize_instance(moving, fixed, tiny_encoder, settings=settings)
        errors.append(np.linalg.norm(found - truth, axis=-1)[6:-6, 6:-6].mean())
    assert errors[1] < 0.7 * errors[0]


def test_pairs_of_one_shape_share_a_traced_function(rng):
    settings = dataclasses.replace(SETTINGS, scales=(2,), steps=(2,))
    images = textures(rng, 3)
    before = _optimizer.cache_info()
    optimize_instance(images, images[::-1], None, settings=settings)
    optimize_instance(images[0, ..., 0], images[1, ..., 0], None, settings=settings)
    after = _optimizer.cache_info()
    assert (after.misses - before.misses, after.hits - before.hits) == (1, 1)


def test_many_pairs_are_compiled_and_registered_alike(rng, monkeypatch):
    settings = dataclasses.replace(SETTINGS, scales=(2,), steps=(10,))
    images = textures(rng, 4)
    expected = optimize_instance(images, images[::-1], None, settings=settings)
    before = _optimizer.cache_info().misses
    monkeypatch.setattr("cifl_tf.registration.instance.MANY_PAIRS", len(images))
    found = optimize_instance(images, images[::-1], None, settings=settings)
    assert _optimizer.cache_info().misses == before + 1
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_instance_optimization_in_three_dimensions(rng):
    moving, fixed = textures(rng, 2, (13, 14, 16))[..., 0]
    settings = InstanceSettings(scales=(2,), steps=(3,))
    assert optimize_instance(moving, fixed, None, settings=settings).shape == (13, 14, 16, 3)


def test_bsplines_sum_to_one():
    np.testing.assert_allclose(bspline_basis(23, 4.0).sum(axis=1), 1, atol=1e-6)


def test_refuses(rng, tiny_encoder):
    with pytest.raises(ValueError, match=r"shape is \(4, 40\)"):
        Registration(None, (4, 40))
    with pytest.raises(ValueError, match="encoder is for 2D"):
        Registration(tiny_encoder, (16, 16, 16))
    with pytest.raises(ValueError, match="similarity is 'ncc'"):
        Registration(None, SHAPE, similarity="ncc")
    with pytest.raises(ValueError, match="remappings are"):
        Registration(tiny_encoder, SHAPE, remappings=("t2",))
    with pytest.raises(ValueError, match="num_cascades is 0"):
        Registration(None, SHAPE, num_cascades=0)
    network = Registration(None, SHAPE, int_steps=0)
    image = textures(rng, 1)[0, ..., 0]
    with pytest.raises(ValueError, match="use invert_displacement"):
        register_arrays(network, image, image, inverse=True)
    with pytest.raises(ValueError, match="network is for"):
        register_arrays(network, image[:-1], image[:-1])
    with pytest.raises(ValueError, match="of one shape"):
        register_arrays(network, image, image[:-1])
    with pytest.raises(ValueError, match="1 voxels that are NaN"):
        register_arrays(network, image, np.where(image == image.max(), np.nan, image))
    network.compile("adam", "mse")
    with pytest.raises(ValueError, match="nest the pair"):
        network.fit(textures(rng, 2), verbose=0)
    with pytest.raises(ValueError, match="encoder is for 2D"):
        optimize_instance(np.zeros((9, 9, 9)), np.zeros((9, 9, 9)), tiny_encoder)
    with pytest.raises(ValueError, match="initial displacement"):
        optimize_instance(image, image, None, initial=np.zeros((3, 3, 2)))
    with pytest.raises(ValueError, match="as many steps as scales"):
        InstanceSettings(scales=(2, 1), steps=(3,))
    with pytest.raises(ValueError, match="intensity_weight is -1"):
        InstanceSettings(intensity_weight=-1)
    with pytest.raises(ValueError, match="order is 'cubic'"):
        warp(image, np.zeros((*SHAPE, 2)), "cubic")
    with pytest.raises(ValueError, match=r"shape \(4, 4, 3\)"):
        invert_displacement(np.zeros((4, 4, 3)))
