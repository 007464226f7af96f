"""Pictures of label maps."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from nibabel.affines import apply_affine, from_matvec, voxel_sizes
from scipy.ndimage import find_objects

from cifl_tf.figures.panels import _grid, _panel, save_figure
from cifl_tf.figures.planes import (
    canonical_values,
    draw_outline,
    draw_slice,
    plane_aspect,
    shown_axes,
    spread_cuts,
    take_slice,
)
from cifl_tf.images.grid import resample
from cifl_tf.images.intensity import rescale_intensity
from cifl_tf.images.volumes import natural_plane, plane_axis

MOST_COLUMNS = 5  # of the legend
MOST_IN_LEGEND = 20  # labels; more colors cannot be told apart
# Of outlines on gray.
BRIGHT = ("deepskyblue", "orange", "limegreen", "red", "violet", "yellow", "turquoise")
MAIN_CUTS = (0.15, 0.3, 0.44, 0.58, 0.72, 0.86)  # of the extent of labels, across the main plane
OTHER_CUTS = (0.35, 0.65)
LEVEL = 0.85  # of outlines, a third of a voxel inside, so that neighbors stand side by side
MARGIN = 20.0  # mm around the labels that show
FIGURE_WIDTH, DPI = 9.0, 200  # inches, pixels in one


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
    """Save a picture of the outlines of labels, each slice beside the image alone.

    Six axial slices and two of each other plane, spread over the extent of the labels, or of the
    image where there are none; of thick slices, six of these. Of a single slice, this one alone
    shows. The picture ends 20 mm beyond the labels. Letters say where left (L), right (R),
    anterior (A) and posterior (P) are. A legend below names the labels, if they are at most 20.

    Args:
        image: nibabel image.
        labels: nibabel label map on any grid.
        path: PNG to write, whole or not at all.
        label_names: of the labels, by value, which have the same color in every picture; None for
            the values that the label map holds.
    """
    values, affine = canonical_values(image)
    label_map, label_affine = canonical_values(labels)
    label_map = resample(label_map, label_affine, affine, values.shape, "nearest", outside=0)
    found = {int(value) for value in np.unique(label_map)} - {0}
    if label_names is None:
        label_names = {value: str(value) for value in sorted(found)}
    colors = dict(zip(label_names, _label_colors(len(label_names)), strict=True))
    near = _near(label_map != 0, affine)
    values, label_map = rescale_intensity(values)[near], label_map[near]
    corner = apply_affine(affine, [part.start for part in near])
    affine = from_matvec(affine[:3, :3], corner)
    figure = _outline_figure(_brightened(values, label_map != 0), label_map, affine, colors)
    patches = [
        Patch(color=color, label=label_names[value])
        for value, color in colors.items()
        if value in found
    ]
    if 0 < len(patches) <= MOST_IN_LEGEND:
        longest = max(len(str(patch.get_label())) for patch in patches)
        columns = min(MOST_COLUMNS, max(1, int(FIGURE_WIDTH / (0.6 + 0.09 * longest))))
        options = {"ncols": columns, "fontsize": "small", "frameon": False}
        figure.legend(handles=patches, loc="outside lower center", **options)
    save_figure(figure, path, DPI)


def _near(inside, affine):
    """The part of a volume that shows: a mask and what is near it, or all where it is empty."""
    parts = []
    for axis, size in enumerate(voxel_sizes(affine)):
        places = np.flatnonzero(inside.any(tuple({0, 1, 2} - {axis})))
        margin, length = math.ceil(MARGIN / size), inside.shape[axis]
        first, last = (places[0], places[-1]) if len(places) else (0, length - 1)
        parts.append(slice(max(0, first - margin), min(length, last + margin + 1)))
    return tuple(parts)


def _brightened(values, inside):
    """The values with white where the brightest of what has labels is, not the fat of a scalp."""
    if not inside.any():
        return values
    white = max(np.percentile(values, 95), np.percentile(values[inside], 99.5))
    return values / white if white > 0 else values


def _outline_figure(values, label_map, affine, colors):
    """Slices of an image in [0, 1], each beside the same slice under the outlines of its labels."""
    shown = shown_axes(values.shape, affine)
    main = plane_axis(natural_plane(affine, "axial"))
    main = main if main in shown else shown[0]
    rows: list[tuple[int, list[int]]] = []
    for axis in (main, *(axis for axis in shown if axis != main)):
        cuts = spread_cuts(label_map != 0, axis, MAIN_CUTS if axis == main else OTHER_CUTS)
        rows += [(axis, cuts[start : start + 2]) for start in range(0, len(cuts), 2)]
    columns = 2 * max(len(indices) for _, indices in rows)
    aspects = [plane_aspect(values.shape, affine, axis) for axis, _ in rows]
    figure, axes = _grid(len(rows), columns, aspects, FIGURE_WIDTH / columns)
    for panels, (axis, indices) in zip(axes, rows, strict=True):
        for panel in panels:
            panel.set_axis_off()
        for index, pair in zip(indices, panels.reshape(-1, 2), strict=False):
            for panel in pair:
                draw_slice(panel, values, affine, axis, index)
            _draw_labels(pair[1], take_slice(label_map, axis, index), colors)
    return figure


def _draw_labels(panel, labels, colors):
    """Draw the outline of every label that has a color."""
    values, codes = np.unique(labels, return_inverse=True)
    codes = codes.reshape(labels.shape)
    for code, (value, box) in enumerate(zip(values.tolist(), find_objects(codes + 1), strict=True)):
        if value in colors:
            first = [part.start for part in box]
            draw_outline(panel, codes[box] == code, colors[value], first, LEVEL, 0.5)


def _label_colors(count: int) -> list:
    """As many colors that differ as well as so many can."""
    if count <= len(BRIGHT):
        return [to_rgb(color) for color in BRIGHT[:count]]
    # From blue to pink: the ends of the map are nearly black and white.
    places = np.linspace(0.12, 0.95, count)
    return [colormaps["gist_ncar"](place) for place in places.tolist()]
