"""Random thickness of slices."""

import tensorflow as tf

from cifl_tf._random_keys import split_key, uniform


def draw_thickness(batch_size, ndim: int, highest: float, seed=None) -> tf.Tensor:
    """SD (batch, ndim) in voxels of a blur along one axis at random, or along none in a half.

    Args:
        batch_size: of the images.
        ndim: of their axes.
        highest: SD in voxels.
        seed: see ``as_key``.
    """
    keys = split_key(seed, 3)
    std = uniform([batch_size], keys[0], 0, highest)
    std *= tf.cast(uniform([batch_size], keys[1]) < 0.5, tf.float32)
    axis = uniform([batch_size], keys[2], 0, ndim, tf.int32)
    return std[:, None] * tf.one_hot(axis, ndim)
