"""Where the head is in a scan: a field of view as in training, whatever else the scan shows."""

import numpy as np
from scipy import ndimage

from cifl_tf.images.intensity import air_mask

FIELD_MM = (192.0, 240.0, 216.0)  # of training and of what the network gets
MARGIN_MM = 12.0  # above the head
BELOW_MM = 170.0  # of the head that the field is centered on, without the neck
AROUND_MM = 3.0, 15.0  # beyond the brain, where skull and scalp are
LEAST_OF_HEAD = 0.1  # intensity, of [0, 1], that is no air


def head_window(image: np.ndarray, voxel_size: float) -> tuple[slice, ...]:
    """The voxels of a field of view whose top is above the head and which has it in its middle.

    Args:
        image: (x, y, z) in [0, 1], canonical axes.
        voxel_size: mm.

    Returns:
        Slices that may begin below 0 and end beyond the image.
    """
    head = shown(image)
    if not head.any():
        head = np.ones(image.shape, bool)
    sizes = [round(length / voxel_size) for length in FIELD_MM]
    top = int(np.flatnonzero(head.any(axis=(0, 1)))[-1])
    upper = head[:, :, max(0, top + 1 - round(BELOW_MM / voxel_size)) : top + 1]
    first = []
    for axis in range(2):
        places = np.flatnonzero(upper.any(axis=tuple({0, 1, 2} - {axis})))
        first.append(round((places[0] + places[-1] + 1 - sizes[axis]) / 2))
    first.append(top + 1 + round(MARGIN_MM / voxel_size) - sizes[2])
    return tuple(slice(one, one + size) for one, size in zip(first, sizes, strict=True))


def shown(image: np.ndarray) -> np.ndarray:
    """Voxels of an image in [0, 1] that are no air, without specks."""
    return ndimage.binary_opening(_no_air(image))


def share_around(image: np.ndarray, distance: np.ndarray) -> float:
    """Share of what lies ``AROUND_MM`` beyond the brain, in the field of view, that is no air.

    Args:
        image: (x, y, z) in [0, 1].
        distance: mm to the surface of the brain, negative inside.
    """
    nearest, farthest = AROUND_MM
    around = (distance > nearest) & (distance < farthest)
    return float(np.mean(_no_air(image)[around])) if around.any() else 0.0


def _no_air(image):
    return (image > LEAST_OF_HEAD) & ~air_mask(image)


def largest_piece(mask: np.ndarray) -> np.ndarray:
    """The largest connected piece of a mask; an empty one stays."""
    pieces, count = ndimage.label(mask)
    if count < 2:
        return mask
    return pieces == 1 + np.argmax(ndimage.sum(mask, pieces, range(1, count + 1)))
