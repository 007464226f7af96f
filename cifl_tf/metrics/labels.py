"""How well two label maps agree, and how large their labels are."""

from collections.abc import Iterable

import numpy as np
from scipy import ndimage


def dice(labels_1, labels_2, label_values) -> np.ndarray:
    """Dice overlap of every label, 2 |A ∩ B| / (|A| + |B|).

    A label absent from both maps gives NaN, which means leave out (see `mean_and_sd`): there was
    nothing to find, so 1 would reward, and 0 punish, a subject for anatomy outside its image.
    A label absent from only one of them gives 0.

    Args:
        labels_1: label map (*spatial).
        labels_2: label map on the same grid.
        label_values: the labels to compare, such as [1, 2, 3].

    Returns:
        (num_labels,) in [0, 1] or NaN, in the order of label_values.

    Raises:
        ValueError: the label maps have different shapes, or there are no label_values.

    Source: Dice, Measures of the amount of ecologic association between species, Ecology 1945.

    Example:
        >>> from cifl_tf.metrics import dice
        >>> dice([[0, 1, 1, 1]], [[0, 0, 1, 1]], [1, 2])
        array([0.8, nan])
    """
    values, (labels_1, labels_2) = _checked(label_values, labels_1, labels_2)
    overlaps = np.full(len(values), np.nan)
    for index, value in enumerate(values):
        mask_1, mask_2 = labels_1 == value, labels_2 == value
        size = np.count_nonzero(mask_1) + np.count_nonzero(mask_2)
        if size:
            overlaps[index] = 2 * np.count_nonzero(mask_1 & mask_2) / size
    return overlaps


def hausdorff95(labels_1, labels_2, label_values, voxel_size) -> np.ndarray:
    """95 % Hausdorff distance of every label in mm, max(P95 of d(a, B), P95 of d(b, A)).

    a runs over the surface of A (the outline in 2D), and d(a, B) is its distance from the nearest
    point of the surface of B. Surface points are the corners where voxels inside and outside meet.
    P95 is the smallest distance that 95 % of the surface points do not exceed. Other packages take
    voxel centers, weigh points by area, or pool both directions; their numbers differ by up to
    about a voxel. Give a slice as (x, y): the faces of a slab (x, y, 1) would count as surface.

    A label absent from both maps gives NaN, to be left out as in `dice`. One absent from only one
    of them gives infinity, which no mean can hide; count such subjects apart.

    Args:
        labels_1: label map (x, y[, z]).
        labels_2: label map on the same grid.
        label_values: the labels to compare, such as [1, 2, 3].
        voxel_size: (ndim,) in mm, in the order of the axes.

    Returns:
        (num_labels,) in mm, in the order of label_values.

    Raises:
        ValueError: the label maps differ in shape or are not 2D or 3D, there are no label_values,
            or voxel_size is not one positive number per axis.

    Sources: Huttenlocher et al., Comparing images using the Hausdorff distance, IEEE TPAMI 1993;
    surface points as in Nikolov et al., arXiv:1809.04430, each of the same weight.

    Example:
        >>> import numpy as np
        >>> from cifl_tf.metrics import hausdorff95
        >>> labels = np.zeros((24, 20), int)
        >>> labels[8:16, 8:12] = 1
        >>> hausdorff95(labels, np.roll(labels, 3, axis=0), [1], voxel_size=(2, 2))
        array([6.])
    """
    values, (labels_1, labels_2) = _checked(label_values, labels_1, labels_2)
    if labels_1.ndim not in (2, 3):
        raise ValueError(
            f"label maps must be (x, y) or (x, y, z), not of shape {labels_1.shape}; "
            "compare one image at a time"
        )
    sizes = _voxel_size(voxel_size, (labels_1.ndim,))
    distances = np.full(len(values), np.nan)
    for index, value in enumerate(values):
        mask_1, mask_2 = labels_1 == value, labels_2 == value
        if mask_1.any() and mask_2.any():
            distances[index] = _robust_hausdorff(mask_1, mask_2, sizes)
        elif mask_1.any() or mask_2.any():
            distances[index] = np.inf
    return distances


def _robust_hausdorff(mask_1, mask_2, sizes):
    """The larger 95th percentile of the distances between two surfaces, in mm."""
    # A margin of one voxel: its corners are those of the label's outermost voxels.
    (box,) = ndimage.find_objects((mask_1 | mask_2).astype(np.uint8))
    corners = [_surface_corners(np.pad(mask[box], 1)) for mask in (mask_1, mask_2)]
    to_surface = [ndimage.distance_transform_edt(~surface, sizes) for surface in corners]
    directed = to_surface[1][corners[0]], to_surface[0][corners[1]]
    return max(np.percentile(distances, 95, method="inverted_cdf") for distances in directed)


def _surface_corners(mask):
    """Whether both the inside and the outside touch the corner after each voxel, on every axis."""
    around = np.lib.stride_tricks.sliding_window_view(mask, (2,) * mask.ndim)
    axes = tuple(range(mask.ndim, 2 * mask.ndim))
    return around.any(axes) & ~around.all(axes)


def volumes_mm3(labels, label_values, voxel_size) -> np.ndarray:
    """Volume of every label, its number of voxels times the volume of a voxel.

    Args:
        labels: label map (x, y[, z]).
        label_values: the labels to measure, such as [1, 2, 3].
        voxel_size: (ndim,) in mm, in the order of the axes; for a slice also (x, y, thickness),
            where (x, y) takes the thickness as 1 mm.

    Returns:
        (num_labels,) in mm³, in the order of label_values; 0 for an absent label.

    Raises:
        ValueError: the label map is not 2D or 3D, there are no label_values, or voxel_size is not
            one positive number per axis.

    Example:
        >>> from cifl_tf.metrics import volumes_mm3
        >>> volumes_mm3([[0, 1, 1, 1]], [1, 2], voxel_size=(2, 2, 3))
        array([36.,  0.])
    """
    values, (labels,) = _checked(label_values, labels)
    if labels.ndim not in (2, 3):
        raise ValueError(
            f"a label map must be (x, y) or (x, y, z), not of shape {labels.shape}; "
            "measure one image at a time"
        )
    voxel_volume = np.prod(_voxel_size(voxel_size, (labels.ndim, 3)))
    return np.array([np.count_nonzero(labels == value) for value in values]) * voxel_volume


def _checked(label_values, *label_maps):
    """The label values and the label maps as arrays, after the checks that all metrics share."""
    given = list(label_values) if isinstance(label_values, Iterable) else label_values
    values = np.asarray(given)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"label_values must list at least one label, as [1, 2, 3], not {given!r}")
    label_maps = tuple(np.asarray(label_map) for label_map in label_maps)
    shapes = [label_map.shape for label_map in label_maps]
    if len(set(shapes)) > 1:
        raise ValueError(
            f"the label maps have different shapes, {shapes[0]} and {shapes[1]}; "
            "resample one onto the grid of the other"
        )
    return values, label_maps


def _voxel_size(voxel_size, lengths):
    sizes = np.asarray(voxel_size, np.float64)
    if sizes.ndim != 1 or sizes.size not in lengths or not (np.isfinite(sizes) & (sizes > 0)).all():
        raise ValueError(
            f"voxel_size must be {lengths[0]} positive numbers in mm, one per axis of the label "
            f"map, not {voxel_size!r}"
        )
    return sizes
