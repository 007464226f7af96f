import numpy as np
import pytest
import tensorflow as tf

from cifl_tf.features.layers import CropTo, L2Normalize, PadToMultiple


def random_image(shape, seed=0):
    return np.random.default_rng(seed).normal(2, 3, shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(3, 7, 9, 4), (2, 5, 6, 7, 3)], ids=["2D", "3D"])
def test_every_channel_gets_a_mean_square_of_one(shape):
    image = random_image(shape) * np.geomspace(1e-3, 1e3, shape[-1], dtype=np.float32)
    normalized = L2Normalize()(image).numpy()
    spatial = tuple(range(1, len(shape) - 1))
    np.testing.assert_allclose((normalized**2).mean(spatial), 1, rtol=1e-5)
    length = np.sqrt((image.astype(np.float64) ** 2).mean(spatial, keepdims=True))
    np.testing.assert_allclose(normalized, image / length, rtol=1e-5)


def test_values_do_not_depend_on_the_size_of_the_image():
    image = random_image((1, 6, 7, 2))
    tiled = np.tile(image, (1, 2, 2, 1))
    once, twice = L2Normalize()(image).numpy(), L2Normalize()(tiled).numpy()
    np.testing.assert_allclose(twice, np.tile(once, (1, 2, 2, 1)), rtol=1e-5)


def test_a_channel_of_zeros_stays_zero_and_harms_no_other():
    image = random_image((2, 5, 6, 3))
    image[0, ..., 1] = 0
    image = tf.constant(image)
    with tf.GradientTape() as tape:
        tape.watch(image)
        normalized = L2Normalize()(image)
        total = tf.reduce_sum(normalized**3)
    assert np.all(normalized[0, ..., 1] == 0)
    np.testing.assert_allclose(np.mean(normalized[0, ..., 2] ** 2), 1, rtol=1e-5)
    gradient = tape.gradient(total, image)
    assert np.all(np.isfinite(gradient))
    assert np.any(gradient[0, ..., 0] != 0)


def test_epsilon_is_where_weak_channels_stop_being_scaled_up():
    image = np.full((1, 4, 4, 1), 1e-3, np.float32)
    np.testing.assert_allclose(L2Normalize(epsilon=1e-4)(image), 0.1, rtol=1e-5)
    np.testing.assert_allclose(L2Normalize(epsilon=1e-8)(image), 1, rtol=1e-5)


@pytest.mark.usefixtures("mixed_bfloat16")
def test_normalization_is_float32_under_mixed_precision():
    image = tf.cast(random_image((1, 8, 8, 2)), tf.bfloat16)
    normalized = L2Normalize()(image)
    assert normalized.dtype == tf.float32
    np.testing.assert_allclose(np.mean(normalized**2, (1, 2)), 1, rtol=1e-5)  # bfloat16: 4e-3


@pytest.mark.parametrize("spatial", [(9, 10), (8, 12), (11, 7), (5, 6, 7), (1, 10), (9, 1, 1)])
def test_padding_mirrors_the_end_and_cropping_undoes_it(spatial):
    image = random_image((2, *spatial, 3))
    padded = PadToMultiple(4)(image)
    after = [-(-size // 4) * 4 - size for size in spatial]
    expected = np.pad(image, [(0, 0), *[(0, pad) for pad in after], (0, 0)], mode="symmetric")
    np.testing.assert_array_equal(padded, expected)
    np.testing.assert_array_equal(CropTo()([padded, image]), image)


def test_cropping_takes_the_size_and_not_the_channels_of_the_reference():
    image = random_image((2, 12, 8, 5))
    cropped = CropTo()([image, np.zeros((2, 10, 7, 1), np.float32)])
    np.testing.assert_array_equal(cropped, image[:, :10, :7])


@pytest.mark.parametrize("ndim", [2, 3])
def test_sizes_may_be_unknown_in_a_graph(ndim):
    @tf.function(input_signature=[tf.TensorSpec([None] * (ndim + 1) + [2])])
    def pad_and_crop(image):
        padded = PadToMultiple(4)(image)
        return padded, CropTo()([padded, image])

    for spatial in ((9, 10, 5), (8, 3, 4), (1, 9, 1)):
        image = random_image((1, *spatial[:ndim], 2))
        padded, cropped = pad_and_crop(image)
        assert padded.shape[1:-1] == tuple(-(-size // 4) * 4 for size in spatial[:ndim])
        np.testing.assert_array_equal(cropped, image)


def test_known_sizes_stay_known_in_a_graph():
    @tf.function(input_signature=[tf.TensorSpec([None, 9, None, 2])])
    def pad_and_crop(image):
        padded = PadToMultiple(4)(image)
        cropped = CropTo()([padded, image])
        assert padded.shape.as_list() == [None, 12, None, 2]
        assert cropped.shape.as_list() == [None, 9, None, 2]
        return cropped

    image = random_image((3, 9, 6, 2))
    np.testing.assert_array_equal(pad_and_crop(image), image)
