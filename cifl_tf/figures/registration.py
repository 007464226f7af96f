"""Pictures of a registration."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from scipy.ndimage import binary_dilation, gaussian_filter

from cifl_tf.figures.panels import _grid, _panel
from cifl_tf.metrics.folding import jacobian_determinant

NUM_TILES = 8  # of a checkerboard, along the longer side
NUM_LINES = 20  # of the grid that shows a warp
EDGE_BLUR = 1.0  # mm, before edges are found
SHARE_OF_EDGES = 0.25  # of the pixels of a slice that are the steepest
LARGEST_LOGARITHM = 1.0  # of the Jacobian, where its colors end


@dataclass(frozen=True, eq=False)
class RegisteredSlice:
    """One slice of a registered pair, for ``registration_figure``.

    Attributes:
        fixed, moving, warped: slices (x, y) in [0, 1].
        displacement: (x, y, 2) in voxels, ``warped(x) = moving(x + u(x))``.
        voxel_size: in mm along both axes.
        jacobian: determinant (x, y) of the warp of the volume; None for that of the displacement.
        sides: letters for what lies on the left and on the right, such as L and R; None for none.
    """

    fixed: np.ndarray = field(repr=False)
    moving: np.ndarray = field(repr=False)
    warped: np.ndarray = field(repr=False)
    displacement: np.ndarray = field(repr=False)
    voxel_size: tuple[float, float] = (1.0, 1.0)
    jacobian: np.ndarray | None = field(default=None, repr=False)
    sides: tuple[str, str] | None = None


def registration_figure(slices: Mapping[str, RegisteredSlice]) -> Figure:
    """A registered pair before and after, and the warp.

    Rows are slices, whose first three images bear the letters of their sides. Columns: the fixed,
    moving and warped image, the latter two under the edges of the fixed one, checkerboards of fixed
    and moving and of fixed and warped, the warped image under a grid that was straight on the
    moving one, and the logarithm of the Jacobian determinant of the warp: red where the moving
    image is larger, blue where it is smaller, green where the warp folds.

    Args:
        slices: by name.

    Raises:
        ValueError: there are none.
    """
    if not slices:
        raise ValueError("there are no slices: give one at least")
    extents = [np.multiply(one.fixed.shape, one.voxel_size) for one in slices.values()]
    figure, axes = _grid(len(slices), 7, [height / width for width, height in extents])
    for row, (name, one), extent in zip(axes, slices.items(), extents, strict=True):
        tiles = np.indices(one.fixed.shape) * np.reshape(one.voxel_size, (2, 1, 1))
        odd = (tiles // (max(extent) / NUM_TILES)).sum(0) % 2 == 1
        images = (
            one.fixed,
            one.moving,
            one.warped,
            np.where(odd, one.moving, one.fixed),
            np.where(odd, one.warped, one.fixed),
            0.5 * one.warped,
        )
        row[0].set_ylabel(name)
        for panel, image in zip(row[:-1], images, strict=True):
            sides = one.sides if panel in row[:3] else None
            _panel(panel, image, one.voxel_size, sides, cmap="gray", vmin=0, vmax=1)
        for panel in row[1:3]:
            _draw_edges(panel, one.fixed, one.voxel_size)
        _draw_warp(row[-2], one, max(extent) / NUM_LINES)
        _draw_jacobian(row[-1], one)
    titles = (
        *("fixed", "moving", "warped", "fixed | moving", "fixed | warped", "warp"),
        f"log Jacobian, ±{LARGEST_LOGARITHM:g}",
    )
    for panel, title in zip(axes[0], titles, strict=True):
        panel.set_title(title, fontsize="medium")
    return figure


def _draw_edges(panel, image, voxel_size, color="red"):
    """Draw a line of equal intensity where the intensity changes most."""
    smooth = gaussian_filter(np.asarray(image, np.float32), np.divide(EDGE_BLUR, voxel_size))
    steepness = np.hypot(*np.gradient(smooth, *voxel_size))
    steep = steepness > np.quantile(steepness, 1 - SHARE_OF_EDGES)
    if steep.any():
        shown = np.ma.masked_array(smooth, ~binary_dilation(steep))
        panel.contour(shown.T, [np.median(smooth[steep])], colors=color, linewidths=0.35)


def _draw_warp(panel, one, spacing):
    """Draw lines of constant position on the moving image, this many mm apart."""
    positions = np.moveaxis(one.displacement, -1, 0) + np.indices(one.fixed.shape)
    for position, voxel_size in zip(positions, one.voxel_size, strict=True):
        values = position.T * voxel_size
        levels = np.arange(values.min(), values.max(), spacing)
        panel.contour(values, levels, colors="gold", linewidths=0.6)


def _draw_jacobian(panel, one):
    """Draw the logarithm of the Jacobian determinant under the edges of the fixed image."""
    determinant = jacobian_determinant(one.displacement) if one.jacobian is None else one.jacobian
    folded = determinant <= 0
    logarithm = np.ma.masked_array(np.log(np.where(folded, 1, determinant)), folded)
    colors = matplotlib.colormaps["RdBu_r"].with_extremes(bad="lime")
    limits = {"vmin": -LARGEST_LOGARITHM, "vmax": LARGEST_LOGARITHM}
    _panel(panel, logarithm, one.voxel_size, cmap=colors, **limits)
    _draw_edges(panel, one.fixed, one.voxel_size, "black")
