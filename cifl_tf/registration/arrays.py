"""Register arrays."""

from typing import TYPE_CHECKING

import numpy as np

from cifl_tf.registration.displacements import checked_pair

if TYPE_CHECKING:  # the network applies itself by this module
    from cifl_tf.registration.network import Registration


def register_arrays(
    network: "Registration", moving, fixed, inverse: bool = False, batch_size: int = 8
) -> np.ndarray:
    """Displacement between two images, or between the images of two batches.

    Args:
        network: trained on images like these.
        moving: (*shape) or (n, *shape, 1), intensities in [0, 1].
        fixed: the same shape.
        inverse: give the displacement from the fixed into the moving grid's points instead, which
            warps the fixed image onto the moving one.
        batch_size: pairs at a time.

    Returns:
        float32 (*shape, ndim), or (n, *shape, ndim) for batches, in voxels; for ``warp``.

    Raises:
        ValueError: the images do not fit the network, are not finite, or it has no inverse.

    Example:
        >>> import cifl_tf as cifl, numpy as np
        >>> network = cifl.Registration(None, (24, 20), num_filters=2, int_steps=0)
        >>> moving, fixed = np.random.rand(2, 24, 20)
        >>> displacement = cifl.register_arrays(network, moving, fixed)
        >>> cifl.warp(moving, displacement).shape
        (24, 20)
    """
    moving, fixed, single = checked_pair(moving, fixed)
    if moving.shape[1:-1] != tuple(network.shape):
        raise ValueError(
            f"the images have shape {moving.shape[1:-1]}, but the network is for {network.shape}; "
            "give network.for_shape of theirs"
        )
    function = network.inverse if inverse else network.forward
    displacement = np.concatenate(
        [
            function([moving[start : start + batch_size], fixed[start : start + batch_size]])
            for start in range(0, len(moving), batch_size)
        ]
    )
    return displacement[0] if single else displacement
