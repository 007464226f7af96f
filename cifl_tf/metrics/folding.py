"""How smooth a warp is: the Jacobian determinant of x ↦ x + u(x)."""

import numpy as np

# The logarithm of a folded voxel does not exist; this stands in for its determinant.
SMALLEST_DETERMINANT = 1e-9
SLAB = 16  # planes at a time, as the derivatives take nine times the memory of the result


def jacobian_determinant(displacement) -> np.ndarray:
    """How many times larger a warp makes the neighborhood of each voxel, det(I + ∇u).

    Derivatives are central differences, one-sided at the border (`numpy.gradient`). 1 where
    nothing is stretched, at most 0 where the warp folds. Component i points along axis i. In mm the
    determinant would be the same, but u must be in voxels, as the derivatives are per voxel.

    Args:
        displacement: u, (x, y[, z], ndim) in voxels.

    Returns:
        (x, y[, z]), float64.

    Raises:
        ValueError: the last axis does not hold one component per spatial axis, the field is not
            2D or 3D, an axis has fewer than two voxels, or a value is not finite.

    Source: Ashburner, A fast diffeomorphic image registration algorithm, NeuroImage 2007.

    Example:
        A warp that doubles all sizes in the plane:

        >>> import numpy as np
        >>> from cifl_tf.metrics import jacobian_determinant
        >>> stretch = np.moveaxis(np.indices((24, 20)), 0, -1)
        >>> np.unique(jacobian_determinant(stretch))
        array([4.])
    """
    displacement = np.asarray(displacement)
    shape, ndim = displacement.shape, displacement.ndim - 1
    if ndim not in (2, 3) or shape[-1] != ndim:
        raise ValueError(
            f"displacement must be (x, y, 2) or (x, y, z, 3), not of shape {shape}; "
            "give one field, components last"
        )
    if min(shape) < 2:
        raise ValueError(
            f"displacement of shape {shape} has an axis of one voxel, which has no derivative; "
            "give a slice as (x, y, 2)"
        )
    if not np.isfinite(displacement).all():
        raise ValueError(
            f"displacement holds {np.count_nonzero(~np.isfinite(displacement))} values that are "
            "not finite; every value must be, so mask or repair the field first"
        )
    determinants = np.empty(shape[:-1])
    for start in range(0, shape[0], SLAB):
        stop = min(start + SLAB, shape[0])
        first = max(0, start - 1)  # with the neighbors that the derivatives need
        slab = displacement[first : stop + 1].astype(np.float64)
        determinants[start:stop] = _determinants_of_slab(slab)[start - first : stop - first]
    return determinants


def _determinants_of_slab(displacement):
    ndim = displacement.shape[-1]
    # (*spatial, component, derivative)
    gradient = np.stack(np.gradient(displacement, axis=tuple(range(ndim))), axis=-1)
    # Written out: numpy.linalg.det goes through logarithms, and its zeros are not exact.
    rows = np.moveaxis(np.eye(ndim) + gradient, -2, 0)
    if ndim == 2:
        return rows[0, ..., 0] * rows[1, ..., 1] - rows[0, ..., 1] * rows[1, ..., 0]
    return np.sum(rows[0] * np.cross(rows[1], rows[2]), axis=-1)


def folding_fraction(displacement, mask=None) -> float:
    """Share of voxels where the warp folds, that is where its Jacobian determinant is <= 0.

    Args:
        displacement: (x, y[, z], ndim) in voxels.
        mask: booleans (x, y[, z]), the voxels to count; None for all.

    Returns:
        A share in [0, 1].

    Raises:
        ValueError: as `jacobian_determinant`; the mask has another shape, or is empty.

    Example:
        >>> import numpy as np
        >>> from cifl_tf.metrics import folding_fraction
        >>> mirror = np.moveaxis(np.indices((24, 20)), 0, -1) * (-2, 0)
        >>> folding_fraction(np.zeros((24, 20, 2))), folding_fraction(mirror)
        (0.0, 1.0)
    """
    return float(np.mean(_determinants(displacement, mask) <= 0))


def log_jacobian_std(displacement, mask=None) -> float:
    """Standard deviation over voxels of log det(I + ∇u), the determinant clipped at 1e-9.

    0 for a translation and for uniform scaling. A folded voxel enters as log(1e-9) ≈ -20.7, so a
    few of them dominate: read it beside `folding_fraction`.

    The measure of the Learn2Reg challenge (Hering et al., IEEE TMI 2022), whose published script
    adds 3 to the determinant before the logarithm: its numbers are not comparable with these.

    Args:
        displacement: (x, y[, z], ndim) in voxels.
        mask: booleans (x, y[, z]), the voxels to use; None for all.

    Returns:
        A number >= 0, without unit.

    Raises:
        ValueError: as `jacobian_determinant`; the mask has another shape, or is empty.

    Example:
        >>> import numpy as np
        >>> from cifl_tf.metrics import log_jacobian_std
        >>> log_jacobian_std(np.zeros((24, 20, 2)))
        0.0
    """
    return std_of_logarithm(_determinants(displacement, mask))


def std_of_logarithm(determinants) -> float:
    """What ``log_jacobian_std`` says of determinants, an array of any shape."""
    return float(np.log(np.maximum(determinants, SMALLEST_DETERMINANT)).std())


def _determinants(displacement, mask):
    """The Jacobian determinants inside the mask, (num_voxels,)."""
    determinants = jacobian_determinant(displacement)
    if mask is None:
        return determinants.ravel()
    mask = np.asarray(mask, bool)
    if mask.shape != determinants.shape:
        raise ValueError(
            f"the mask has shape {mask.shape}, but the displacement lies on the grid "
            f"{determinants.shape}; give a mask on that grid"
        )
    if not mask.any():
        raise ValueError("the mask holds 0 voxels; give one with at least one, or None for all")
    return determinants[mask]
