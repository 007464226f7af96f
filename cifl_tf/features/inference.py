"""Features of a whole image: an array or a file, through a 2D or a 3D encoder."""

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from nibabel.affines import voxel_sizes
from tqdm import tqdm

from cifl_tf._compat import keras
from cifl_tf._former_names import accepts_former
from cifl_tf._notes import note
from cifl_tf.features.frozen import FrozenFeatures, checked_remappings
from cifl_tf.features.tiling import encode_in_parts
from cifl_tf.images.memory import memory_left
from cifl_tf.images.nifti import name_of
from cifl_tf.images.preprocessing import Preprocessing
from cifl_tf.images.volumes import (
    Volume,
    read_volume,
    resample_volume,
    slice_axis,
    to_original,
)
from cifl_tf.models.image_model import preprocessing_of


@accepts_former()
def features_of(
    image,
    encoder: keras.Model,
    plane: str | None = None,
    voxel_size=None,
    volume_index: int | None = None,
    batch_size: int = 8,
    progress: bool = False,
    remappings: Sequence[str] = (),
    window: tuple[float, float] | None = None,
    memory: float | None = None,
):
    """Contrast-invariant features of an image.

    A 2D encoder runs through a volume slice by slice along ``plane``, a 3D encoder sees all of it.
    Intensities are first brought to [0, 1] by ``rescale_intensity``, once for the whole image.

    Args:
        image: an array (x, y) or (x, y, z); or the path of a NIfTI or MGZ file, or a nibabel image.
        encoder: see ``build_encoder``; a ``CIFL`` model gives its encoder.
        plane: "sagittal", "coronal" or "axial": the slices that a 2D encoder gets. None for
            coronal, or, of an image with thick slices, these slices.
        voxel_size: for files, in mm: resample to it before, and the features back after. A warning
            says where the encoder is for others.
        volume_index: for 4D files, which image.
        batch_size: slices at a time.
        progress: show a progress bar over slices.
        remappings: names of remapped copies of the image, such as ("inverted", "gamma"): the mean
            over its features and theirs, at the cost of one more encoder pass per copy. Contrasts
            then differ less. See ``FrozenFeatures``.
        window: two intensities that become 0 and 1, such as (0, 80) for a brain in CT; None for
            what ``rescale_intensity`` finds.
        memory: bytes that the process may have in memory, itself and the features included.
            Volumes that would take more go through an encoder in tiles; the features are the same.
            None for what it has, and half of what is free.

    Returns:
        For an array, float32 (*spatial, C). For a file or a nibabel image, a 4D NIfTI image of the
        features on the image's own grid.

    Raises:
        ValueError: the dimensions of image and encoder do not fit, the image is not finite, the
            remappings are unknown, the memory is too little, or, for files, anything that
            ``read_volume`` refuses.
        FileNotFoundError: there is no such file.

    Example:
        >>> import cifl_tf as cifl, nibabel, numpy as np
        >>> encoder = cifl.load_encoder("shapes-2d")
        >>> cifl.features_of(np.random.rand(40, 32), encoder).shape
        (40, 32, 16)
        >>> image = nibabel.Nifti1Image(np.random.rand(24, 4, 20), np.eye(4))
        >>> cifl.features_of(image, encoder, plane="coronal").shape
        (24, 4, 20, 16)
    """
    network, preprocessing = network_of(encoder, remappings)
    features, volume = apply_network(
        image,
        network,
        preprocessing.with_choices(plane, window),
        voxel_size,
        volume_index,
        batch_size,
        progress=progress,
        memory=memory,
    )
    return features if volume is None else to_original(features, volume)


def network_of(
    encoder: keras.Model, remappings: Sequence[str] = ()
) -> tuple[keras.Model, Preprocessing]:
    """The network from an image to its features, and what becomes of the image before.

    Args:
        encoder, remappings: see ``features_of``.
    """
    network = getattr(encoder, "encoder", encoder)
    names = checked_remappings(remappings)
    return _averaged(network, names) if names else network, preprocessing_of(network)


@lru_cache(maxsize=4)  # so that TensorFlow traces it once for many images
def _averaged(encoder, remappings):
    """The network from an image to its features, averaged over remapped copies."""
    image = keras.Input(encoder.input_shape[1:], name="image")
    return keras.Model(image, FrozenFeatures(encoder, remappings, name="features")(image))


