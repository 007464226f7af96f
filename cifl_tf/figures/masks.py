"""Pictures of masks."""

import nibabel
import numpy as np
from nibabel.affines import voxel_sizes

from cifl_tf.figures.panels import _grid, _panel, save_figure
from cifl_tf.images.intensity import rescale_intensity

CUTS = (0.2, 0.4, 0.6, 0.8)  # of the extent of a mask along an axis


def save_mask_picture(image, mask, path) -> None:
    """Save a picture of the outline of a mask on its image: four slices in each plane.

    Args:
        image: nibabel image (x, y, z).
        mask: nibabel image on the same grid, 1 inside; not empty.
        path: PNG to write, whole or not at all.
    """
    image, mask = (nibabel.as_closest_canonical(one) for one in (image, mask))
    values = rescale_intensity(np.asarray(image.dataobj))
    inside = np.asarray(mask.dataobj) > 0
    sizes = voxel_sizes(image.affine)
    steps = [np.delete(sizes, axis) for axis in range(3)]
    shapes = [np.delete(values.shape, axis) * step for axis, step in enumerate(steps)]
    figure, axes = _grid(3, len(CUTS), [height / width for width, height in shapes])
    for axis, row in enumerate(axes):
        places = np.flatnonzero(np.moveaxis(inside, axis, 0).any(axis=(1, 2)))
        for panel, cut in zip(row, CUTS, strict=True):
            index = round(places[0] + cut * (places[-1] - places[0]))
            _panel(panel, values.take(index, axis), cmap="gray", vmin=0, vmax=1)
            outlined = inside.take(index, axis)
            if outlined.any() and not outlined.all():
                panel.contour(outlined.T, levels=[0.5], colors="red", linewidths=0.8)
            panel.set_aspect(steps[axis][1] / steps[axis][0])
    save_figure(figure, path)
