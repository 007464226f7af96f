"""Figures of the paper, as matplotlib figures, and pictures for quality control."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import nibabel
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from nibabel.affines import apply_affine

from cifl_tf.files import written_whole

NUM_TILES = 8  # of a checkerboard, along the longer side
NUM_LINES = 20  # of the grid that shows a warp


def _panel(axes, image, **kwargs):
    """Show a slice (x, y) with the first axis to the right and the second up, as in MRI viewers."""
    axes.imshow(np.asanyarray(image).T, origin="lower", interpolation="nearest", **kwargs)
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set_visible(False)


def _grid(rows: int, columns: int, aspect) -> tuple[Figure, np.ndarray]:
    """Figure of panels without a display.

    ``aspect`` is height over width of a panel, one number or one for each row.
    """
    width, aspects = 1.6, np.broadcast_to(aspect, rows).tolist()
    size = (columns * width + 0.4, width * sum(aspects) + 0.4)
    figure = Figure(size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, height_ratios=aspects)


def feature_figure(
    images: Mapping[str, np.ndarray],
    features: Mapping[str, np.ndarray],
    num_channels: int = 8,
) -> Figure:
    """Features of several contrasts of a slice (Figure 2 of Chua & Dalca).

    Rows are contrasts; the first column is the image, the others are channels. A channel has the
    same color scale in every row, symmetric around zero.

    Args:
        images: slices (x, y) by the name of their contrast, in [0, 1].
        features: features (x, y, C) by the same names.
        num_channels: how many channels to show at most.

    Raises:
        ValueError: the names differ.
    """
    if list(images) != list(features):
        raise ValueError(f"images are {list(images)}, but features are {list(features)}")
    first = next(iter(features.values()))
    channels = range(min(num_channels, first.shape[-1]))
    figure, axes = _grid(len(images), 1 + len(channels), first.shape[1] / first.shape[0])
    stacked = np.stack(list(features.values()))
    limits = [np.percentile(np.abs(stacked[..., channel]), 99) or 1.0 for channel in channels]
    for row, name in zip(axes, images, strict=True):
        _panel(row[0], images[name], cmap="gray", vmin=0, vmax=1)
        row[0].set_ylabel(name)
        for panel, channel in zip(row[1:], channels, strict=True):
            limit = limits[channel]
            values = features[name][..., channel]
            _panel(panel, values, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes[0, 0].set_title("image", fontsize="medium")
    for panel, channel in zip(axes[0, 1:], channels, strict=True):
        panel.set_title(f"channel {channel + 1}", fontsize="medium")
    return figure


def synthesis_figure(label_maps: np.ndarray, view_1: np.ndarray, view_2: np.ndarray) -> Figure:
    """Label maps and the two contrasts made from each (Figure 1 of Chua & Dalca).

    Args:
        label_maps: integers (batch, x, y); each is a column.
        view_1, view_2: images (batch, x, y) in [0, 1].
    """
    aspect = label_maps.shape[2] / label_maps.shape[1]
    figure, axes = _grid(3, len(label_maps), aspect)
    rows = {"labels": label_maps, "contrast 1": view_1, "contrast 2": view_2}
    for row, (name, images) in zip(axes, rows.items(), strict=True):
        row[0].set_ylabel(name)
        for panel, image in zip(row, images, strict=True):
            if name == "labels":
                _panel(panel, image, cmap="tab20", vmin=0, vmax=max(19, label_maps.max()))
            else:
                _panel(panel, image, cmap="gray", vmin=0, vmax=1)
    return figure


def segmentation_figure(
    images: Mapping[str, np.ndarray],
    truth: np.ndarray,
    predictions: Mapping[str, Mapping[str, np.ndarray]],
) -> Figure:
    """Label maps that several methods give one slice in several contrasts, beside the truth.

    Rows are contrasts; columns are the image, the true labels and each method's.

    Args:
        images: slices (x, y) by the name of their contrast, in [0, 1].
        truth: integer labels (x, y), 0 the background.
        predictions: integer labels (x, y) by method and, within it, by the names of the images.

    Raises:
        ValueError: a method lacks a contrast, or has another.
    """
    for method, found in predictions.items():
        if list(found) != list(images):
            raise ValueError(f"images are {list(images)}, but {method} has {list(found)}")
    columns = ["image", "labels", *predictions]
    figure, axes = _grid(len(images), len(columns), truth.shape[1] / truth.shape[0])
    for row, (name, image) in zip(axes, images.items(), strict=True):
        _panel(row[0], image, cmap="gray", vmin=0, vmax=1)
        row[0].set_ylabel(name)
        label_maps = [truth, *(found[name] for found in predictions.values())]
        for panel, labels in zip(row[1:], label_maps, strict=True):
            _panel(panel, np.ma.masked_equal(labels, 0), cmap="tab10", vmin=1, vmax=10)
            panel.set_facecolor("black")
    for panel, title in zip(axes[0], columns, strict=True):
        panel.set_title(title, fontsize="medium")
    return figure


@dataclass(frozen=True, eq=False)
class RegisteredSlice:
    """One slice of a registered pair, for ``registration_figure``.

    Attributes:
        fixed, moving, warped: slices (x, y) in [0, 1].
        displacement: (x, y, 2) in voxels, ``warped(x) = moving(x + u(x))``.
        voxel_size: in mm along both axes.
    """

    fixed: np.ndarray = field(repr=False)
    moving: np.ndarray = field(repr=False)
    warped: np.ndarray = field(repr=False)
    displacement: np.ndarray = field(repr=False)
    voxel_size: tuple[float, float] = (1.0, 1.0)


def registration_figure(slices: Mapping[str, RegisteredSlice]) -> Figure:
    """A registered pair before and after, and the warp.

    Rows are slices. Columns: the fixed, moving and warped image, checkerboards of fixed and moving
    and of fixed and warped, and the warped image under a grid that was straight on the moving one.

    Args:
        slices: by name.

    Raises:
        ValueError: there are none.
    """
    if not slices:
        raise ValueError("there are no slices: give one at least")
    extents = [np.multiply(one.fixed.shape, one.voxel_size) for one in slices.values()]
    figure, axes = _grid(len(slices), 6, [height / width for width, height in extents])
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
        for panel, image in zip(row, images, strict=True):
            _panel(panel, image, cmap="gray", vmin=0, vmax=1)
            panel.set_aspect(one.voxel_size[1] / one.voxel_size[0])
        _draw_warp(row[-1], one, max(extent) / NUM_LINES)
    titles = ("fixed", "moving", "warped", "fixed | moving", "fixed | warped", "warp")
    for panel, title in zip(axes[0], titles, strict=True):
        panel.set_title(title, fontsize="medium")
    return figure


def _draw_warp(panel, one, spacing):
    """Draw lines of constant position on the moving image, this many mm apart."""
    positions = np.moveaxis(one.displacement, -1, 0) + np.indices(one.fixed.shape)
    for position, voxel_size in zip(positions, one.voxel_size, strict=True):
        values = position.T * voxel_size
        levels = np.arange(values.min(), values.max(), spacing)
        panel.contour(values, levels, colors="gold", linewidths=0.6)


def curve_figure(steps: Sequence[int], curves: Mapping[str, Sequence[float]]) -> Figure:
    """Signals of a training over its optimisation steps, one panel each.

    Args:
        steps: at the end of each epoch.
        curves: as many values each, by name.
    """
    figure, axes = _grid(1, len(curves), 1)
    for panel, (name, values) in zip(axes[0], curves.items(), strict=True):
        panel.plot(steps, values, linewidth=1)
        panel.set_title(name.replace("_", " "), fontsize="small")
        panel.tick_params(labelsize="x-small")
        panel.set_xlabel("step", fontsize="x-small")
        if min(values) > 0:
            panel.set_ylim(bottom=0)
    return figure


def save_figure(figure: Figure, path, dpi: int = 120) -> None:
    """Save a figure as PNG, whole or not at all; missing folders are made."""
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi)


def save_overlay(image, labels, path) -> None:
    """Save a picture of labels over their image: three slices through the middle of the labels.

    Of a single slice, this one; without labels, those through the middle of the image.

    Args:
        image: nibabel image.
        labels: nibabel label map on any grid.
        path: PNG to write, whole or not at all.
    """
    from nilearn.plotting import plot_roi  # slow to import

    image, labels = (_with_three_axes(one) for one in (image, labels))
    thin = [
        axis for axis, size in enumerate(nibabel.as_closest_canonical(image).shape) if size == 1
    ]
    view: dict = {"display_mode": "xyz"[thin[0]], "cut_coords": 1} if thin else {}
    if not thin and not np.any(labels.dataobj):
        # nilearn would cut through the origin, which may lie outside of the image.
        view["cut_coords"] = apply_affine(image.affine, (np.array(image.shape) - 1) / 2)
    with written_whole(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # no labels, or an axis of one voxel
        display = plot_roi(
            labels,
            image,
            cmap="tab10",
            alpha=0.5,
            black_bg=True,
            draw_cross=False,
            colorbar=False,
            **view,
        )
        display.savefig(temporary, dpi=120)
        display.close()


def _with_three_axes(image):
    """The image, of a slice as a volume of one."""
    if image.ndim == 3:
        return image
    return nibabel.Nifti1Image(np.asarray(image.dataobj)[..., None], image.affine)


def figure_pixels(figure: Figure, dpi: int = 80) -> np.ndarray:
    """A figure as uint8 pixels (height, width, 4), for TensorBoard."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())
