import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from cifl_tf.augmentation.intensity import NUM_LEVELS, IntensityAugmentation, remap
from cifl_tf.augmentation.patches import RandomPatch
from cifl_tf.augmentation.spatial import SpatialAugmentation

STILL = IntensityAugmentation(gamma_std=0, bias_std=0, thickness_std=0, noise_std=0)
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
    augment = tf.function(dataclasses.replace(STILL, random_contrast=1))
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
    augment = dataclasses.replace(STILL, thickness_std=2.0, random_contrast=1)
    changed = augment(tf.constant(images), 0)[0].numpy()
    # Blurred with black air, no voxel is brighter than the middle.
    np.testing.assert_allclose(changed[:, 15, 15], 1, atol=0.01)
    assert changed[:, 10, 15].min() < 0.8


def test_a_share_of_the_images_gets_another_contrast():
    images, _ = ramps(200)
    changed = dataclasses.replace(STILL, random_contrast=0.25)(tf.constant(images), 0)[0]
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
    with pytest.raises(ValueError, match=f"random_contrast is {share}; give a share"):
        IntensityAugmentation(random_contrast=share)


def numbered(shape, count=40):
    """An image whose intensities tell where they are, from 1 on, count times."""
    image = 1 + np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return np.tile(image[..., None], (count, *[1] * (len(shape) + 1)))


