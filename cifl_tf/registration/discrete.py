"""Discrete registration: every displacement of a coarse grid is tried, then they are made smooth.

Sources: Heinrich, Papiez, Schnabel, Handels, Non-parametric discrete registration with convex
optimisation, WBIR 2014; Siebert et al., ConvexAdam: Self-configuring dual-optimization-based 3D
multitask medical image registration, IEEE Transactions on Medical Imaging 2024.
"""

import functools

import numpy as np
import tensorflow as tf

from cifl_tf._checks import COUNT
from cifl_tf._compat import vxm
from cifl_tf.images.intensity import fill_outside
from cifl_tf.registration.separable import box_matrix, resample_blocks, separable
from cifl_tf.registration.similarity import average_pool

# Coupling of the best displacement to the smooth one, round by round, as in ConvexAdam.
COEFFICIENTS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
LEAST_COEFFICIENT = 1e-6  # so that what does not count stays at first
CONSISTENCY_ROUNDS = 15
BOX_RADIUS = 1  # of the filter of costs and displacements, in points of the grid


def discrete_displacement(
    moving_features,
    fixed_features,
    grid_spacing: int = 4,
    half_width: int = 3,
    moving_mask=None,
    fixed_mask=None,
) -> np.ndarray:
    """Displacement between two feature volumes by a search over a grid of displacements.

    The features are averaged over blocks. The cost of a displacement is the mean square difference
    of the features, relative to the variance of the fixed ones, averaged over the neighbors. Six
    rounds take the displacement d of least ``cost + coefficient |d - s|^2`` at each point and
    average over neighbors to the next s, with coefficients that grow. The same is done from fixed
    to moving, and both fields are brought to undo each other.

    Args:
        moving_features: (x, y, z, C), such as an encoder gives.
        fixed_features: the same shape.
        grid_spacing: of the grid and of the displacements to try, in voxels.
        half_width: the largest displacement to try along an axis, in points of the grid.
        moving_mask: booleans (x, y, z): where the moving features count; None for everywhere.
        fixed_mask: the same of the fixed features.

    Returns:
        float32 (x, y, z, 3) in voxels, on the grid of the fixed features; for ``warp``.

    Raises:
        ValueError: the features are not two volumes of one shape, or are not finite; a number is
            not a whole one above 0; the volume has an axis of fewer than two blocks; or a mask does
            not fit.

    Example:
        >>> import numpy as np
        >>> from cifl_tf.registration.discrete import discrete_displacement
        >>> fixed = np.random.default_rng(0).normal(size=(16, 16, 16, 2))
        >>> discrete_displacement(fixed, fixed, half_width=1).shape
        (16, 16, 16, 3)
    """
    moving, fixed, *masks = masked_features(
        moving_features, fixed_features, moving_mask, fixed_mask
    )
    COUNT.check("grid_spacing", grid_spacing)
    COUNT.check("half_width", half_width)
    shape = fixed.shape[:-1]
    if min(shape) <= grid_spacing:
        raise ValueError(
            f"the features have shape {fixed.shape}, but grid_spacing is {grid_spacing}; give one "
            "that is smaller than every axis"
        )
    pair = average_pool(tf.stack([moving, fixed]), grid_spacing)
    search = _search(tuple(pair.shape[1:]), half_width)
    shares = average_pool(tf.stack(masks)[..., None], grid_spacing)
    return resample_blocks(grid_spacing * search(pair, shares), shape, grid_spacing)[0].numpy()


def masked_features(moving, fixed, moving_mask=None, fixed_mask=None) -> tuple[np.ndarray, ...]:
    """Two feature volumes (x, y, z, C), filled where masks leave them out, and where they count.

    Args:
        moving, fixed: see ``discrete_displacement``, and so the masks.

    Returns:
        float32: both volumes, and for each (x, y, z), 1 inside and 0 outside its mask.

    Raises:
        ValueError: they are no such volumes, or a mask does not fit or shows nothing.
    """
    filled, masks = [], []
    pairs = zip(
        ("moving", "fixed"),
        checked_features(moving, fixed),
        (moving_mask, fixed_mask),
        strict=True,
    )
    for name, features, mask in pairs:
        if mask is None:
            mask = np.ones(features.shape[:-1], bool)
        else:
            mask = checked_mask(mask, features.shape[:-1], name)
            channels = [fill_outside(channel, mask) for channel in np.moveaxis(features, -1, 0)]
            features = np.stack(channels, axis=-1)
        filled.append(features)
        masks.append(mask.astype(np.float32))
    return *filled, *masks


def checked_mask(mask, shape, name) -> np.ndarray:
    """A mask of a volume as booleans.

    Raises:
        ValueError: it has another shape, or shows nothing.
    """
    mask = np.asarray(mask) != 0
    if mask.shape != tuple(shape) or not mask.any():
        raise ValueError(
            f"the {name} mask has shape {mask.shape} and {mask.sum()} voxels inside; give one of "
            f"shape {tuple(shape)} that shows something there"
        )
    return mask


