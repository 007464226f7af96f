"""Fast smooth fields and blur in the TensorFlow graph; nothing here is random."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf


def coarse_shape(shape: Sequence[int], scale: float) -> tuple[int, ...]:
    """Sizes of a grid whose points lie about ``scale`` voxels apart, at least two per axis."""
    return tuple(max(2, int(np.ceil(size / scale))) for size in shape)


def _interpolation_matrix(size, given_size):
    """Weights (size, given_size) of linear interpolation; the outermost points coincide."""
    if isinstance(size, int) and isinstance(given_size, int):  # one constant, not twenty operations
        points = np.arange(given_size)
        position = np.linspace(0, given_size - 1, size)
        return np.maximum(1 - np.abs(position[:, None] - points), 0).astype(np.float32)
    points = tf.range(tf.cast(given_size, tf.float64), dtype=tf.float64)
    position = tf.linspace(points[0], points[-1], size)
    return tf.cast(tf.nn.relu(1 - tf.abs(position[:, None] - points)), tf.float32)


def interpolate(image: tf.Tensor, shape: Sequence) -> tf.Tensor:
    """Linear interpolation of (batch, channels, *given shape) to (batch, channels, *shape).

    A product with one small matrix per axis, several times as fast as gathering neighbors.
    """
    for size in shape:
        # Contracts the first spatial axis and appends it again, so a full turn restores the order.
        matrix = _interpolation_matrix(size, image.shape[2] or tf.shape(image)[2])
        image = tf.tensordot(image, matrix, axes=[[2], [1]])
    return image


def gaussian_blur(image: tf.Tensor, std: tf.Tensor, max_std: float) -> tf.Tensor:
    """Blur (batch, *spatial, channels) with an SD in voxels per image, or per image and axis.

    ``std`` is (batch,) or (batch, ndim). The kernel reaches three times ``max_std``; beyond the
    border the image continues as its edge.
    """
    radius = int(np.ceil(3 * max_std))
    ndim = image.shape.rank - 2
    offset = tf.range(-radius, radius + 1, dtype=image.dtype)
    std = tf.broadcast_to(tf.reshape(std, [tf.shape(std)[0], -1]), [tf.shape(std)[0], ndim])
    kernels = tf.exp(-0.5 * (offset / tf.maximum(std, 1e-3)[..., None]) ** 2)
    kernels /= tf.reduce_sum(kernels, axis=-1, keepdims=True)
    # Few operations for each shift, as each takes time when a graph is made.
    shape, num_shifts = tf.shape(image), 2 * radius + 1
    weights = tf.reshape(kernels, [-1, ndim, num_shifts, *[1] * (ndim + 1)])
    for axis in range(1, ndim + 1):
        size = shape[axis]
        edges = [tf.gather(image, [end], axis=axis) for end in (0, size - 1)]
        padded = tf.concat(
            [tf.repeat(edges[0], radius, axis), image, tf.repeat(edges[1], radius, axis)], axis
        )
        begins = np.zeros((num_shifts, ndim + 2), np.int32)
        begins[:, axis] = range(num_shifts)
        image = tf.add_n(
            weight * tf.slice(padded, begin, shape)
            for weight, begin in zip(tf.unstack(weights[:, axis - 1], axis=1), begins, strict=True)
        )
    return image


def channels_last(image: tf.Tensor) -> tf.Tensor:
    """(batch, channels, *spatial) to (batch, *spatial, channels)."""
    return tf.transpose(image, [0, *range(2, image.shape.rank), 1])


def channels_first(image: tf.Tensor) -> tf.Tensor:
    """(batch, *spatial, channels) to (batch, channels, *spatial)."""
    return tf.transpose(image, [0, image.shape.rank - 1, *range(1, image.shape.rank - 1)])
