"""Segmentation of a volume in windows: in bounded memory, close to that of the whole volume.

Features are those of the whole volume, see ``encode_in_parts``. The U-Net that follows sees them in
windows that overlap: it looks farther than any margin that would be worth its time, so that what it
finds near the border of a window differs from what it finds in the whole volume.
"""

from functools import lru_cache, partial

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from cifl_tf._compat import keras
from cifl_tf.augmentation.test_time import AverageOverCopies
from cifl_tf.features.inference import network_of, run_network
from cifl_tf.features.tiling import (
    BYTES_PER_CHANNEL,
    bare,
    bytes_per_voxel,
    fastest_sizes,
    tiles_of,
)
from cifl_tf.images.memory import memory_left
from cifl_tf.segmentation.network import without_features

OVERLAP = 16  # voxels around the tile of a window on every side
FADE = 4.0  # voxels, standard deviation of the Gaussian by which a window fades out there
LAYERS = {"features", "pad", "unet", "crop", "probabilities"}  # of ``build_segmenter``


def segment_in_windows(
    array: np.ndarray, network: keras.Model, memory: float | None = None, progress: bool = False
) -> np.ndarray | None:
    """Probabilities of a volume whose layers do not fit into memory.

    Windows are tiles with ``OVERLAP`` voxels around them. Every voxel gets the mean over the
    windows that hold it, weighted by a Gaussian of the distance from their tiles.

    Args:
        array: (x, y, z) in [0, 1].
        network: of ``build_segmenter``, for volumes; or with the mean over copies of the image, one
            of which is segmented after the other.
        memory: see ``features_of``.
        progress: show bars of tiles and windows in a terminal.

    Returns:
        float32 (x, y, z, labels). None where the volume fits as a whole, or where the network is
        none of these.

    Raises:
        ValueError: the memory is too little.
    """
    network = bare(network)
    averages = [layer for layer in network.layers if isinstance(layer, AverageOverCopies)]
    largest: float = array.size
    if averages:
        (average,) = averages
        network = bare(average.network)
        largest *= max((1.0, *average.zoom_factors)) ** 3
    if not {layer.name for layer in network.layers} >= LAYERS:
        return None
    extract, labels = network.get_layer("features"), network.output_shape[-1]
    room = memory_left(memory, 4 * largest * (extract.num_features + labels + 1))
    most_voxels = room / _bytes_per_voxel(network)
    if largest <= most_voxels:
        return None
    if averages:
        return average.mean(
            tf.constant(array[None, ..., None]), partial(_of_copy, network, memory, progress)
        )[0].numpy()
    features, beside = array[..., None], extract.with_image
    if extract.encoder is not None:
        encoder, _ = network_of(extract.encoder, extract.remappings)
        features = run_network(array, encoder, 0, progress=progress, memory=room)
    multiple = network.get_layer("pad").multiple
    sizes = fastest_sizes(array.shape, OVERLAP, most_voxels, multiple)
    tiles = [*tiles_of(array.shape, sizes, OVERLAP, multiple)]
    mean = np.zeros((*array.shape, labels), np.float32)
    total = np.zeros(array.shape, np.float32)
    from_features = _from_features(network)
    for tile in tqdm(tiles, unit="window", disable=None if progress else True, leave=False):
        seen = features[tile.seen]
        if beside:
            seen = np.concatenate([seen, array[tile.seen][..., None]], axis=-1)
        weight = _weight(tile)
        mean[tile.seen] += weight[..., None] * from_features(tf.constant(seen[None]))[0].numpy()
        total[tile.seen] += weight
    mean /= total[..., None]
    return mean


def _of_copy(network, memory, progress, copy):
    """Probabilities of one copy of a volume, a tensor (1, x, y, z, 1), in windows if need be."""
    found = segment_in_windows(copy[0, ..., 0].numpy(), network, memory, progress)
    return network(copy, training=False) if found is None else tf.constant(found[None])


@lru_cache(maxsize=4)  # so that TensorFlow traces it once, for windows and images of every size
def _from_features(network):
    """A function from features to the probabilities of a segmenter."""
    model = without_features(network)
    signature = [tf.TensorSpec([None] * 4 + [model.input_shape[-1]])]
    return tf.function(lambda seen: model(seen, training=False), input_signature=signature)


def _bytes_per_voxel(network):
    """Memory that the layers of a segmenter take at a time, about."""
    extract = network.get_layer("features")
    # At full resolution the U-Net joins its first channels and twice as many from below.
    filters = network.get_layer("unet").weights[0].shape[-1]
    decoder = BYTES_PER_CHANNEL * (3 * filters + extract.num_features)
    return (
        decoder if extract.encoder is None else max(decoder, bytes_per_voxel(bare(extract.encoder)))
    )


def _weight(tile):
    """Weights of the voxels of a window, float32 (x, y, z)."""
    weight = np.ones((1, 1, 1), np.float32)
    for axis, (seen, place) in enumerate(zip(tile.seen, tile.place, strict=True)):
        position = np.arange(seen.start, seen.stop)
        distance = np.maximum(0, np.maximum(place.start - position, position - place.stop + 1))
        along = np.exp(-((distance / FADE) ** 2) / 2).astype(np.float32)
        weight = weight * np.expand_dims(along, [other for other in range(3) if other != axis])
    return weight
