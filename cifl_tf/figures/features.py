"""Pictures of features, and of the synthesis that trains them."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from cifl_tf.figures.panels import _grid, _panel


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
