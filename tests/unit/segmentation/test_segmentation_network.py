import numpy as np
import pytest
import tensorflow as tf

import cifl_tf
from cifl_tf._compat import keras
from cifl_tf.augmentation.intensity import IntensityAugmentation
from cifl_tf.augmentation.spatial import SpatialAugmentation
from cifl_tf.metrics import dice
from cifl_tf.segmentation.data import training_data
from cifl_tf.segmentation.losses import MeanDice, SegmentationLoss
from cifl_tf.segmentation.network import build_segmenter, without_features


def slow_loss(labels, probabilities):
    """Loops over labels and voxels, from the formula of the docstring."""
    num_labels = probabilities.shape[-1]
    labels, probabilities = labels.ravel(), probabilities.reshape(-1, num_labels).astype(float)
    dice_sum, cross_entropy = 0.0, 0.0
    for label in range(1, num_labels):
        overlap = sizes = 0.0
        for truth, row in zip(labels, probabilities, strict=True):
            overlap += row[label] * (truth == label)
            sizes += row[label] + (truth == label)
        dice_sum += (2 * overlap + 1) / (sizes + 1)
    for truth, row in zip(labels, probabilities, strict=True):
        cross_entropy -= np.log(row[truth])
    return 1 - dice_sum / (num_labels - 1) + cross_entropy / len(labels)


@pytest.mark.parametrize("shape", [(5, 6), (3, 4, 5)])
def test_loss_is_the_formula_for_each_image(shape, rng):
    labels = rng.integers(0, 4, (2, *shape, 1))
    probabilities = rng.dirichlet(np.ones(4), (2, *shape)).astype(np.float32)
    loss = SegmentationLoss(reduction="none")(labels, probabilities)
    expected = [slow_loss(*pair) for pair in zip(labels, probabilities, strict=True)]
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_perfect_segmentation_costs_nothing():
    labels = np.array([0, 1, 1, 0]).reshape(1, 2, 2, 1)  # label 2 is absent and not predicted
    assert float(SegmentationLoss()(labels, np.eye(3)[labels[..., 0]])) == pytest.approx(
        0, abs=1e-5
    )


def test_mean_dice_is_dice_over_all_batches(rng):
    labels = rng.integers(0, 4, (6, 7, 8))
    predicted = np.where(rng.random(labels.shape) < 0.7, labels, rng.integers(0, 4, labels.shape))
    metric = MeanDice(5)  # label 4 occurs nowhere
    for part in (slice(0, 2), slice(2, 6)):
        metric.update_state(labels[part][..., None], np.eye(5)[predicted[part]])
    expected = np.mean(dice(labels, predicted, [1, 2, 3]))
    assert float(metric.result()) == pytest.approx(expected, rel=1e-5)


def test_only_the_unet_learns(tiny_encoder, rng):
    segmenter = build_segmenter(tiny_encoder, 3, num_filters=2, num_levels=2)
    segmenter.compile("adam", SegmentationLoss(), metrics=[MeanDice(3)])
    before = [weight.numpy() for weight in tiny_encoder.weights]
    unet = segmenter.get_layer("unet").get_weights()
    images = rng.random((4, 21, 22, 1)).astype(np.float32)
    segmenter.fit(images, rng.integers(0, 3, images.shape), epochs=2, verbose=0)
    for old, weight in zip(before, tiny_encoder.weights, strict=True):
        np.testing.assert_array_equal(old, weight)
    assert any(
        np.any(old != new)
        for old, new in zip(unet, segmenter.get_layer("unet").get_weights(), strict=True)
    )


@pytest.mark.parametrize(("ndim", "shape"), [(2, (19, 30)), (3, (9, 10, 11))])
@pytest.mark.parametrize("seen", ["features", "image", "both"])
def test_any_size_and_reload(ndim, shape, seen, tmp_path, rng):
    encoder = None if seen == "image" else cifl_tf.build_encoder(ndim, 3, 2)
    segmenter = build_segmenter(
        encoder, 4, ndim, 2, 3, remappings=("inverted",), with_image=seen == "both"
    )
    image = rng.random((2, *shape, 1)).astype(np.float32)
    probabilities = segmenter(image)
    assert probabilities.shape == (2, *shape, 4)
    np.testing.assert_allclose(np.sum(probabilities, axis=-1), 1, atol=1e-5)
    features = segmenter.get_layer("features")(image)
    np.testing.assert_array_equal(without_features(segmenter)(features), probabilities)
    segmenter.save(tmp_path / "segmenter.keras")
    reloaded = keras.models.load_model(tmp_path / "segmenter.keras")
    np.testing.assert_array_equal(reloaded(image), probabilities)
    assert len(reloaded.trainable_weights) == len(segmenter.trainable_weights)