def apply_network(
    image,
    network: keras.Model,
    preprocessing: Preprocessing,
    voxel_size=None,
    volume_index: int | None = None,
    batch_size: int = 8,
    progress: bool = False,
    memory: float | None = None,
) -> tuple[np.ndarray, Volume | None]:
    """Run a network from images to channels on an array or a file; see ``features_of``.

    Args:
        image: see ``features_of``, also for the last five.
        network: from (batch, *spatial, 1) to (batch, *spatial, C).
        preprocessing: of the image; its plane is that of the slices.
        voxel_size: None for that of the preprocessing.

    Returns:
        For an array, float32 (*spatial, C) and None. For a file or a nibabel image, the channels
        (x, y, z, C) in canonical orientation, and the volume that ``to_original`` needs.
    """
    ndim = len(network.input_shape) - 2
    plane, scaling = preprocessing.plane, preprocessing.scaling
    if isinstance(image, str | os.PathLike) or hasattr(image, "dataobj"):
        return apply_to_volume(
            read_volume(image, volume_index=volume_index),
            network,
            preprocessing,
            voxel_size,
            batch_size,
            progress=progress,
            memory=memory,
            name=name_of(image),
        )
    if voxel_size is not None or volume_index is not None:
        raise ValueError(
            "voxel_size and volume_index are for files; an array has no voxel size and is one image"
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
    array = scaling(array)
    if array.ndim == 2:
        return run_network(array[..., None], network, 2, batch_size, progress)[..., 0, :], None
    axis = slice_axis(array.shape, plane or "coronal")
    layers = layer_memory(memory, array, network)
    return run_network(array, network, axis, batch_size, progress, layers), None


def apply_to_volume(
    volume: Volume,
    network: keras.Model,
    preprocessing: Preprocessing,
    voxel_size=None,
    batch_size: int = 8,
    progress: bool = False,
    memory: float | None = None,
    name="the image",
) -> tuple[np.ndarray, Volume]:
    """``apply_network`` on an image that was read.

    Args:
        volume: of ``read_volume``, in its own voxel size.
        network, preprocessing, voxel_size, batch_size, progress, memory: see ``apply_network``.
        name: of the image, for errors.

    Returns:
        The channels (x, y, z, C), and the volume as the network saw it, for ``to_original``.
    """
    array, axis, volume = prepare_volume(volume, network, preprocessing, voxel_size, name)
    layers = layer_memory(memory, array, network)
    return run_network(array, network, axis, batch_size, progress, layers), volume


def layer_memory(memory: float | None, array: np.ndarray, network: keras.Model) -> float | None:
    """Of the memory of ``features_of``, what is for the layers of a network; None for None."""
    output = 4 * array.size * network.output_shape[-1]
    return None if memory is None else memory_left(memory, output)


def prepare_volume(
    volume: Volume,
    network: keras.Model,
    preprocessing: Preprocessing,
    voxel_size=None,
    name="the image",
) -> tuple[np.ndarray, int, Volume]:
    """What ``run_network`` takes, of an image that was read.

    Args:
        volume, network, preprocessing, voxel_size, name: see ``apply_to_volume``.

    Returns:
        The array (x, y, z) in [0, 1], the axis across slices, and the volume in its voxel size.
    """
    ndim = len(network.input_shape) - 2
    axis = preprocessing.axis_across(volume.original)
    volume = fit_voxel_size(volume, preprocessing, axis if ndim == 2 else None, voxel_size)
    if ndim == 3 and min(volume.data.shape) == 1:
        raise ValueError(
            f"{name} is a single slice, but the network is for volumes; give a volume, or a "
            "network for slices"
        )
    return preprocessing.scaling(volume.data), axis, volume


def fit_voxel_size(
    volume: Volume, preprocessing: Preprocessing, across: int | None = None, voxel_size=None
) -> Volume:
    """Resample a volume to the voxel size that a model takes; warn where the two differ.

    Args:
        volume: as ``read_volume`` gives it.
        preprocessing: of the model.
        across: the axis across the slices of a model for slices; None for volumes.
        voxel_size: in mm, in place of that of the model.

    Raises:
        ValueError: too few voxels would be left, or ``voxel_size`` is wrong.
    """
    if voxel_size is None:
        sizes = voxel_sizes(volume.affine)
        voxel_size = preprocessing.voxel_size_for(volume.data.shape, sizes, across)
    if voxel_size is not None:
        volume = resample_volume(volume, voxel_size)
    sizes = voxel_sizes(volume.affine)
    if not preprocessing.accepts(sizes, across):
        found = " x ".join(f"{size:.3g}" for size in sizes)
        note(f"the voxels are {found} mm, but the model is for {preprocessing.voxel_text()}")
    return volume


def run_network(
    array,
    network: keras.Model,
    axis: int,
    batch_size: int = 8,
    progress: bool = False,
    memory: float | None = None,
    allocate: Callable[[tuple[int, ...], Any], Any] = np.empty,
):
    """Channels (x, y, z, C) of an array (x, y, z) in [0, 1].

    Args:
        array: see above.
        network: for volumes, or for slices, through which it then goes.
        axis: across the slices.
        batch_size: slices at a time.
        progress: show a bar of the batches in a terminal.
        memory, allocate: see ``encode_in_parts``; slices fit.
    """
    if len(network.input_shape) == 5:
        found = encode_in_parts(array, network, memory, progress, allocate)
        return network.predict_on_batch(array[None, ..., None])[0] if found is None else found
    channels = allocate((*array.shape, network.output_shape[-1]), np.float32)
    starts = range(0, array.shape[axis], batch_size)
    # None: a bar in a terminal only.
    disable = None if progress else True
    for start in tqdm(starts, unit="batch", disable=disable, leave=False):
        batch = (*[slice(None)] * axis, slice(start, start + batch_size))
        slices = np.moveaxis(array[batch], axis, 0)[..., None]
        channels[batch] = np.moveaxis(network.predict_on_batch(slices), 0, axis)
    return channels
