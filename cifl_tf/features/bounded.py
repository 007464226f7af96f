"""Features of an image file in bounded memory: in tiles, and on the disk where they do not fit."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cifl_tf._compat import keras
from cifl_tf.features.inference import network_of, prepare_volume, run_network
from cifl_tf.features.tiling import bytes_per_voxel, enough_memory
from cifl_tf.images.atomic import temporary_path
from cifl_tf.images.channels import ChannelFile
from cifl_tf.images.memory import memory_left
from cifl_tf.images.volumes import Volume, read_volume

BATCH_SIZE = 8  # slices


@contextlib.contextmanager
def bounded_features(
    image,
    encoder: keras.Model,
    beside,
    plane: str | None = None,
    voxel_size=None,
    volume_index: int | None = None,
    remappings: Sequence[str] = (),
    window: tuple[float, float] | None = None,
    memory: float | None = None,
) -> Iterator[tuple[Any, Volume]]:
    """Give the features of a volume, as long as a block lasts.

    Args:
        image: NIfTI or MGZ file, or nibabel image.
        encoder, plane, voxel_size, volume_index, remappings, window: see ``features_of``.
        beside: a path in the folder of the files in which features lie that do not fit.
        memory: see ``features_of``, but features that would take more lie on the disk.

    Yields:
        The features (x, y, z, C) in canonical orientation, an array or a ``ChannelFile``, and the
        volume as the encoder saw it; for ``save_channels``.

    Raises:
        ValueError: too little memory, or anything that ``features_of`` refuses.
        OSError: the features fit neither into memory nor on the disk.
    """
    network, preprocessing = network_of(encoder, remappings)
    array, axis, volume = prepare_volume(
        read_volume(image, volume_index),
        network,
        preprocessing.with_choices(plane, window),
        voxel_size,
        image,
    )
    # Copies and what is no air while the network runs; later a channel, twice, while it is saved.
    beside_layers = max(len(remappings) * array.nbytes + array.size, 2 * array.nbytes)
    room = memory_left(memory, beside_layers)
    needed = 4 * array.size * network.output_shape[-1] * (1 if not remappings else 2)
    on_disk = needed > room - min(room / 2, enough_memory(network, array.shape))
    layers = room if on_disk else room - needed
    slices = array.size / array.shape[axis] * bytes_per_voxel(network)
    batch_size = int(min(max(1, layers // slices), BATCH_SIZE))
    with temporary_path(beside) if on_disk else contextlib.nullcontext() as folder:
        allocate = _files_in(folder) if on_disk else np.empty
        features = run_network(array, network, axis, batch_size, True, layers, allocate)
        del array
        yield features, volume


def slice_axis_of(encoder: keras.Model, volume: Volume, plane: str | None = None) -> int | None:
    """The axis across the slices of a volume that ``bounded_features`` gives an encoder for slices.

    Args:
        encoder, plane: see ``features_of``.
        volume: as the encoder saw it.

    Returns:
        An axis of the features; None for an encoder of volumes.
    """
    network, preprocessing = network_of(encoder)
    if len(network.input_shape) == 5:
        return None
    return preprocessing.with_choices(plane).axis_across(volume.original)


def _files_in(folder):
    """Gives channels in new files of a folder, from their shape."""
    folder.mkdir()
    names = map(str, itertools.count())
    return lambda shape, _: ChannelFile(folder / next(names), shape)
