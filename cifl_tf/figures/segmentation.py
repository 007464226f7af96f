"""Pictures of label maps."""

import warnings
from collections.abc import Mapping

import nibabel
import numpy as np
from matplotlib.figure import Figure
from nibabel.affines import apply_affine

from cifl_tf.figures.panels import _grid, _panel, _with_three_axes
from cifl_tf.images.atomic import atomic_path


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
    with atomic_path(path) as temporary, warnings.catch_warnings():
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
