"""Pictures of masks."""

from itertools import zip_longest

from cifl_tf.figures.panels import _grid, save_figure
from cifl_tf.figures.planes import (
    canonical_values,
    draw_outline,
    draw_slice,
    plane_aspect,
    shown_axes,
    spread_cuts,
    take_slice,
)
from cifl_tf.images.intensity import rescale_intensity

CUTS = (0.2, 0.4, 0.6, 0.8)  # of the extent of a mask along an axis
FIGURE_WIDTH = 6.4  # inches


def save_mask_picture(image, mask, path) -> None:
    """Save a picture of the outline of a mask on its image: four slices in each plane.

    Letters say where left (L), right (R), anterior (A) and posterior (P) are. Of a single slice,
    this one alone shows.

    Args:
        image: nibabel image (x, y, z).
        mask: nibabel image on the same grid, 1 inside.
        path: PNG to write, whole or not at all.
    """
    values, affine = canonical_values(image)
    values, inside = rescale_intensity(values), canonical_values(mask)[0] > 0
    cuts = {axis: spread_cuts(inside, axis, CUTS) for axis in shown_axes(values.shape, affine)}
    aspects = [plane_aspect(values.shape, affine, axis) for axis in cuts]
    columns = max(map(len, cuts.values()))
    figure, axes = _grid(len(cuts), columns, aspects, FIGURE_WIDTH / columns)
    for row, (axis, indices) in zip(axes, cuts.items(), strict=True):
        for panel, index in zip_longest(row, indices):
            if index is None:
                panel.set_axis_off()
                continue
            draw_slice(panel, values, affine, axis, index)
            draw_outline(panel, take_slice(inside, axis, index), "red")
    save_figure(figure, path)
