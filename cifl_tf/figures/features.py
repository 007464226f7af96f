"""Pictures of features, and of the synthesis that trains them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from cifl_tf.figures.panels import _grid, _panel, central_slice, save_figure
from cifl_tf.figures.planes import SIDES, pixel_size, place_text, shown_axes
from cifl_tf.images.intensity import rescale_intensity
from cifl_tf.images.planes import PLANES
from cifl_tf.images.volumes import Volume


@dataclass(frozen=True, eq=False)
class _Row:
    """A slice (x, y) in [0, 1], its features (x, y, C), and how the slice lies."""

    image: np.ndarray
    features: np.ndarray
    voxel_size: tuple[float, float]
    sides: tuple[str, str] | None = None


def feature_figure(
    images: Mapping[str, np.ndarray],
    features: Mapping[str, np.ndarray],
    num_channels: int = 8,
    voxel_size: tuple[float, float] = (1.0, 1.0),
) -> Figure:
    """Features of several contrasts of a slice (Figure 2 of Chua & Dalca).

    Rows are contrasts; the first column is the image, the others are channels. A channel has the
    same color scale in every row, symmetric around zero.

    Args:
        images: slices (x, y) by the name of their contrast, in [0, 1].
        features: features (x, y, C) by the same names.
        num_channels: how many channels to show at most.
        voxel_size: in mm along both axes, or in any other unit.

    Raises:
        ValueError: the names differ.
    """
    if list(images) != list(features):
        raise ValueError(f"images are {list(images)}, but features are {list(features)}")
    rows = {name: _Row(images[name], features[name], voxel_size) for name in images}
    return _row_figure(rows, num_channels)


def _row_figure(rows: Mapping[str, _Row], num_channels: int) -> Figure:
    """A figure of slices of any size with their channels; see ``feature_figure``."""
    count = min(num_channels, next(iter(rows.values())).features.shape[-1])
    stacked = np.concatenate(
        [row.features[..., :count].reshape(-1, count) for row in rows.values()]
    )
    limits = [limit or 1.0 for limit in np.percentile(np.abs(stacked), 99, axis=0)]
    extents = [np.multiply(row.image.shape, row.voxel_size) for row in rows.values()]
    aspects = [height / width for width, height in extents]
    figure, axes = _grid(len(rows), 1 + count, aspects)
    for panels, (name, row) in zip(axes, rows.items(), strict=True):
        _panel(panels[0], row.image, row.voxel_size, row.sides, cmap="gray", vmin=0, vmax=1)
        panels[0].set_ylabel(name)
        for channel, (panel, limit) in enumerate(zip(panels[1:], limits, strict=True)):
            values, scale = row.features[..., channel], {"vmin": -limit, "vmax": limit}
            _panel(panel, values, row.voxel_size, cmap="RdBu_r", **scale)
    axes[0, 0].set_title("image", fontsize="medium")
    for number, panel in enumerate(axes[0, 1:], start=1):
        panel.set_title(f"channel {number}", fontsize="medium")
    return figure


def save_feature_picture(
    volume: Volume, features, path, axis: int | None = None, num_channels: int = 6
) -> None:
    """Save a picture of slices of an image and of the first channels of its features.

    Half of the intensity lies before each slice. Letters say where left (L), right (R), anterior
    (A) and posterior (P) are.

    Args:
        volume: the image as the encoder saw it.
        features: array or ``ChannelFile`` (x, y, z, C) on its grid.
        path: PNG to write, whole or not at all.
        axis: across the slices that the encoder saw, of which one shows; None for an encoder of
            volumes, for one slice in each plane.
        num_channels: how many channels to show at most.
    """
    image = rescale_intensity(volume.data)
    rows = {}
    for across in shown_axes(image.shape, volume.affine) if axis is None else [axis]:
        index = central_slice(image, across)
        place: tuple[slice | int, ...] = (*[slice(None)] * across, index)
        size = pixel_size(volume.affine, across)
        name = f"{[*PLANES][across]}\n{place_text(image.shape, volume.affine, across, index)}"
        rows[name] = _Row(image[place], features[place], size, SIDES[across])
    save_figure(_row_figure(rows, num_channels), path)


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
