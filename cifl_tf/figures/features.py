"""Pictures of features, and of the synthesis that trains them."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from nibabel.affines import voxel_sizes

from cifl_tf.figures.panels import _grid, _panel, central_slice, save_figure
from cifl_tf.images.intensity import rescale_intensity
from cifl_tf.images.volumes import Volume, slice_axis


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
    first = next(iter(features.values()))
    channels = range(min(num_channels, first.shape[-1]))
    width, height = np.multiply(first.shape[:2], voxel_size)
    figure, axes = _grid(len(images), 1 + len(channels), height / width)
    stacked = np.stack(list(features.values()))
    limits = [np.percentile(np.abs(stacked[..., channel]), 99) or 1.0 for channel in channels]
    for row, name in zip(axes, images, strict=True):
        _panel(row[0], images[name], cmap="gray", vmin=0, vmax=1)
        row[0].set_ylabel(name)
        for panel, channel in zip(row[1:], channels, strict=True):
            limit = limits[channel]
            values = features[name][..., channel]
            _panel(panel, values, cmap="RdBu_r", vmin=-limit, vmax=limit)
    for panel in axes.flat:
        panel.set_aspect(voxel_size[1] / voxel_size[0])
    axes[0, 0].set_title("image", fontsize="medium")
    for panel, channel in zip(axes[0, 1:], channels, strict=True):
        panel.set_title(f"channel {channel + 1}", fontsize="medium")
    return figure


def save_feature_picture(volume: Volume, features, path, num_channels: int = 6) -> None:
    """Save a picture of one slice of an image and of the first channels of its features.

    The slice is coronal, or the only one that the image has; half of the intensity lies before it.

    Args:
        volume: the image as the encoder saw it.
        features: array or ``ChannelFile`` (x, y, z, C) on its grid.
        path: PNG to write, whole or not at all.
        num_channels: how many channels to show at most.
    """
    image = rescale_intensity(volume.data)
    axis = slice_axis(image.shape, "coronal")
    index = central_slice(image, axis)
    width, height = np.delete(voxel_sizes(volume.affine), axis).tolist()
    shown: tuple[slice | int, ...] = (*[slice(None)] * axis, index)
    figure = feature_figure(
        {"": image.take(index, axis)}, {"": features[shown]}, num_channels, (width, height)
    )
    save_figure(figure, path)


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
