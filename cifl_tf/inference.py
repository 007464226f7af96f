"""Features of a whole image: an array or a file, through a 2D or a 3D encoder."""

import os
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cifl_tf._compat import keras
from cifl_tf.volumes import plane_axis, read_volume, rescale_intensity, to_original

ENCODER_FILE = "encoder.keras"


def load_encoder(path) -> keras.Model:
    """Load an encoder from a training folder or a .keras file.

    Raises:
        ValueError: there is none, or the file is damaged.
    """
    path = Path(path)
    file = path / ENCODER_FILE if path.is_dir() else path
    if not file.is_file():
        raise ValueError(
            f"{file} does not exist; give a .keras file, or a folder that `cifl train` wrote and "
            "finished at least one epoch in"
        )
    try:
        return keras.models.load_model(file, compile=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is not an encoder in the Keras format: {error}") from error


def features_of(
    image,
    encoder: keras.Model,
    plane: str = "coronal",
    voxel_size=None,
    frame: int | None = None,
    batch_size: int = 8,
    progress: bool = False,
):
    """Contrast-invariant features of an image.

    A 2D encoder runs through a volume slice by slice along ``plane``, a 3D encoder sees all of it.
    Intensities are first brought to [0, 1] by ``rescale_intensity``, once for the whole image.

    Args:
        image: an array (x, y) or (x, y, z); or the path of a NIfTI or MGZ file, or a nibabel image.
        encoder: see ``build_encoder``; a ``CIFL`` model gives its encoder.
        plane: "sagittal", "coronal" or "axial": the slices that a 2D encoder gets.
        voxel_size: for files, in mm: resample to it before, and the features back after.
        frame: for 4D files, which image.
        batch_size: slices at a time.
        progress: show a progress bar over slices.

    Returns:
        For an array, float32 (*spatial, C). For a file or a nibabel image, a 4D NIfTI image of the
        features on the image's own grid.

    Raises:
        ValueError: the dimensions of image and encoder do not fit, the image is not finite, or, for
            files, anything that ``read_volume`` refuses.
        FileNotFoundError: there is no such file.
    """
    encoder = getattr(encoder, "encoder", encoder)
    ndim = len(encoder.input_shape) - 2
    if isinstance(image, str | os.PathLike) or hasattr(image, "dataobj"):
        volume = read_volume(image, frame=frame, voxel_size=voxel_size)
        axis = _slice_axis(volume.data.shape, plane)
        if ndim == 3 and min(volume.data.shape) == 1:
            raise ValueError(
                f"{_name(image)} is a single slice, but the encoder is for volumes; "
                "give a volume, or an encoder for slices"
            )
        features = _run(volume.data, encoder, ndim, axis, batch_size, progress)
        return to_original(features, volume)
    if voxel_size is not None or frame is not None:
        raise ValueError(
            "voxel_size and frame are for files; an array has no voxel size and one frame"
        )
    array = np.asarray(image, np.float32)
    if array.ndim not in (2, 3) or array.ndim < ndim:
        raise ValueError(
            f"the array has shape {array.shape}, but the encoder takes {ndim}D images; give "
            f"{'(x, y) or (x, y, z)' if ndim == 2 else '(x, y, z)'} without batch and channel"
        )
    if not np.isfinite(array).all():
        raise ValueError(
            f"the array holds {np.sum(~np.isfinite(array))} voxels that are NaN or infinite; "
            "replace them"
        )
    if array.ndim == 2:
        return _run(array[..., None], encoder, 2, 2, batch_size, progress)[..., 0, :]
    return _run(array, encoder, ndim, plane_axis(plane), batch_size, progress)


def _name(image):
    return image if isinstance(image, str | os.PathLike) else "the image"


def _slice_axis(shape, plane):
    """The axis that slices are numbered along; for a single slice, the one of one voxel."""
    axis = plane_axis(plane)
    single = [dim for dim, size in enumerate(shape) if size == 1]
    return single[0] if len(single) == 1 else axis


def _run(array, encoder, ndim, axis, batch_size, progress):
    """Features (x, y, z, C) of an array (x, y, z)."""
    array = rescale_intensity(array)
    if ndim == 3:
        return encoder.predict_on_batch(array[None, ..., None])[0]
    slices = np.moveaxis(array, axis, 0)[..., None]
    features = np.empty((*slices.shape[:-1], encoder.output_shape[-1]), np.float32)
    starts = range(0, len(slices), batch_size)
    # None: a bar in a terminal only.
    disable = None if progress else True
    for start in tqdm(starts, unit="batch", disable=disable, leave=False):
        batch = slice(start, start + batch_size)
        features[batch] = encoder.predict_on_batch(slices[batch])
    return np.moveaxis(features, 0, axis)
