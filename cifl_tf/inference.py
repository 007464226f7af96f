"""Features of a whole image: an array or a file, through a 2D or a 3D encoder."""

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from tqdm import tqdm

from cifl_tf._compat import keras
from cifl_tf.frozen_features import FrozenFeatures, checked_ensemble
from cifl_tf.volumes import Volume, read_volume, rescale_intensity, slice_axis, to_original

ENCODER_FILE = "encoder.keras"


def load_network(file, command: str = "cifl train") -> keras.Model:
    """Load a .keras file of this package.

    Args:
        file: path.
        command: what trains networks of this kind, for the error.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    if not Path(file).is_file():
        raise ValueError(
            f"{file} does not exist; give the folder of a `{command}` that finished at least one "
            "epoch"
        )
    try:
        return keras.models.load_model(file, compile=False)
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise ValueError(f"{file} is not a network in the Keras format: {error}") from error


def features_of(
    image,
    encoder: keras.Model,
    plane: str = "coronal",
    voxel_size=None,
    frame: int | None = None,
    batch_size: int = 8,
    progress: bool = False,
    ensemble: Sequence[str] = (),
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
        ensemble: names of remapped copies of the image, such as ("inverted", "gamma"): the mean
            over its features and theirs, at the cost of one more encoder pass per copy. Contrasts
            then differ less. See ``FrozenFeatures``.

    Returns:
        For an array, float32 (*spatial, C). For a file or a nibabel image, a 4D NIfTI image of the
        features on the image's own grid.

    Raises:
        ValueError: the dimensions of image and encoder do not fit, the image is not finite, the
            ensemble is unknown, or, for files, anything that ``read_volume`` refuses.
        FileNotFoundError: there is no such file.
    """
    network = getattr(encoder, "encoder", encoder)
    names = checked_ensemble(ensemble)
    if names:
        network = _averaged(network, names)
    features, volume = apply_network(
        image, network, plane, voxel_size, frame, batch_size, progress=progress
    )
    return features if volume is None else to_original(features, volume)


@lru_cache(maxsize=4)  # so that TensorFlow traces it once for many images
def _averaged(encoder, ensemble):
    """The network from an image to its features, averaged over an ensemble."""
    image = keras.Input(encoder.input_shape[1:], name="image")
    return keras.Model(image, FrozenFeatures(encoder, ensemble, name="features")(image))


def apply_network(
    image,
    network: keras.Model,
    plane: str = "coronal",
    voxel_size=None,
    frame: int | None = None,
    batch_size: int = 8,
    progress: bool = False,
) -> tuple[np.ndarray, Volume | None]:
    """Run a network from images to channels on an array or a file; see ``features_of``.

    Returns:
        For an array, float32 (*spatial, C) and None. For a file or a nibabel image, the channels
        (x, y, z, C) in canonical orientation, and the volume that ``to_original`` needs.
    """
    ndim = len(network.input_shape) - 2
    if isinstance(image, str | os.PathLike) or hasattr(image, "dataobj"):
        volume = read_volume(image, frame=frame, voxel_size=voxel_size)
        axis = slice_axis(volume.data.shape, plane)
        if ndim == 3 and min(volume.data.shape) == 1:
            raise ValueError(
                f"{_name(image)} is a single slice, but the network is for volumes; "
                "give a volume, or a network for slices"
            )
        return _run(volume.data, network, ndim, axis, batch_size, progress), volume
    if voxel_size is not None or frame is not None:
        raise ValueError(
            "voxel_size and frame are for files; an array has no voxel size and one frame"
        )
    array = np.asarray(image, np.float32)
    if array.ndim not in (2, 3) or array.ndim < ndim:
        raise ValueError(
            f"the array has shape {array.shape}, but the network takes {ndim}D images; give "
            f"{'(x, y) or (x, y, z)' if ndim == 2 else '(x, y, z)'} without batch and channel"
        )
    if not np.isfinite(array).all():
        raise ValueError(
            f"the array holds {np.sum(~np.isfinite(array))} voxels that are NaN or infinite; "
            "replace them"
        )
    if array.ndim == 2:
        return _run(array[..., None], network, 2, 2, batch_size, progress)[..., 0, :], None
    return _run(array, network, ndim, slice_axis(array.shape, plane), batch_size, progress), None


def _name(image):
    return image if isinstance(image, str | os.PathLike) else "the image"


def _run(array, network, ndim, axis, batch_size, progress):
    """Channels (x, y, z, C) of an array (x, y, z)."""
    array = rescale_intensity(array)
    if ndim == 3:
        return network.predict_on_batch(array[None, ..., None])[0]
    slices = np.moveaxis(array, axis, 0)[..., None]
    channels = np.empty((*slices.shape[:-1], network.output_shape[-1]), np.float32)
    starts = range(0, len(slices), batch_size)
    # None: a bar in a terminal only.
    disable = None if progress else True
    for start in tqdm(starts, unit="batch", disable=disable, leave=False):
        batch = slice(start, start + batch_size)
        channels[batch] = network.predict_on_batch(slices[batch])
    return np.moveaxis(channels, 0, axis)
