import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

import cifl_tf
from cifl_tf._compat import keras
from cifl_tf.augmentation.test_time import AverageOverCopies, average_over_copies


def lopsided(ndim):
    """A network with random weights, so that no mirror image is treated like the image."""
    image = keras.Input((*[None] * ndim, 1))
    layer = {2: keras.layers.Conv2D, 3: keras.layers.Conv3D}[ndim]
    hidden = layer(3, 3, padding="same", activation="softplus")(image)
    return keras.Model(image, layer(4, 2, padding="same", activation="softmax")(hidden))


def zoomed(image, shape):
    """An image (batch, *spatial, channels) in another spatial shape, by SciPy."""
    factors = [new / old for new, old in zip(shape, image.shape[1:-1], strict=True)]
    return scipy.ndimage.zoom(image, (1, *factors, 1), order=1)


@pytest.mark.parametrize(
    ("shape", "zoom_factors"), [((12, 17), (1.25, 0.7)), ((9, 10, 11), (1.2,))]
)
@pytest.mark.parametrize("flip_axis", [None, 0, 1])
def test_mean_over_mirrored_and_zoomed_copies(shape, zoom_factors, flip_axis, rng):
    network = lopsided(len(shape))
    image = rng.random((2, *shape, 1)).astype(np.float32)
    expected = []
    for zoom in (1, *zoom_factors):
        size = [round(zoom * n) for n in shape]
        copy = zoomed(image, size)
        expected.append(zoomed(network(copy).numpy(), shape))
        if flip_axis is not None:
            mirrored = np.flip(network(np.flip(copy, flip_axis + 1)), flip_axis + 1)
            expected.append(zoomed(mirrored, shape))
    found = average_over_copies(network, flip_axis, zoom_factors)(image)
    np.testing.assert_allclose(found, np.mean(expected, axis=0), atol=1e-6)


def test_without_copies_it_is_the_network(rng):
    network = lopsided(2)
    assert average_over_copies(network) is network
    image = rng.random((1, 8, 9, 1)).astype(np.float32)
    np.testing.assert_array_equal(AverageOverCopies(network)(image), network(image))


def test_mirrored_image_gives_the_mirrored_output(rng):
    averaged = average_over_copies(lopsided(2), flip_axis=0, zoom_factors=(1.1,))
    image = rng.random((1, 13, 9, 1)).astype(np.float32)
    np.testing.assert_allclose(averaged(image[:, ::-1]), averaged(image)[:, ::-1], atol=1e-6)


def test_probabilities_stay_probabilities_and_the_model_reloads(tmp_path, tiny_encoder, rng):
    segmenter = cifl_tf.build_segmenter(tiny_encoder, 3, num_filters=2, num_levels=2)
    averaged = average_over_copies(segmenter, flip_axis=0, zoom_factors=(1.2, 0.9))
    image = rng.random((2, 19, 22, 1)).astype(np.float32)
    probabilities = averaged.predict(image, verbose=0)
    assert probabilities.shape == (2, 19, 22, 3)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5)
    averaged.save(tmp_path / "averaged.keras")
    reloaded = keras.models.load_model(tmp_path / "averaged.keras")
    np.testing.assert_array_equal(reloaded.predict(image, verbose=0), probabilities)
    cifl_tf.export_segmenter(averaged, tmp_path / "exported")
    exported = tf.saved_model.load(tmp_path / "exported")(image)["probabilities"]
    np.testing.assert_allclose(exported, averaged(cifl_tf.RescaleIntensity()(image)), atol=1e-5)


def test_it_learns_with_the_network(rng):
    network = lopsided(2)
    averaged = average_over_copies(network, flip_axis=1)
    assert [weight.ref() for weight in averaged.trainable_weights] == [
        weight.ref() for weight in network.trainable_weights
    ]


@pytest.mark.parametrize("zoom_factors", [(1,), (1.2, 1.2), (0.4,), (2.5,)])
def test_zooms_that_are_refused(zoom_factors):
    with pytest.raises(ValueError, match=r"zoom_factors are .*; give factors from 0\.5 to 2"):
        average_over_copies(lopsided(2), zoom_factors=zoom_factors)


def test_an_axis_that_is_not_there():
    with pytest.raises(ValueError, match="flip_axis is 2; give one of 0 to 1"):
        average_over_copies(lopsided(2), flip_axis=2)
