"""Linear maps that act on one axis of a volume at a time: smoothing and resampling."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from cifl_tf.registration.similarity import block_centers


def separable(volume: tf.Tensor, matrices: Sequence) -> tf.Tensor:
    """Product of a volume with one matrix per spatial axis.

    Args:
        volume: (batch, *spatial, channels).
        matrices: one (new size, size) for each spatial axis.

    Returns:
        (batch, *new sizes, channels).
    """
    for axis, matrix in enumerate(matrices):
        product = tf.tensordot(volume, matrix, axes=[[axis + 1], [1]])
        last = product.shape.rank - 1
        order = [*range(axis + 1), last, *range(axis + 1, last)]
        volume = tf.transpose(product, order)
    return volume


def gaussian_matrix(size: int, sigma: float) -> np.ndarray:
    """Weights of a Gaussian mean along an axis; at its ends, over what is in the image.

    Args:
        size: of the axis in voxels.
        sigma: standard deviation in voxels; 0 for no smoothing.

    Returns:
        float32 (size, size), rows that sum to one.
    """
    distance = np.arange(size)[:, None] - np.arange(size)
    weights = np.exp(-0.5 * (distance / sigma) ** 2) if sigma else 1.0 * (distance == 0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def box_matrix(size: int, radius: int) -> np.ndarray:
    """Weights of the mean over 2 radius + 1 voxels; at the ends, over what is in the image.

    Args:
        size: of the axis in voxels.
        radius: in voxels; 0 for no smoothing.

    Returns:
        float32 (size, size), rows that sum to one.
    """
    weights = np.abs(np.arange(size)[:, None] - np.arange(size)) <= radius
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def linear_matrix(positions, targets) -> np.ndarray:
    """Weights of linear interpolation along an axis; beyond its ends, the values there.

    Args:
        positions: where the given values are, ascending.
        targets: where values are wanted.

    Returns:
        float32 (targets, positions), rows that sum to one.
    """
    positions, targets = np.asarray(positions, float), np.asarray(targets, float)
    # Interpolation is linear in the values: one column for each of them.
    columns = [np.interp(targets, positions, one) for one in np.eye(len(positions))]
    return np.stack(columns, axis=1).astype(np.float32)


def resample_blocks(
    field: tf.Tensor, shape: Sequence[int], size: int, new_size: int = 1
) -> tf.Tensor:
    """A displacement on the blocks of ``average_pool``, on other blocks of the same image.

    Args:
        field: (batch, *blocks, ndim), in voxels of the image.
        shape: of the image, in voxels.
        size: of the blocks of the field, in voxels.
        new_size: of the blocks of the result; 1 for voxels.

    Returns:
        (batch, *new blocks, ndim), in voxels of the image, linear between centers.
    """
    matrices = [
        linear_matrix(block_centers(length, size), block_centers(length, new_size))
        for length in shape
    ]
    return separable(field, matrices)