@pytest.mark.parametrize("shape", [(9, 12), (6, 7, 9)])
@pytest.mark.parametrize("margin", [0, 2])
def test_patches_are_of_images_and_labels_alike_and_around_labels(shape, margin):
    size, ndim = 4, len(shape)
    images = numbered(shape)
    labels = np.zeros(images.shape, np.int32)
    place = (slice(None), *[5] * ndim, 0)
    labels[place] = 3
    cut = RandomPatch(size, margin, anywhere=0)
    found, found_labels = tf.function(cut)(tf.constant(images), tf.constant(labels))
    assert found.shape == (len(images), *[size + 2 * margin] * ndim, 1)
    assert found_labels.dtype == tf.int32
    patches, patch_labels = cut.trimmed(found, found_labels)
    # The only labelled voxel, 5 on every axis, as near the center as the image allows.
    begin = [min(5 - size // 2, length - size) for length in shape]
    expected = images[0][tuple(slice(start, start + size) for start in begin)]
    np.testing.assert_array_equal(patches, np.tile(expected, (len(images), *[1] * (ndim + 1))))
    assert (patch_labels.numpy() == 3).sum() == len(images)
    padded = np.pad(images[0], [(margin, margin)] * ndim + [(0, 0)])
    whole = padded[tuple(slice(start, start + size + 2 * margin) for start in begin)]
    np.testing.assert_array_equal(found[0], whole)


def test_patches_lie_anywhere_and_inside():
    images = numbered((7, 8), 400)
    patches, _ = tf.function(RandomPatch(3, 0))(
        tf.constant(images), tf.zeros(images.shape, tf.int32)
    )
    corners = patches.numpy()[:, 0, 0, 0]
    rows, columns = np.divmod(corners.astype(int) - 1, 8)
    assert set(rows) == set(range(5))
    assert set(columns) == set(range(6))
    np.testing.assert_array_equal(patches[:, 2, 2, 0], corners + 2 * 8 + 2)


def test_a_third_of_the_patches_lie_anywhere():
    labels = np.zeros((3000, 30, 30, 1), np.int32)
    labels[:, 0, 0] = 1  # in one of 225 patches about any voxel
    tf.random.set_seed(0)
    _, patches = tf.function(RandomPatch(3, 0))(tf.zeros(labels.shape), tf.constant(labels))
    without = (patches.numpy() == 0).all((1, 2, 3)).mean()
    assert abs(without - 1 / 3 * 224 / 225) < 0.04  # 4.6 SD


def test_the_whole_image_as_a_patch():
    images = numbered((5, 5), 3)
    cut = RandomPatch(5)
    patches, _ = cut.trimmed(*cut(tf.constant(images), tf.ones(images.shape, tf.int32)))
    np.testing.assert_array_equal(patches, images)


def test_refuses_patches_larger_than_images():
    with pytest.raises(ValueError, match=r"patch is 6, but the images have shape \(5, 9\)"):
        RandomPatch(6)(tf.zeros((1, 5, 9, 1)), tf.zeros((1, 5, 9, 1), tf.int32))


def test_augmentation_moves_image_and_labels_alike(rng):
    labels = np.zeros((4, 40, 44, 1), np.int32)
    labels[:, 10:30, 8:36] = 3
    images = labels.astype(np.float32)
    augment = tf.function(SpatialAugmentation(flip_axis=0))
    moved_images, moved_labels = augment(images, labels)
    assert moved_labels.dtype == tf.int32
    assert set(np.unique(moved_labels)) == {0, 3}
    # Linear and nearest interpolation agree but at boundaries, and every image moved its own way.
    assert np.mean(np.abs(moved_images - tf.cast(moved_labels, tf.float32)) < 1.5) > 0.99
    assert len({moved.numpy().tobytes() for moved in moved_labels}) == 4
    assert np.mean(moved_labels != labels) > 0.01


def test_augmentation_without_ranges_is_the_identity(rng):
    images = rng.random((2, 12, 13, 14, 1)).astype(np.float32)
    labels = rng.integers(0, 5, images.shape)
    same = SpatialAugmentation(smooth_std=0, affine_std=0)(tf.constant(images), tf.constant(labels))
    np.testing.assert_allclose(same[0], images, atol=1e-5)
    np.testing.assert_array_equal(same[1], labels)


def test_flip_mirrors_both(rng):
    images = rng.random((64, 6, 7, 1)).astype(np.float32)
    flipped, labels = SpatialAugmentation(0, (), 0, flip_axis=0)(
        tf.constant(images), tf.constant(images * 1000, tf.int32)
    )
    mirrored = np.isclose(flipped, images[:, ::-1], atol=1e-5).all(axis=(1, 2, 3))
    same = np.isclose(flipped, images, atol=1e-5).all(axis=(1, 2, 3))
    assert np.all(mirrored ^ same)
    assert 15 < mirrored.sum() < 49
    np.testing.assert_allclose(labels, 1000 * flipped.numpy(), atol=1.01)


def masked_images(rng, shape):
    """Images that are 0 outside a box, and reach 1 inside."""
    images = np.zeros(shape, np.float32)
    inside = images[:, 3:-3, 4:-4]
    inside[...] = rng.uniform(0.1, 0.9, inside.shape)
    inside[:, 2, 2] = 1
    return images


@pytest.mark.parametrize("shape", [(3, 14, 17, 1), (2, 14, 12, 13, 1)])
def test_intensity_augmentation_without_ranges_is_the_identity(rng, shape):
    images = masked_images(rng, shape)
    same, labels = STILL(tf.constant(images), "labels")
    np.testing.assert_allclose(same, images, atol=1e-6)
    assert labels == "labels"


@pytest.mark.parametrize("shape", [(16, 24, 27, 1), (4, 14, 12, 13, 1)])
def test_intensity_augmentation_changes_each_image_inside_only(rng, shape):
    images = masked_images(rng, shape)
    changed = tf.function(IntensityAugmentation())(tf.constant(images), 0)[0].numpy()
    assert np.all(changed[images == 0] == 0)
    np.testing.assert_allclose(changed.max(axis=tuple(range(1, len(shape)))), 1, atol=1e-6)
    assert changed.min() == 0
    differences = (changed - images)[images > 0].reshape(len(images), -1)
    assert differences.std(axis=1).min() > 0.01
    assert np.abs(np.corrcoef(differences)[0, 1]) < 0.9


def test_slices_grow_thick_along_one_axis(rng):
    images = np.tile(masked_images(rng, (1, 40, 41, 1)), (64, 1, 1, 1))
    augment = dataclasses.replace(STILL, thickness_std=3.0)
    changed = augment(tf.constant(images), 0)[0].numpy()
    inner = (slice(None), slice(12, -12), slice(12, -12))
    # White noise stays white across the axis of the blur, and gets smooth along it.
    smooth = [
        np.abs(np.diff(changed[inner], axis=axis)).mean(axis=(1, 2, 3))
        / np.abs(np.diff(images[inner], axis=axis)).mean(axis=(1, 2, 3))
        / changed[inner].std(axis=(1, 2, 3))
        * images[inner].std(axis=(1, 2, 3))
        for axis in (1, 2)
    ]
    untouched = np.isclose(changed, images).all(axis=(1, 2, 3))
    assert 16 < untouched.sum() < 48
    along_first, along_second = smooth[0] < 0.8, smooth[1] < 0.8
    assert not np.any(along_first & along_second)
    assert min(along_first.sum(), along_second.sum()) > 5
