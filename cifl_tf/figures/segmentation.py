"""Pictures of label maps."""

import warnings
from collections.abc import Mapping

import nibabel
import numpy as np
from matplotlib import colormaps
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from nibabel.affines import apply_affine

from cifl_tf.figures.panels import _grid, _panel
from cifl_tf.images.atomic import atomic_path
from cifl_tf.images.volumes import read_grid

MOST_IN_LEGEND = 20  # labels; more colors cannot be told apart


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


def save_overlay(image, labels, path, label_names: Mapping[int, str] | None = None) -> None:
    """Save a picture of labels over their image: three slices through the middle of the labels.

    Of a single slice, this one; without labels, those through the middle of the image. A legend
    below names the labels, if they are at most 20.

    Args:
        image: nibabel image.
        labels: nibabel label map on any grid.
        path: PNG to write, whole or not at all.
        label_names: of the labels, by value, which have the same color in every picture; None for
            the values that the label map holds.
    """
    from nilearn.plotting import plot_roi  # slow to import

    image, labels = (_with_three_axes_in_mm(one) for one in (image, labels))
    values, codes = np.unique(np.asarray(labels.dataobj), return_inverse=True)
    if label_names is None:
        label_names = {int(value): str(value) for value in values if value}
    order = {value: place for place, value in enumerate(label_names, start=1)}
    colors = _label_colors(len(order))
    found = {order[value]: label_names[value] for value in values.tolist() if value in order}
    places = np.array([order.get(value, 0) for value in values.tolist()], np.int16)
    places = places[codes].reshape(labels.shape)
    thin = [
        axis for axis, size in enumerate(nibabel.as_closest_canonical(image).shape) if size == 1
    ]
    view: dict = {"display_mode": "xyz"[thin[0]], "cut_coords": 1} if thin else {}
    if not thin and not found:
        # nilearn would cut through the origin, which may lie outside of the image.
        view["cut_coords"] = apply_affine(image.affine, (np.array(image.shape) - 1) / 2)
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # no labels, or an axis of one voxel
        display = plot_roi(
            nibabel.Nifti1Image(places, labels.affine),
            image,
            cmap=ListedColormap(colors or ["white"]),
            vmin=1,
            vmax=max(2, len(order)),
            alpha=0.5,
            black_bg=True,
            draw_cross=False,
            colorbar=False,
            **view,
        )
        if 0 < len(found) <= MOST_IN_LEGEND:
            display.frame_axes.figure.legend(
                [Patch(color=colors[place - 1]) for place in found],
                list(found.values()),
                loc="upper center",
                bbox_to_anchor=(0.5, 0),
                ncols=min(len(found), 5),
                facecolor="black",
                edgecolor="black",
                labelcolor="white",
                fontsize="small",
            )
        display.savefig(temporary, dpi=120, bbox_inches="tight")
        display.close()


def _label_colors(count: int) -> list:
    """As many colors that differ as well as so many can."""
    if count <= 10:
        return [colormaps["tab10"](place) for place in range(count)]
    return [colormaps["gist_ncar"]((place + 0.5) / count) for place in range(count)]


def _with_three_axes_in_mm(image):
    """The image as a volume, of a slice as one of one slice, whose affine gives mm."""
    values = np.asarray(image.dataobj)
    return nibabel.Nifti1Image(
        values if image.ndim == 3 else values[..., None],
        read_grid(image).affine,
        dtype=values.dtype,
    )
