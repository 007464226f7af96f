"""Figures of the paper, as matplotlib figures, and pictures for quality control."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from cifl_tf.images.atomic import atomic_path

NARROWEST = 0.2  # shorter over longer side of a panel


def _panel(axes, image, voxel_size=(1.0, 1.0), sides=None, **kwargs):
    """Show a slice (x, y), or (x, y, 3) in colors, as in MRI viewers: the second axis goes up.

    ``voxel_size`` is along both axes; ``sides`` are letters for what lies on the left and on the
    right of the picture.
    """
    axes.imshow(
        np.asanyarray(image).swapaxes(0, 1),
        origin="lower",
        interpolation="nearest",
        aspect=voxel_size[1] / voxel_size[0],
        **kwargs,
    )
    axes.autoscale(False)  # or lines at the border would widen it
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set_visible(False)
    for letter, place, align in zip(sides or (), (0.02, 0.98), ("left", "right"), strict=False):
        axes.text(
            *(place, 0.98, letter),
            transform=axes.transAxes,
            ha=align,
            va="top",
            color="white",
            fontsize="x-small",
            path_effects=[withStroke(linewidth=1.5, foreground="black")],
        )


def _grid(rows: int, columns: int, aspect, width: float = 1.6) -> tuple[Figure, np.ndarray]:
    """Figure of panels without a display.

    ``aspect`` is height over width of a panel, one number or one for each row; ``width`` is that
    of a panel in inches.
    """
    aspects = np.broadcast_to(aspect, rows).clip(NARROWEST, 1 / NARROWEST).tolist()
    size = (columns * width + 0.4, width * sum(aspects) + 0.4)
    figure = Figure(size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, height_ratios=aspects)


def curve_figure(steps: Sequence[int], curves: Mapping[str, Sequence[float]]) -> Figure:
    """Signals of a training over its optimization steps, one panel each.

    Args:
        steps: at the end of each epoch.
        curves: as many values each, by name.
    """
    figure, axes = _grid(1, len(curves), 1)
    for panel, (name, values) in zip(axes[0], curves.items(), strict=True):
        panel.plot(steps, values, linewidth=1, marker="." if len(values) == 1 else "")
        panel.set_title(name.replace("_", " "), fontsize="small")
        panel.tick_params(labelsize="x-small")
        panel.set_xlabel("step", fontsize="x-small")
        if min(values) > 0:
            panel.set_ylim(bottom=0)
    return figure


def save_figure(figure: Figure, path, dpi: int = 120) -> None:
    """Save a figure as PNG, whole or not at all; missing folders are made."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi)


def central_slice(volume: np.ndarray, axis: int, share: float = 0.5) -> int:
    """Index of the slice along an axis before which this share of the intensity lies.

    Of the intensity rather than the voxels: the head may lie anywhere in the volume.

    Args:
        volume: intensities (x, y, z), not negative.
        axis: across the slices.
        share: in [0, 1].
    """
    mass = np.cumsum(volume.sum(tuple({0, 1, 2} - {axis})))
    return min(int(np.searchsorted(mass, share * mass[-1])), len(mass) - 1)


def figure_pixels(figure: Figure, dpi: int = 80) -> np.ndarray:
    """A figure as uint8 pixels (height, width, 4), for TensorBoard."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())
