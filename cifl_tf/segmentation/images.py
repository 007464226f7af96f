"""Segment image files."""

import dataclasses

import nibabel
import numpy as np

from cifl_tf._compat import keras
from cifl_tf.features.inference import apply_to_volume
from cifl_tf.images.intensity import air_mask
from cifl_tf.images.volumes import read_volume, slice_axis, to_original
from cifl_tf.metrics import volumes_mm3
from cifl_tf.models.image_model import Segmenter
from cifl_tf.segmentation.loading import load_segmenter


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """Labels of one image.

    Attributes:
        image: intensities on the image's own grid.
        labels: label map on the image's own grid, with the values of the training segmentations.
        probabilities: 4D image of the probabilities of all labels, on the same grid.
        volumes: mm³ by label name, background left out.
        slices_beyond: slices with labels, of a segmenter for slices, in a part of the body that its
            training slices did not show; see ``Segmenter.coverage``.
    """

    image: nibabel.Nifti1Image
    labels: nibabel.Nifti1Image
    probabilities: nibabel.Nifti1Image
    volumes: dict[str, float]
    slices_beyond: int = 0


def segment_image(
    image,
    folder,
    voxel_size=None,
    volume_index: int | None = None,
    progress: bool = False,
    segmenter: keras.Model | None = None,
    window: tuple[float, float] | None = None,
) -> Segmentation:
    """Segment a NIfTI or MGZ file, or a nibabel image, with a trained segmenter.

    The image is resampled to the voxel size of the training, and the result is on its own grid.

    Args:
        image: the image; a 2D segmenter goes through it slice by slice. Slices that show nothing
            are background.
        folder: see ``load_segmenter``.
        voxel_size: in mm: resample to it before, in place of that of the training images.
        volume_index: for 4D files, which image.
        progress: show a progress bar over slices.
        segmenter: the folder's, where it is loaded already, to segment many images.
        window: see ``features_of``.

    Raises:
        ValueError, FileNotFoundError: as ``features_of``.
    """
    if not isinstance(segmenter, Segmenter):
        segmenter = load_segmenter(folder)
    preprocessing = segmenter.preprocessing.with_choices(window=window)
    original = read_volume(image, volume_index)
    probabilities, volume = apply_to_volume(
        original, segmenter, preprocessing, voxel_size, progress=progress, name=image
    )
    beyond = 0
    if len(segmenter.input_shape) == 4:
        axis = slice_axis(volume.data.shape, preprocessing.plane or "coronal")
        slices = np.moveaxis(volume.data, axis, 0).reshape(volume.data.shape[axis], -1)
        np.moveaxis(probabilities, axis, 0)[np.ptp(slices, axis=1) == 0] = _background(segmenter)
        found = np.moveaxis(probabilities, axis, 0).argmax(axis=-1).any(axis=(1, 2))
        shown = np.array([not air.all() for air in np.moveaxis(air_mask(volume.data), axis, 0)])
        beyond = int(np.count_nonzero(segmenter.slices_beyond(shown) & found))
    values = np.array(segmenter.label_values, np.int32)
    # Labels come from probabilities on the image's own grid, so that both agree everywhere.
    on_grid = to_original(probabilities, volume, "linear")
    indices = np.argmax(np.asarray(on_grid.dataobj), axis=-1)
    grid = volume.original
    # Not the product of the voxel sizes: the axes of a sheared grid are not at right angles.
    voxel = abs(np.linalg.det(grid.affine[:3, :3]))
    volumes = voxel * volumes_mm3(indices, range(1, len(values)), (1, 1, 1))
    return Segmentation(
        image=to_original(original.data, original),
        labels=grid.image(values[indices].reshape(grid.shape)),
        probabilities=on_grid,
        volumes=dict(zip(segmenter.label_names[1:], volumes.tolist(), strict=True)),
        slices_beyond=beyond,
    )


def _background(segmenter):
    """Probabilities of a voxel that shows nothing."""
    return np.eye(len(segmenter.label_values), dtype=np.float32)[0]