@pytest.mark.parametrize("ndim", [2, 3])
def test_batch_norm_is_that_of_training_until_it_is_applied(ndim, tmp_path, rng):
    segmenter = build_segmenter(None, 3, ndim, 2, num_levels=2, batch_norm=True)
    kinds = [type(layer).__name__ for layer in segmenter.get_layer("unet").layers]
    assert kinds.count("BatchNormalization") == 3  # two levels down, one up
    images = rng.random((4, *[12] * ndim, 1)).astype(np.float32)
    segmenter.compile("adam", SegmentationLoss())
    segmenter.fit(images, rng.integers(0, 3, images.shape), epochs=2, verbose=0)
    probabilities = segmenter.predict(images, verbose=0)
    alone = segmenter.predict(images[:1], verbose=0)  # does not depend on its batch
    np.testing.assert_allclose(alone, probabilities[:1], atol=1e-6)
    segmenter.save(tmp_path / "segmenter.keras")
    reloaded = keras.models.load_model(tmp_path / "segmenter.keras")
    np.testing.assert_array_equal(reloaded.predict(images, verbose=0), probabilities)
    assert np.abs(segmenter(images, training=True) - probabilities).max() > 1e-3


def test_segmenter_errors(tiny_encoder):
    with pytest.raises(ValueError, match="the encoder is for 2D images, but ndim is 3"):
        build_segmenter(tiny_encoder, 4, ndim=3)
    with pytest.raises(ValueError, match="num_labels is 1"):
        build_segmenter(tiny_encoder, 1)
    with pytest.raises(ValueError, match="with_image is True, but there is no encoder"):
        build_segmenter(None, 4, with_image=True)
    with pytest.raises(ValueError, match=r"remappings are .'t2'"):
        build_segmenter(tiny_encoder, 4, remappings=("t2",))


def test_training_on_rendered_labels_sees_no_image():
    images = np.full((4, 8, 8, 1), np.nan, np.float32)
    labels = np.arange(4).reshape(4, 1, 1, 1) * np.ones((1, 8, 8, 1), int)
    data = training_data(
        images, labels, batch_size=4, render=lambda maps, seed: tf.cast(maps, tf.float32) / 10
    )
    rendered, truth = next(iter(data))
    np.testing.assert_allclose(rendered, truth / 10, atol=1e-6)
    assert len(np.unique(truth)) > 1


def test_patches_keep_the_scale_of_the_whole_image():
    images = np.zeros((2, 20, 24, 1), np.float32)
    images[:, 3:-3, 3:-3], images[:, 10, 12] = 0.5, 1
    labels = (images > 0).astype(np.int32)
    still = IntensityAugmentation(gamma_std=0, bias_std=0, thickness_std=0, noise_std=0)
    smooth = SpatialAugmentation(smooth_std=1.0, affine_std=0.0)
    data = training_data(images, labels, 2, smooth, still, patch=6)
    batches = [batch for batch in data.take(30).as_numpy_iterator()]
    highest = np.array([patches.max(axis=(1, 2, 3)) for patches, _ in batches])
    assert batches[0][0].shape == batches[0][1].shape == (2, 6, 6, 1)
    # Most patches miss the one bright voxel; scaled by themselves, they would reach 1.
    assert np.mean(np.isclose(highest, 0.5, atol=1e-3)) > 0.5
    assert not np.isclose(highest, 0.5, atol=1e-3).all()
    inside = np.concatenate([patches[labels == 1] for patches, labels in batches])
    assert np.mean(inside > 0.2) > 0.95


def test_training_data_is_endless_and_shuffled():
    images = np.arange(10, dtype=np.float32).reshape(10, 1, 1, 1)
    data = training_data(images, images.astype(int), batch_size=4, seed=3)
    values = [batch[0].numpy().ravel().tolist() for batch in data.take(5)]
    flat = [value for batch in values for value in batch]
    assert flat != sorted(flat)
    assert set(flat) == set(range(10))
