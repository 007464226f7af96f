import numpy as np
import pytest
import tensorflow as tf

from cifl_tf.registration.similarity import (
    LocalNCC,
    MultiScaleMSE,
    average_pool,
    block_centers,
    gradient_penalty,
    local_ncc,
    multiscale_mse,
    soft_dice,
    squared_local_ncc,
    voxel_cosine,
)


def slow_window_mean(fixed, warped, window, correlation):
    """The mean over channels and voxels of what two windows give, one voxel at a time."""
    half = window // 2
    values = []
    for channel in range(fixed.shape[-1]):
        f, w = fixed[..., channel], warped[..., channel]
        for center in np.ndindex(f.shape):
            box = tuple(slice(max(0, at - half), at + half + 1) for at in center)
            a, b = f[box] - f[box].mean(), w[box] - w[box].mean()
            values.append(correlation(np.mean(a * b), np.mean(a**2), np.mean(b**2)))
    return np.mean(values)


@pytest.mark.parametrize("shape", [(2, 9, 11, 3), (2, 5, 6, 7, 2)])
@pytest.mark.parametrize(
    ("fast", "slow"),
    [
        (
            lambda f, w: local_ncc(f, w, window=5, epsilon=1e-4),
            lambda covariance, first, second: covariance / np.sqrt(first * second + 1e-4),
        ),
        (
            lambda f, w: squared_local_ncc(f, w, window=5, noise=0.1),
            lambda covariance, first, second: covariance**2 / (first + 0.1) / (second + 0.1),
        ),
    ],
    ids=["signed", "squared"],
)
def test_correlation_in_windows_is_that_of_a_slow_loop(rng, shape, fast, slow):
    fixed, warped = rng.normal(size=(2, *shape))
    expected = [slow_window_mean(f, w, 5, slow) for f, w in zip(fixed, warped, strict=True)]
    np.testing.assert_allclose(fast(fixed, warped), expected, atol=1e-5)


def test_squared_correlation_is_the_same_where_a_part_is_inverted(rng):
    fixed, warped = rng.random((2, 1, 20, 20, 1))
    half = np.where(np.arange(20)[:, None, None] < 10, 0.5, -1) * warped
    far = squared_local_ncc(fixed[:, :7], warped[:, :7], noise=1e-9)
    np.testing.assert_allclose(squared_local_ncc(fixed[:, :7], half[:, :7], noise=1e-9), far, 1e-4)
    far = squared_local_ncc(fixed[:, 12:], warped[:, 12:], noise=1e-9)
    np.testing.assert_allclose(
        squared_local_ncc(fixed[:, 12:], half[:, 12:], noise=1e-9), far, 1e-4
    )


def test_local_ncc_looks_at_each_channel_alone(rng):
    image = rng.normal(size=(1, 20, 20, 2))
    # Summed over channels, a change of sign in one of them would cancel the other's correlation.
    scaled = image * [100.0, 0.1] + [5.0, -3.0]
    np.testing.assert_allclose(local_ncc(image, scaled, epsilon=1e-12), 1, atol=1e-3)
    np.testing.assert_allclose(local_ncc(image, image * [1.0, -1.0], epsilon=1e-12), 0, atol=1e-3)


def test_local_ncc_without_signal_is_zero():
    flat = np.full((1, 12, 12, 1), 7.0)
    np.testing.assert_allclose(local_ncc(flat, flat), 0, atol=1e-5)


def test_multiscale_mse_is_that_of_numpy(rng):
    fixed, warped = rng.normal(size=(2, 3, 8, 16, 2))
    difference = fixed - warped
    blocks = difference.reshape(3, 4, 2, 8, 2, 2).mean(axis=(2, 4))
    expected = ((difference**2).mean(axis=(1, 2, 3)) + (blocks**2).mean(axis=(1, 2, 3))) / 2
    np.testing.assert_allclose(multiscale_mse(fixed, warped, num_scales=2), expected, rtol=1e-5)


@pytest.mark.parametrize("loss", [MultiScaleMSE(), LocalNCC()])
def test_identical_images_are_the_optimum(rng, loss):
    image = tf.constant(rng.normal(size=(2, 32, 32, 3)), tf.float32)
    same = float(loss(image, image))
    shifted = [float(loss(image, tf.roll(image, shift, axis=1))) for shift in (-1, 1)]
    assert same < min(shifted)
    assert same == pytest.approx(0, abs=1e-3)


def test_voxel_cosine_of_the_same_and_of_opposite_features(rng):
    image = rng.normal(size=(2, 16, 16, 4))
    np.testing.assert_allclose(voxel_cosine(image, image), 1, atol=5e-3)
    opposite = 2 * image.mean(axis=(1, 2), keepdims=True) - image
    np.testing.assert_allclose(voxel_cosine(image, opposite), -1, atol=5e-3)


def test_soft_dice_by_hand():
    fixed = np.eye(3)[np.array([[[0, 1, 1, 0]]])]
    warped = np.eye(3)[np.array([[[0, 0, 1, 0]]])]
    # Label 1: 2 * 1 / (2 + 1); label 2 is in neither and counts as 1.
    np.testing.assert_allclose(soft_dice(fixed, warped), (2 / 3 + 1) / 2, atol=1e-3)


def test_gradient_penalty_of_a_linear_field():
    field = np.zeros((1, 6, 8, 2), np.float32)
    field[..., 0] = 0.5 * np.arange(6)[:, None]
    # One of two components has slope 0.5 along one of two axes.
    np.testing.assert_allclose(gradient_penalty(tf.constant(field)), 0.25 / 4)


def test_refuses():
    with pytest.raises(ValueError, match="num_scales is 0"):
        MultiScaleMSE(num_scales=0)
    with pytest.raises(ValueError, match="window is 4"):
        LocalNCC(window=4)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
def test_block_centres_are_mean_positions(size):
    for length in range(1, 30):
        positions = tf.range(length, dtype=tf.float32)[None, :, None, None]
        across = tf.repeat(positions, size, axis=2)
        pooled = average_pool(across, size)[0, :, 0, 0]
        np.testing.assert_allclose(block_centers(length, size), pooled, rtol=1e-6)
