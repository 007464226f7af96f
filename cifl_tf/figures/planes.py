"""Slices of canonical volumes in pictures: which planes show, where they are cut, and outlines."""

from collections.abc import Sequence

import numpy as np
from nibabel.affines import apply_affine, voxel_sizes
from nibabel.orientations import apply_orientation

from cifl_tf.figures.panels import NARROWEST, _panel
from cifl_tf.images.grid import canonical, three_axes
from cifl_tf.images.volumes import read_grid

# What lies on the left and on the right of a slice across each canonical axis.
SIDES = (("P", "A"), ("L", "R"), ("L", "R"))


def canonical_values(image) -> tuple[np.ndarray, np.ndarray]:
    """The voxels of a nibabel image in canonical orientation, and their affine to mm.

    Args:
        image: of a volume or of one slice, which becomes a volume of one slice.
    """
    orientation, _, affine = canonical(read_grid(image))
    values = np.asarray(image.dataobj).reshape(three_axes(image.shape))
    return apply_orientation(values, orientation), affine


def take_slice(values: np.ndarray, axis: int, index: int) -> np.ndarray:
    """A slice of a volume; ``np.take`` would copy a volume whose memory is in another order."""
    return np.moveaxis(values, axis, 0)[index]


def pixel_size(affine: np.ndarray, axis: int) -> tuple[float, float]:
    """Voxel size in mm along both axes of the slices across an axis."""
    width, height = np.delete(voxel_sizes(affine), axis).tolist()
    return width, height


def plane_aspect(shape: Sequence[int], affine: np.ndarray, axis: int) -> float:
    """Height over width in mm of the slices across an axis of a volume of this shape."""
    width, height = np.delete(shape, axis) * pixel_size(affine, axis)
    return float(height / width)


def shown_axes(shape: Sequence[int], affine: np.ndarray) -> list[int]:
    """The axes across the planes of a volume that a picture shows: all but strips.

    Args:
        shape: three sizes; of a single slice, its own plane shows alone.
        affine: (4, 4), voxels to mm.
    """
    extents = np.where(np.equal(shape, 1), 0, np.multiply(shape, voxel_sizes(affine)))
    planes = [np.delete(extents, axis) for axis in range(3)]
    shown = [axis for axis in range(3) if min(planes[axis]) > NARROWEST * max(planes[axis])]
    return shown or [int(extents.argmin())]


def spread_cuts(inside: np.ndarray, axis: int, shares: Sequence[float]) -> list[int]:
    """Indices of different slices across an axis, at shares of the extent of a mask.

    Args:
        inside: booleans (x, y, z); where none is true, the extent is that of the array.
        axis: across the slices.
        shares: in [0, 1], ascending.
    """
    places = np.flatnonzero(np.moveaxis(inside, axis, 0).any(axis=(1, 2)))
    first, last = (places[0], places[-1]) if len(places) else (0, inside.shape[axis] - 1)
    return list(dict.fromkeys(round(first + share * (last - first)) for share in shares))


def place_text(shape: Sequence[int], affine: np.ndarray, axis: int, index: int) -> str:
    """Where the middle of a slice across an axis lies in space, such as "z = 12 mm"."""
    middle = (np.array(shape) - 1) / 2
    middle[axis] = index
    return f"{'xyz'[axis]} = {round(apply_affine(affine, middle)[axis])} mm"


def draw_slice(panel, values: np.ndarray, affine: np.ndarray, axis: int, index: int) -> None:
    """Draw a slice of a canonical volume in gray, with its sides and its place in mm.

    Args:
        panel: axes of matplotlib.
        values: (x, y, z) in [0, 1].
        affine: (4, 4), voxels to mm.
        axis: across the slices.
        index: of the slice.
    """
    shown = take_slice(values, axis, index)
    _panel(panel, shown, pixel_size(affine, axis), SIDES[axis], cmap="gray", vmin=0, vmax=1)
    panel.set_title(place_text(values.shape, affine, axis, index), fontsize="x-small", pad=2)


def draw_outline(
    panel,
    inside: np.ndarray,
    color,
    first: Sequence[int] = (0, 0),
    level: float = 0.5,
    width: float = 0.8,
) -> None:
    """Draw the outline of a mask, also where it touches the border of the slice; none of no mask.

    Args:
        panel: axes of matplotlib, with the slice.
        inside: booleans (x, y).
        color: of the line.
        first: pixel of the slice where the mask begins.
        level: where the line is between pixels outside, 0, and inside, 1.
        width: of the line.
    """
    if not inside.any():
        return
    padded = np.pad(inside.astype(np.float32), 1)
    columns, rows = (
        np.arange(size) + start - 1 for size, start in zip(padded.shape, first, strict=True)
    )
    panel.contour(columns, rows, padded.T, levels=[level], colors=[color], linewidths=width)
