"""Displacements of voxels: apply, compose, invert them. Arrays only, voxelmorph's convention.

A displacement u lies on the grid of the fixed image and points into the moving one, in voxels:
``warped(x) = moving(x + u(x))``. Its component i points along axis i.
"""

import numpy as np
import tensorflow as tf

from cifl_tf._compat import ne, vxm

ORDERS = ("linear", "nearest")


def warp(image, displacement, order: str = "linear", outside: float | None = None) -> np.ndarray:
    """Warp an image or a label map.

    Args:
        image: (x, y[, z]) or with a last axis of channels; or a batch (n, *spatial, channels) for a
            batch of displacements. Its grid may differ from that of the displacement.
        displacement: (x, y[, z], ndim), or a batch (n, *spatial, ndim), in voxels.
        order: "linear", or "nearest" for label maps, which keep their type.
        outside: value beyond the moving image; None continues its edge.

    Returns:
        The image on the grid of the displacement; float32 for "linear".

    Raises:
        ValueError: shapes that do not fit, or an unknown order.

    Example:
        >>> import cifl_tf as cifl, numpy as np
        >>> image = np.arange(6).reshape(2, 3)
        >>> cifl.warp(image, np.full((2, 3, 2), (0, 1)))
        array([[1., 2., 2.],
               [4., 5., 5.]], dtype=float32)
    """
    if order not in ORDERS:
        raise ValueError(f"order is {order!r}; choose 'linear', or 'nearest' for label maps")
    image, displacement = np.asarray(image), checked_displacement(displacement)
    ndim = displacement.shape[-1]
    batched = displacement.ndim == ndim + 2
    has_channels = batched or image.ndim == ndim + 1
    expected = ndim + 2 if batched else ndim + has_channels
    if image.ndim != expected or (batched and len(image) != len(displacement)):
        raise ValueError(
            f"the image has shape {image.shape}, but the displacement {displacement.shape}; give "
            "an image (*spatial) or (*spatial, channels) for one displacement, or a batch "
            "(n, *spatial, channels) for n of them"
        )
    values = image if has_channels else image[..., None]
    # Labels go through float64: float32 holds no more than 2**24 of them.
    values = values.astype(np.float32 if order == "linear" else np.float64)
    if not batched:
        values, displacement = values[None], displacement[None]
    warped = np.stack(
        [
            vxm.utils.transform(
                tf.constant(one), tf.constant(shift), interp_method=order, fill_value=outside
            )
            for one, shift in zip(values, displacement, strict=True)
        ]
    )
    warped = warped if batched else warped[0]
    warped = warped if has_channels else warped[..., 0]
    return warped if order == "linear" else warped.astype(image.dtype)


def warp_batch(images: tf.Tensor, displacements: tf.Tensor) -> tf.Tensor:
    """Warp tensors (batch, *spatial, channels) inside a graph, linear, continuing the edge."""
    # Not the transformer's Keras layer: it is built for one number of channels.
    return tf.map_fn(
        lambda pair: vxm.utils.transform(*pair),
        (images, displacements),
        fn_output_signature=images.dtype,
    )


def compose_batch(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """``compose`` of tensors (batch, *spatial, ndim) inside a graph."""
    return second + warp_batch(first, second)


def compose(first, second) -> np.ndarray:
    """The one displacement that does what warping with ``first`` and then with ``second`` does.

    ``w(x) = second(x) + first(x + second(x))``.

    Args:
        first: (*spatial, ndim) or (n, *spatial, ndim) in voxels.
        second: the same number of axes; the result lies on its grid.

    Raises:
        ValueError: shapes that do not fit.
    """
    first, second = checked_displacement(first), checked_displacement(second)
    if first.ndim != second.ndim:
        raise ValueError(
            f"displacements have shapes {first.shape} and {second.shape}; give two single ones or "
            "two batches of the same dimensions"
        )
    return second + warp(first, second)


def invert_displacement(
    displacement, tolerance: float = 1e-3, max_iterations: int = 200
) -> np.ndarray:
    """The displacement v with x + v(x) + u(x + v(x)) = x, by damped fixed-point iteration.

    Exists where u does not fold; it lies on the same grid. A warp that was integrated from a
    velocity has a better one, see ``register(..., inverse=True)``.

    Args:
        displacement: u, (x, y[, z], ndim) in voxels, or a batch of them.
        tolerance: largest remaining error, in voxels, at which a voxel stops.
        max_iterations: after which it stops anyway.

    Raises:
        ValueError: not a displacement.

    Source: Chen et al., A simple fixed-point approach to invert a deformation field, Medical
    Physics 2008.
    """
    displacement = checked_displacement(displacement)
    ndim = displacement.shape[-1]
    fields = displacement.reshape(-1, *displacement.shape[-ndim - 1 :])
    inverses = [_inverted(field, tolerance, max_iterations) for field in fields]
    return np.reshape(inverses, displacement.shape)


def _inverted(field, tolerance, max_iterations):
    """``invert_displacement`` of one field, (voxels, ndim)."""
    places = np.indices(field.shape[:-1], np.float32).reshape(field.shape[-1], -1).T
    inverse, shifts = -field.reshape(places.shape), tf.constant(field)
    left = np.arange(len(places))  # the voxels that are not there yet; each goes its own way
    for _ in range(max_iterations):
        there = tf.constant(places[left] + inverse[left])
        error = inverse[left] + ne.utils.interpn(shifts, there).numpy()
        is_far = np.abs(error).max(axis=-1) >= tolerance
        left, error = left[is_far], error[is_far]
        if not left.size:
            break
        inverse[left] -= 0.5 * error
    return inverse


def checked_displacement(displacement) -> np.ndarray:
    """A displacement as float32, one or a batch.

    Raises:
        ValueError: it is not (x, y[, z], ndim) or (n, x, y[, z], ndim), or not finite.
    """
    displacement = np.asarray(displacement, np.float32)
    ndim = displacement.shape[-1] if displacement.ndim else 0
    if ndim not in (2, 3) or displacement.ndim not in (ndim + 1, ndim + 2):
        raise ValueError(
            f"the displacement has shape {displacement.shape}; give (x, y, 2), (x, y, z, 3), or a "
            "batch of them, in voxels"
        )
    if not np.isfinite(displacement).all():
        raise ValueError(
            f"the displacement holds {np.sum(~np.isfinite(displacement))} values that are not "
            "finite; every one must be"
        )
    return displacement


def checked_pair(moving, fixed) -> tuple[np.ndarray, np.ndarray, bool]:
    """Two images as float32 batches (n, *shape, 1), and whether they were single ones.

    Raises:
        ValueError: their shapes differ or are no images, or they are not finite.
    """
    moving, fixed = np.asarray(moving, np.float32), np.asarray(fixed, np.float32)
    if moving.shape != fixed.shape or not 2 <= moving.ndim <= 5:
        raise ValueError(
            f"the images have shapes {moving.shape} and {fixed.shape}; give two of one shape: "
            "(x, y), (x, y, z), or batches (n, x, y[, z], 1); resample one to the other first"
        )
    for name, image in (("moving", moving), ("fixed", fixed)):
        if not np.isfinite(image).all():
            raise ValueError(
                f"the {name} image holds {np.sum(~np.isfinite(image))} voxels that are NaN or "
                "infinite; replace them"
            )
    if moving.ndim <= 3:
        return moving[None, ..., None], fixed[None, ..., None], True
    if moving.shape[-1] != 1 or len(moving) == 0:
        raise ValueError(
            f"the batches have shape {moving.shape}; give (n, x, y[, z], 1) with one channel"
        )
    return moving, fixed, False
