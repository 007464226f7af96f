import numpy as np
import pytest
import tensorflow as tf

from cifl_tf import build_encoder, receptive_radius, transfer_weights
from cifl_tf._compat import keras

CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.Conv3D)


def random_images(shape, seed=0):
    return np.random.default_rng(seed).uniform(size=(*shape, 1)).astype(np.float32)


def unnormalized(encoder):
    """The encoder up to the features of its last convolution."""
    return keras.Model(encoder.input, encoder.get_layer("features").output)


def reach(encoder, images, position):
    """Chebyshev distance of the farthest voxel that the features at a position depend on."""
    network, images = unnormalized(encoder), tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        features = network(images)[(slice(None), *position)]
    sensitivity = np.abs(tape.gradient(features, images)).max(axis=(0, -1))
    return np.abs(np.argwhere(sensitivity > 0) - position).max()


@pytest.mark.parametrize("architecture", ["plain", "unet"])
@pytest.mark.parametrize("spatial", [(25, 19), (24, 32), (9, 11, 13)])
def test_features_lie_on_the_grid_of_the_image(architecture, spatial):
    encoder = build_encoder(len(spatial), 5, num_filters=2, architecture=architecture)
    assert encoder.input_shape == (None, *[None] * len(spatial), 1)
    assert encoder.output_shape == (None, *[None] * len(spatial), 5)
    images = np.maximum(random_images((2, *spatial)), 0.01)  # no air
    features = encoder(images).numpy()
    assert features.shape == (2, *spatial, 5)
    assert np.all(np.isfinite(features))
    mean_square = (features**2).mean(tuple(range(1, 1 + len(spatial))))
    np.testing.assert_allclose(mean_square, 1, rtol=1e-4)


def test_from_an_encoder_for_slices_volumes_start_with_features_of_coronal_slices():
    source, encoder = (build_encoder(ndim, 5, num_filters=4) for ndim in (2, 3))
    for bias in source.weights[1::2]:
        bias.assign(bias + 0.1)
    transfer_weights(encoder, source)
    volume = random_images((9, 7, 11))
    features = unnormalized(encoder)(volume[None]).numpy()[0]
    for position in range(7):
        expected = unnormalized(source)(volume[None, :, position]).numpy()[0]
        np.testing.assert_allclose(features[:, position], expected, rtol=1e-4, atol=1e-5)
    assert features.std() > 0


@pytest.mark.parametrize("architecture", ["plain", "unet"])
def test_weights_of_an_encoder_of_the_same_dimensions_are_copied(architecture):
    source, encoder = (
        build_encoder(num_features=3, num_filters=4, architecture=architecture) for _ in range(2)
    )
    images = random_images((2, 16, 20))
    assert np.abs(encoder(images) - source(images)).max() > 0.01
    transfer_weights(encoder, source)
    np.testing.assert_array_equal(encoder(images), source(images))


@pytest.mark.parametrize(
    "source", [{"ndim": 3}, {"num_filters": 3}, {"num_features": 4}, {"architecture": "unet"}]
)
def test_another_kind_of_encoder_is_nothing_to_start_from(source):
    kind = {"ndim": 2, "num_features": 3, "num_filters": 2}
    message = "8 2D convolutions of .*; give one of the same architecture"
    with pytest.raises(ValueError, match=message):
        transfer_weights(build_encoder(**kind), build_encoder(**{**kind, **source}))


@pytest.mark.parametrize("architecture", ["plain", "unet"])
@pytest.mark.parametrize("value", [0, 1])
def test_a_constant_image_has_finite_features(architecture, value):
    encoder = build_encoder(num_features=3, num_filters=4, architecture=architecture)
    assert np.all(np.isfinite(encoder(np.full((1, 21, 22, 1), value, np.float32))))


@pytest.mark.parametrize("ndim", [2, 3])
def test_plain_has_eight_convolutions_of_size_3(ndim):
    encoder = build_encoder(ndim, num_features=6, num_filters=4)
    layers = [layer for layer in encoder.layers if isinstance(layer, CONVOLUTIONS)]
    assert [layer.kernel_size for layer in layers] == [(3,) * ndim] * 8
    assert [layer.filters for layer in layers] == [4] * 7 + [6]
    assert {layer.padding for layer in layers} == {"same"}
    assert encoder.count_params() == sum(
        3**ndim * inputs * filters + filters
        for inputs, filters in zip([1] + [4] * 7, [4] * 7 + [6], strict=True)
    )


