"""What comes with a scan, label maps and masks: whether they lie where the scan does."""

import os

import numpy as np
from nibabel.affines import apply_affine

from cifl_tf._notes import note
from cifl_tf.images.grid import Grid, three_axes
from cifl_tf.images.label_maps import read_mask
from cifl_tf.images.volumes import Volume
from cifl_tf.registration.sampling import read_typed_labels

LEAST_INSIDE = 0.5  # share of labels or of a mask, in the field of view of their scan
MOST_PLACES = 100_000  # that are looked at, about
SAME_PLACE = 1e-3  # mm, of affines of one grid


def labels_of(labels, moving: Volume, fixed: Volume) -> Volume | None:
    """The label map of a moving scan.

    Args:
        labels: file or nibabel image, on any grid; None, or what this function gave, stays.
        moving: the scan to which they belong.
        fixed: the scan to which they do not belong.

    Raises:
        ValueError: the map is 0 wherever the moving scan lies.
        ValueError, FileNotFoundError: as ``read_typed_labels``.
    """
    if labels is None or isinstance(labels, Volume):
        return labels
    read, name = read_typed_labels(labels), _name("label map", labels)
    _check_place(read, name, moving, "moving")
    if _one_grid(read.original, fixed.original) and not _one_grid(read.original, moving.original):
        note(f"{name} has the grid of the fixed image, but its labels count for the moving image")
    return read


def mask_of(mask, scan: Volume, role: str) -> Volume | None:
    """The mask of a scan.

    Args:
        mask: file or nibabel image, on any grid, not 0 inside; None, or what this function gave,
            stays.
        scan: to which it belongs.
        role: of the scan: "moving" or "fixed".

    Raises:
        ValueError: the mask is 0 wherever the scan lies.
        ValueError, FileNotFoundError: as ``read_mask``.
    """
    if mask is None or isinstance(mask, Volume):
        return mask
    read = read_mask(mask)
    _check_place(read, _name(f"{role} mask", mask), scan, role)
    return read


def _check_place(companion, name, scan, role):
    """Refuse what is 0 wherever a scan lies; note what is mostly beyond it."""
    found = np.flatnonzero(companion.data)
    if not len(found):
        raise ValueError(f"{name} is 0 everywhere; give one that shows something")
    some = found[:: max(1, len(found) // MOST_PLACES)]
    shown = np.transpose(np.unravel_index(some, companion.data.shape))
    voxels = apply_affine(np.linalg.inv(scan.affine) @ companion.affine, shown)
    last = np.array(scan.data.shape) - 0.5
    inside = ((voxels >= -0.5) & (voxels <= last)).all(axis=1).mean()
    if inside == 0:
        raise ValueError(
            f"{name} lies beyond the {role} image; give one of this image, with its affine"
        )
    if inside < LEAST_INSIDE:
        note(f"only {inside:.0%} of {name} lies where the {role} image does")


def _one_grid(first: Grid, second: Grid) -> bool:
    """Whether voxels of two grids lie in the same places."""
    shapes = three_axes(first.shape), three_axes(second.shape)
    return shapes[0] == shapes[1] and np.allclose(first.affine, second.affine, atol=SAME_PLACE)


def _name(what, given):
    """What a message calls an image that was given beside a scan."""
    return f"the {what} {given}" if isinstance(given, str | os.PathLike) else f"the {what}"
