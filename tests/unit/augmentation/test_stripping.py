import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import binary_dilation

from cifl_tf.augmentation.stripping import RandomStrip


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_rim_of_random_width_stays_around_the_labels(ndim, rng):
    shape = (14,) * ndim
    labels = np.zeros((40, *shape, 1), np.int32)
    labels[(slice(None), *[slice(5, 9)] * ndim)] = rng.integers(1, 4, (40, *[4] * ndim, 1))
    images = rng.uniform(0.1, 1, labels.shape).astype(np.float32)
    found, same = RandomStrip(0.5, rim=2)(tf.constant(images), tf.constant(labels), seed=1)
    np.testing.assert_array_equal(same, labels)
    widths = []
    for before, after, inside in zip(images, found.numpy(), labels > 0, strict=True):
        box = np.ones((3,) * ndim)
        masks = {
            width: binary_dilation(inside[..., 0], box, width) if width else inside[..., 0]
            for width in range(3)
        }
        fitting = [
            width
            for width, mask in {**masks, "all": np.ones(shape)}.items()
            if np.array_equal(after[..., 0], before[..., 0] * mask)
        ]
        assert len(fitting) == 1
        widths += fitting
    assert {*widths} == {0, 1, 2, "all"}
    assert 8 < widths.count("all") < 32


def test_a_seed_gives_the_same_masks(rng):
    labels = rng.integers(0, 2, (6, 9, 9, 1))
    images = rng.random((6, 9, 9, 1), np.float32)
    strip = RandomStrip(0.5)
    first, again, other = (strip(images, labels, seed=seed)[0].numpy() for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_share_is_from_0_to_1():
    with pytest.raises(ValueError, match=r"share is 1\.5"):
        RandomStrip(1.5)