def test_unet_has_ten_convolutions_on_three_resolutions():
    encoder = build_encoder(num_features=6, num_filters=4, architecture="unet")
    layers = [layer for layer in encoder.layers if isinstance(layer, CONVOLUTIONS)]
    inputs = [layer.kernel.shape[-2] for layer in layers]
    assert [layer.filters for layer in layers] == [4, 4, 8, 8, 16, 16, 8, 8, 4, 6]
    assert inputs == [1, 4, 4, 8, 8, 16, 16 + 8, 8, 8 + 4, 4]  # sums: skip connections
    assert {layer.kernel_size for layer in layers} == {(3, 3)}


@pytest.mark.parametrize("spatial", [(21, 21), (19, 19, 19)])
def test_receptive_radius_of_plain_is_exact(spatial):
    encoder = build_encoder(len(spatial), 2, num_filters=4)
    center = tuple(size // 2 for size in spatial)
    assert receptive_radius("plain") == 8
    assert reach(encoder, random_images((2, *spatial)), center) == 8


def test_receptive_radius_of_unet_is_exact():
    encoder = build_encoder(num_features=2, num_filters=4, architecture="unet")
    # Many images, because max pooling passes one voxel in four; positions all over the coarsest
    # voxels, because the reach differs among them.
    images = random_images((24, 56, 56))
    reaches = [reach(encoder, images, (position, position)) for position in range(26, 30)]
    assert max(reaches) == receptive_radius("unet")


@pytest.mark.parametrize(("architecture", "shift"), [("plain", (3, 2)), ("unet", (4, 8))])
def test_features_move_with_the_image_inside(architecture, shift):
    network = unnormalized(build_encoder(num_features=3, num_filters=4, architecture=architecture))
    radius = receptive_radius(architecture)
    image = random_images((1, 64, 68))
    moved = np.roll(image, shift, axis=(1, 2))
    expected = np.roll(network(image), shift, axis=(1, 2))
    # Beyond where the roll brought voxels from the other side.
    inside = tuple(slice(radius + step, -radius) for step in shift)
    features = network(moved).numpy()[:, *inside]
    assert np.abs(features).max() > 1e-3
    np.testing.assert_allclose(features, expected[:, *inside], atol=1e-5)
    assert np.any(np.abs(network(moved) - expected) > 1e-3)  # at the border, not


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ndim": 1}, "ndim is 1; give 2 for slices or 3 for volumes"),
        ({"num_features": 1}, "num_features is 1 and num_filters 32"),
        ({"num_filters": 0}, "one filter"),
        ({"architecture": "resnet"}, r"'resnet'; choose from \('plain', 'unet'\)"),
    ],
)
def test_build_encoder_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_encoder(**arguments)


@pytest.mark.parametrize("architecture", ["plain", "unet"])
def test_reload_without_custom_objects(tmp_path, architecture):
    encoder = build_encoder(num_features=3, num_filters=4, architecture=architecture, name="mine")
    encoder.save(tmp_path / "encoder.keras")
    restored = keras.models.load_model(tmp_path / "encoder.keras")
    image = random_images((2, 13, 18))
    assert restored.name == "mine"
    np.testing.assert_array_equal(restored(image), encoder(image))


@pytest.mark.usefixtures("mixed_bfloat16")
@pytest.mark.parametrize("architecture", ["plain", "unet"])
def test_features_are_float32_under_mixed_precision(tmp_path, architecture):
    encoder = build_encoder(num_features=3, num_filters=4, architecture=architecture)
    image = np.maximum(random_images((1, 21, 22)), 0.01)  # no air
    assert encoder.get_layer("features").compute_dtype == "bfloat16"
    features = encoder(image)
    assert features.dtype == tf.float32
    np.testing.assert_allclose(np.mean(features**2, (1, 2)), 1, rtol=1e-5)
    encoder.save(tmp_path / "encoder.keras")
    keras.mixed_precision.set_global_policy("float32")
    restored = keras.models.load_model(tmp_path / "encoder.keras")
    np.testing.assert_array_equal(restored(image), features)
