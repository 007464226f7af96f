import numpy as np
import pytest
import tensorflow as tf

import cifl_tf
from cifl_tf._compat import keras
from cifl_tf.augmentation import IntensityAugmentation
from cifl_tf.feature_variants import feature_variants
from cifl_tf.frozen_features import FrozenFeatures

# Eleven slices are two batches; volumes go one by one.
SHAPES = [(11, 17, 18), (2, 8, 9, 10)]


def stripped(rng, shape):
    """Images (*shape, 1) in (0, 1], of maximum 1, inside a box, 0 outside."""
    images = rng.uniform(0.1, 0.9, (*shape, 1)).astype(np.float32)
    images[:, 3, 4] = 1
    images[:, :2] = 0
    return images


@pytest.fixture
def extracts(tiny_encoder):
    return {
        2: FrozenFeatures(tiny_encoder, ("inverted",)),
        3: FrozenFeatures(cifl_tf.build_encoder(ndim=3, num_features=3, num_filters=2)),
    }


@pytest.mark.parametrize("shape", SHAPES)
def test_one_version_of_all_images_after_the_other(extracts, rng, shape):
    images = stripped(rng, shape)
    extract = extracts[len(shape) - 1]
    # No factor: features of an untrained encoder, whose biases are 0, do not change with one.
    found = feature_variants(images, extract, 3, lambda seen, labels: (seen**2, labels))
    assert found.shape == (3 * len(images), *shape[1:], extract.num_features)
    assert found.dtype == np.float32
    first, *others = np.split(found, 3)
    np.testing.assert_allclose(first, extract(images), atol=1e-5)
    for other in others:
        np.testing.assert_allclose(other, extract(images**2), atol=1e-5)
    assert np.abs(first - others[0]).max() > 0.1


@pytest.mark.parametrize("shape", SHAPES)
def test_every_image_looks_another_way_in_every_version(extracts, rng, shape):
    image = stripped(rng, (1, *shape[1:]))
    images = np.repeat(image, shape[0], axis=0)
    found = feature_variants(images, extracts[len(shape) - 1], 3, IntensityAugmentation())
    first, *others = np.split(found, 3)
    np.testing.assert_allclose(first, np.repeat(first[:1], len(images), axis=0), atol=1e-5)
    varied = [first[0], *others[0], *others[1]]
    for index, one in enumerate(varied):
        assert all(np.abs(one - other).max() > 0.05 for other in varied[:index])


def test_looks_are_drawn_by_the_seed(tiny_encoder, rng):
    images, look = stripped(rng, (4, 12, 13)), IntensityAugmentation(remapped=0.5)
    extract = FrozenFeatures(tiny_encoder)
    keras.utils.set_random_seed(5)
    found = feature_variants(images, extract, 3, look)
    keras.utils.set_random_seed(5)
    for version in np.split(found, 3)[1:]:
        np.testing.assert_allclose(version, extract(look(tf.constant(images), 0)[0]), atol=1e-5)


@pytest.mark.parametrize(
    ("room", "expected"), [(1.0, 1), (1.999, 1), (2.0, 2), (4.5, 4), (5.0, 5), (100.0, 5)]
)
def test_versions_that_do_not_fit_are_left_out(tiny_encoder, rng, monkeypatch, room, expected):
    images = stripped(rng, (3, 8, 9))
    one = 3 * 8 * 9 * 4 * 4  # voxels, features, bytes
    monkeypatch.setattr("cifl_tf.feature_variants.MOST_BYTES", int(room * one))
    extract = FrozenFeatures(tiny_encoder)
    found = feature_variants(images, extract, 5, IntensityAugmentation())
    assert len(found) == 3 * expected
    assert found.nbytes == expected * one
    np.testing.assert_allclose(found[:3], extract(images), atol=1e-5)


def test_nothing_where_one_version_does_not_fit(tiny_encoder, rng, monkeypatch):
    images = stripped(rng, (3, 8, 9))
    monkeypatch.setattr("cifl_tf.feature_variants.MOST_BYTES", 3 * 8 * 9 * 4 * 4 - 1)
    extract = FrozenFeatures(tiny_encoder)
    assert feature_variants(images, extract, 5, IntensityAugmentation()) is None


def test_without_an_encoder_they_are_intensities(rng):
    images = stripped(rng, (9, 12, 13))
    found = feature_variants(images, FrozenFeatures(None), 2, IntensityAugmentation(remapped=1))
    assert found.shape == (18, 12, 13, 1)
    np.testing.assert_array_equal(found[:9], images)
    assert np.all(found[9:][images == 0] == 0)
    assert np.abs(found[9:] - images).max(axis=(1, 2, 3)).min() > 0.05
