"""Sample images where the points of a grid lie in them."""

from dataclasses import replace

import nibabel
import numpy as np
from nibabel.affines import apply_affine
from scipy.ndimage import map_coordinates

from cifl_tf.images.grid import SPLINE_ORDERS, Grid, sampling_steps, smooth_before_sampling
from cifl_tf.images.nifti import open_image
from cifl_tf.images.volumes import Volume, read_label_volume, read_volume
from cifl_tf.registration.displacements import ORDERS


def sampled_image(
    image,
    grid: Grid,
    reached,
    steps,
    order: str = "linear",
    outside: float = 0.0,
    volume_index: int | None = None,
) -> nibabel.Nifti1Image:
    """Sample an image, or its labels, where the points of a grid lie in it.

    Args:
        image: see ``Displacement.apply``, also for the last three.
        grid: of the result.
        reached: (x, y, z, 3) in mm, a point of the image for each of the grid.
        steps: (4, 4), about the affine of these points, for the blur of what becomes coarser.

    Raises:
        ValueError, FileNotFoundError: as ``Displacement.apply``.
    """
    volume = as_volume(image, order, volume_index)
    array = volume.data
    if order == "linear":
        array = smooth_before_sampling(
            array.astype(np.float32, copy=False), sampling_steps(volume.affine, steps)
        )
    values = sampled(array, volume.affine, reached, order, outside)
    return grid.image(values.reshape(grid.shape))


def as_volume(image, order: str, volume_index: int | None = None) -> Volume:
    """An image to be sampled, read where it is no ``Volume`` yet.

    Args:
        image, order, volume_index: see ``Displacement.apply``.

    Raises:
        ValueError, FileNotFoundError: as ``Displacement.apply``.
    """
    if order not in ORDERS:
        raise ValueError(f"order is {order!r}; choose 'linear', or 'nearest' for label maps")
    if isinstance(image, Volume):
        return image
    read = read_typed_labels if order == "nearest" else read_volume
    return read(image, volume_index)


def read_typed_labels(image, volume_index: int | None = None) -> Volume:
    """A label map in the type in which it is stored, where that holds whole numbers as they are.

    Args:
        image: NIfTI or MGZ file, or nibabel image.
        volume_index: for a 4D image, which of them.

    Raises:
        ValueError, FileNotFoundError: as ``read_label_volume``.
    """
    opened, _ = open_image(image)
    volume = read_label_volume(opened, volume_index)
    dtype = opened.get_data_dtype()
    if dtype.kind in "iu" and dtype.itemsize <= 4:
        limits = np.iinfo(dtype)
        if limits.min <= volume.data.min() and volume.data.max() <= limits.max:
            return replace(volume, data=volume.data.astype(dtype))
    return volume


def sampled(array, affine, points, order, outside):
    """Values of an array (x, y, z) at points (..., 3) in mm; None continues its edge."""
    voxels = apply_affine(np.linalg.inv(affine), points)
    values = map_coordinates(
        array, np.moveaxis(voxels, -1, 0), order=SPLINE_ORDERS[order], mode="nearest"
    )
    if outside is not None:
        last = np.array(array.shape) - 0.5
        values[((voxels < -0.5) | (voxels > last)).any(axis=-1)] = outside
    return values
