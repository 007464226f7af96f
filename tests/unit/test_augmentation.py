import numpy as np
import pytest
import tensorflow as tf

from cifl_tf.augmentation import NUM_LEVELS, IntensityAugmentation, remap

STILL = {"gamma_std": 0, "bias_std": 0, "thickness_std": 0, "noise_std": 0}
KNOTS = np.linspace(0, 1, NUM_LEVELS)


@pytest.mark.parametrize("shape", [(3, 9, 10, 1), (2, 5, 6, 7, 1)])
@pytest.mark.parametrize("num_levels", [2, 7])
def test_remap_is_linear_between_the_levels(rng, shape, num_levels):
    images = rng.random(shape).astype(np.float32)
    knots = np.linspace(0, 1, num_levels)
    images.reshape(len(images), -1)[:, :num_levels] = knots  # 0 and 1 among them
    levels = rng.random((len(images), num_levels)).astype(np.float32)
    found = tf.function(remap)(tf.constant(images), tf.constant(levels))
    expected = [np.interp(image, knots, each) for image, each in zip(images, levels, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def ramps(count):
    """One image, count times: air, and below it each intensity between the lowest knots and 1."""
    ramp = np.linspace(KNOTS[1], 1, 10 * (NUM_LEVELS - 2) + 1, dtype=np.float32)
    image = np.stack([np.zeros_like(ramp), ramp])
    return np.tile(image[..., None], (count, 1, 1, 1)), ramp


def test_each_image_gets_another_contrast_and_keeps_its_air():
    images, ramp = ramps(32)
    augment = tf.function(IntensityAugmentation(**STILL, remapped=1))
    changed, labels = augment(tf.constant(images), "labels")
    assert labels == "labels"
    assert changed.shape == images.shape
    air, inside = changed.numpy()[:, 0, :, 0], changed.numpy()[:, 1, :, 0]
    assert not air.any()
    assert inside.min() >= 0
    np.testing.assert_allclose(inside.max(axis=1), 1, atol=1e-6)
    # Linear between what the knots get.
    for found in inside:
        np.testing.assert_allclose(found, np.interp(ramp, KNOTS[1:], found[::10]), atol=1e-5)
    differences = np.abs(inside[:, None] - inside).max(axis=-1)
    assert differences[~np.eye(32, dtype=bool)].min() > 0.01
    # Six random levels rise all along once in 720 times.
    rises = (np.diff(inside, axis=1) > 0).mean(axis=1)
    assert np.mean((rises > 0) & (rises < 1)) > 0.9


def test_air_does_not_light_up_what_lies_beside_it():
    images = np.zeros((32, 30, 30, 1), np.float32)
    images[:, 10:-10, 10:-10] = 1
    augment = IntensityAugmentation(**{**STILL, "thickness_std": 2.0}, remapped=1)
    changed = augment(tf.constant(images), 0)[0].numpy()
    # Blurred with black air, no voxel is brighter than the middle.
    np.testing.assert_allclose(changed[:, 15, 15], 1, atol=0.01)
    assert changed[:, 10, 15].min() < 0.8


def test_a_share_of_the_images_gets_another_contrast():
    images, _ = ramps(200)
    changed = IntensityAugmentation(**STILL, remapped=0.25)(tf.constant(images), 0)[0]
    untouched = np.isclose(changed, images, atol=1e-6).all(axis=(1, 2, 3))
    assert 0.6 < untouched.mean() < 0.9


def test_by_default_the_order_of_intensities_stays():
    images, _ = ramps(32)
    augment = IntensityAugmentation(bias_std=0, thickness_std=0, noise_std=0)
    changed = augment(tf.constant(images), 0)[0].numpy()
    assert np.all(np.diff(changed[:, 1, :, 0], axis=1) > 0)
    assert np.abs(changed - images).max() > 0.05


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_refuses_what_is_no_share(share):
    with pytest.raises(ValueError, match=f"remapped is {share}; give a share"):
        IntensityAugmentation(remapped=share)