def checked_features(moving, fixed) -> tuple[np.ndarray, np.ndarray]:
    """Two feature volumes (x, y, z, C) as float32.

    Raises:
        ValueError: they are not, their shapes differ, or they are not finite.
    """
    moving, fixed = np.asarray(moving, np.float32), np.asarray(fixed, np.float32)
    if moving.shape != fixed.shape or moving.ndim != 4:
        raise ValueError(
            f"the features have shapes {moving.shape} and {fixed.shape}; give two of one shape "
            "(x, y, z, channels)"
        )
    for name, features in (("moving", moving), ("fixed", fixed)):
        if not np.isfinite(features).all():
            raise ValueError(
                f"the {name} features hold {np.sum(~np.isfinite(features))} values that are NaN "
                "or infinite; replace them"
            )
    return moving, fixed


def cost_volume(
    moving: tf.Tensor, fixed: tf.Tensor, half_width: int, shown: tf.Tensor
) -> tf.Tensor:
    """Mean square difference of features for each displacement, averaged over 3^3 neighbors.

    One displacement at a time, so that no more than two volumes of all channels are in memory.

    Args:
        moving: (x, y, z, C); its edge goes on beyond it.
        fixed: the same shape.
        half_width: of the displacements along each axis, in voxels.
        shown: (x, y, z, 1), by how much each voxel of the fixed features counts.

    Returns:
        ((2 half_width + 1)^3, x, y, z), relative to the variance of the fixed features; in the
        order of ``displacements``.
    """
    sizes, shape = fixed.shape[:-1], fixed.shape
    for axis, size in enumerate(sizes):
        continued = np.clip(np.arange(-half_width, size + half_width), 0, size - 1)
        moving = tf.gather(moving, continued, axis=axis)
    boxes = [box_matrix(size, BOX_RADIUS) for size in sizes]
    variance = tf.reduce_mean(tf.math.reduce_variance(fixed, axis=[0, 1, 2])) + 1e-12
    shares = separable(shown[None], boxes)[0, ..., 0]

    def cost(displacement):
        shifted = tf.slice(moving, tf.pad(displacement + half_width, [[0, 1]]), shape)
        square = shown * tf.reduce_mean((fixed - shifted) ** 2, axis=-1, keepdims=True)
        mean = separable(square[None], boxes)[0, ..., 0]
        return tf.math.divide_no_nan(mean, shares * variance)

    return tf.map_fn(
        cost,
        tf.constant(displacements(half_width)),
        fn_output_signature=tf.float32,
        parallel_iterations=1,
    )


def displacements(half_width: int) -> np.ndarray:
    """All whole displacements up to ``half_width`` along each axis, int32 (n, 3)."""
    steps = np.arange(-half_width, half_width + 1, dtype=np.int32)
    return np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)


@functools.lru_cache(maxsize=16)
def _search(shape, half_width):
    """The search on features (2, *shape) of moving and fixed, traced once for a shape.

    A function of them and of the share of each voxel that counts.
    """
    sizes = shape[:-1]
    boxes = [box_matrix(size, BOX_RADIUS) for size in sizes]
    table = displacements(half_width).astype(np.float32)
    squares = (table**2).sum(axis=1, keepdims=True)

    def smooth_best(costs):
        """The displacements (*sizes, 3) of least cost (displacements, points), averaged."""
        best = tf.gather(table, tf.argmin(costs, axis=0))
        return separable(tf.reshape(best, [1, *sizes, 3]), boxes)[0]

    def convex(moving, fixed, shown):
        costs = cost_volume(moving, fixed, half_width, shown)
        costs = tf.reshape(costs, [len(table), -1])

        def coupled(coefficient, smooth):
            # |d - s|^2 but for |s|^2, which is the same for all d.
            product = tf.matmul(table, tf.reshape(smooth, [-1, 3]), transpose_b=True)
            return smooth_best(costs + coefficient * (squares - 2 * product))

        coefficients = tf.constant(COEFFICIENTS)
        return tf.while_loop(
            lambda index, _: index < len(COEFFICIENTS),
            lambda index, smooth: (index + 1, coupled(coefficients[index], smooth)),
            (0, smooth_best(costs + LEAST_COEFFICIENT * squares)),
            parallel_iterations=1,
        )[1]

    def consistent(index, forward, backward):
        undone = vxm.utils.transform(backward, forward), vxm.utils.transform(forward, backward)
        return index + 1, (forward - undone[0]) / 2, (backward - undone[1]) / 2

    @tf.function(input_signature=[tf.TensorSpec([2, *shape]), tf.TensorSpec([2, *sizes, 1])])
    def search(pair, shares):
        # One after the other: the costs of one search are in memory at a time.
        both = tf.map_fn(
            lambda order: convex(pair[order], pair[1 - order], shares[1 - order]),
            tf.constant([0, 1]),
            fn_output_signature=tf.float32,
            parallel_iterations=1,
        )
        fields = tf.while_loop(
            lambda index, *_: index < CONSISTENCY_ROUNDS,
            consistent,
            (0, *tf.unstack(both)),
            parallel_iterations=1,
        )
        return fields[1][None]

    return search
