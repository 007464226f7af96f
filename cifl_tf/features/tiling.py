"""Features of a volume in slabs or tiles: in bounded memory, and equal to those of the whole.

Plain encoders see slabs, see ``slabs``. For others, every tile is encoded with as many voxels
around it as a feature sees, so that its border makes no difference. An encoder ends in
``L2Normalize`` over the whole volume: here this follows when all parts are there.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from cifl_tf._compat import keras
from cifl_tf.features.air import Surroundings
from cifl_tf.features.architectures import NUM_CONVOLUTIONS, UNET_LEVELS, receptive_radius
from cifl_tf.features.frozen import FrozenFeatures
from cifl_tf.features.layers import L2Normalize
from cifl_tf.features.slabs import LAYERS, Slabs, enough_voxels, slab_count, slabs_for
from cifl_tf.features.slicewise import Slicewise
from cifl_tf.images.intensity import is_air
from cifl_tf.images.memory import memory_left

ALIGNMENT = 2 ** (UNET_LEVELS - 1)  # voxels of the coarsest level of a U-Net
MOST_ENCODED = 0.9  # of a volume: where less than this is to be encoded, the rest is left out
BYTES_PER_CHANNEL = 12  # of a voxel and the widest layer: its input, its output, and working space
SMALLEST_TILE = 16  # voxels


@dataclass(frozen=True)
class Tile:
    """One tile of a volume.

    Attributes:
        seen: slices of the volume that the network gets.
        kept: slices of what it gives that are exact.
        place: slices of the volume where these belong.
    """

    seen: tuple[slice, ...]
    kept: tuple[slice, ...]
    place: tuple[slice, ...]


def tiles_of(
    shape: Sequence[int], sizes: Sequence[int], radius: int, alignment: int = ALIGNMENT
) -> Iterator[Tile]:
    """Tiles that cover a volume once.

    Args:
        shape: of the volume, in voxels.
        sizes: of the longest tile along every axis, in voxels.
        radius: voxels around a tile that the network gets too, where the volume has them.
        alignment: voxels of the coarsest level of the network, at which tiles begin.
    """
    axes = [_parts(*axis, radius, alignment) for axis in zip(shape, sizes, strict=True)]
    for chosen in itertools.product(*axes):
        yield Tile(*(tuple(one) for one in zip(*chosen, strict=True)))


def fastest_sizes(
    shape: Sequence[int], radius: int, most_voxels: float, alignment: int = ALIGNMENT
) -> tuple[int, ...]:
    """Sizes of tiles for which a network sees the fewest voxels in all.

    Args:
        shape, radius, alignment: see ``tiles_of``.
        most_voxels: that the network may see at a time. Where tiles of ``SMALLEST_TILE`` show it
            more, these are given.
    """
    sizes, seen, longest = [], [], []
    for length in shape:
        counts = range(1, math.ceil(length / SMALLEST_TILE) + 1)
        sizes.append([math.ceil(length / count) for count in counts])
        parts = [_parts(length, size, radius, alignment) for size in sizes[-1]]
        lengths = [[part[0].stop - part[0].start for part in one] for one in parts]
        seen.append([sum(one) for one in lengths])
        longest.append([max(one) for one in lengths])
    first, second, third = np.ix_(*map(np.array, longest))
    voxels = first * second * third
    first, second, third = np.ix_(*map(np.array, seen))
    cost = np.where(voxels <= max(most_voxels, voxels.min()), first * second * third, math.inf)
    best = np.unravel_index(cost.argmin(), cost.shape)
    return tuple(axis[index] for axis, index in zip(sizes, best, strict=True))


def _parts(length, size, radius, alignment):
    """Of every tile along one axis what ``Tile`` has: seen, kept, place."""
    # Tiles are about equally long.
    step = math.ceil(length / math.ceil(length / size) / alignment) * alignment
    parts = []
    for begin in range(0, length, step):
        end = min(begin + step, length)
        first = max(0, begin - radius) // alignment * alignment
        last = min(length, math.ceil((end + radius) / alignment) * alignment)
        parts.append((slice(first, last), slice(begin - first, end - first), slice(begin, end)))
    return parts


def encode_in_parts(
    array: np.ndarray,
    network: keras.Model,
    memory: float | None = None,
    progress: bool = False,
    allocate: Callable[[tuple[int, ...], Any], Any] = np.empty,
):
    """Features of a volume that is large, or shows much air.

    The air far from what the volume shows is not encoded; see ``Surroundings``.

    Args:
        array: (x, y, z) in [0, 1].
        network: an encoder of ``build_encoder`` for volumes, or one with ``FrozenFeatures`` of it
            at its end.
        memory: bytes that the layers of the network may take; None for half of what is available.
        progress: show a bar of the parts in a terminal.
        allocate: gives what the features are written to, from their shape and type.

    Returns:
        float32 (x, y, z, C) of ``allocate``, equal to those of the whole volume but for rounding.
        None where the volume shows little air, and is as small as a slab or, if the encoder is not
        plain, fits as a whole; or where the network is none of these.
    """
    extract, encoder = _encoder_in(network)
    radius, last = known_radius(encoder), encoder.layers[-1]
    if radius is None or not isinstance(last, L2Normalize):
        return None
    most_voxels = (memory_left(None) if memory is None else memory) / bytes_per_voxel(encoder)
    copies = [array]
    if extract is not None:
        copies = [copy.numpy() for copy in extract.copies(tf.constant(array, tf.float32))]
    around = Surroundings(_shown(copies, encoder), radius, ALIGNMENT)
    encoded = array[around.box]
    slabs = None if not in_slabs(encoder) else slabs_for(encoded.shape, most_voxels)
    fits = array.size <= most_voxels and slabs is None
    if fits and encoded.size > MOST_ENCODED * array.size:
        return None
    body = _traced_before_normalization(encoder)
    if slabs is None:
        tiles = _largest_first(encoded.shape, radius, most_voxels)
        count, parts = len(tiles), partial(_features_of_tiles, body, tiles)
    else:
        axis, thickness = slabs
        count = slab_count(encoded.shape[axis], thickness)
        parts = partial(_slabs(encoder, axis).features, thickness=thickness)
    shape = (*array.shape, encoder.output_shape[-1])
    hidden = None if progress else True  # None: where there is no terminal
    with tqdm(total=count * len(copies), unit="part", disable=hidden, leave=False) as bar:
        for index, copy in enumerate(copies):
            if index < 2:  # the first is the mean at the end, the second serves all other copies
                features = allocate(shape, np.float32)
            inside = _inside(copy, encoder)
            inside_box = inside[around.box]
            squares = np.zeros(shape[-1])  # float64: float32 would lose digits of so many voxels
            for place, found in parts(copy[around.box]):
                squares += sums_of_squares(found, inside_box[place])
                features[around.in_volume(place)] = found
                del found  # before the layers of the next part take their memory
                bar.update()
            around.fill(features, body)
            # What ``L2Normalize`` does, and the mean over the copies.
            root_mean_square = np.sqrt(np.maximum(squares / inside.sum(), last.epsilon))
            features *= (1 / root_mean_square / len(copies)).astype(np.float32)
            if index == 0:
                mean = features
                continue
            for plane in range(shape[2]):
                mean[:, :, plane] += features[:, :, plane]
    return mean


def enough_memory(network: keras.Model, shape: Sequence[int]) -> float:
    """Bytes beyond which more memory for the layers saves no time; infinity where nobody knows.

    Args:
        network: as for ``encode_in_parts``.
        shape: of the volume, in voxels.
    """
    _, encoder = _encoder_in(network)
    return enough_voxels(shape) * bytes_per_voxel(encoder) if in_slabs(encoder) else math.inf


def _encoder_in(network):
    """The layer of a network that averages over copies, if there is one, and the encoder."""
    last = network.layers[-1]
    if isinstance(last, FrozenFeatures):
        return last, bare(last.encoder)
    return None, bare(network)


def _largest_first(shape, radius, most_voxels):
    """Tiles, the largest first: the others use the memory again that its layers took."""
    sizes = fastest_sizes(shape, radius, most_voxels)
    tiles = tiles_of(shape, sizes, radius)
    return sorted(tiles, key=lambda tile: -math.prod(part.stop - part.start for part in tile.seen))


def _features_of_tiles(body, tiles, volume):
    """As ``Slabs.features``, tile by tile."""
    for tile in tiles:
        found = body(tf.constant(volume[tile.seen][None, ..., None], tf.float32))[0].numpy()
        yield tile.place, found[tile.kept]
        del found


def in_slabs(encoder: keras.Model) -> bool:
    """Whether an encoder of ``build_encoder`` can see volumes in slabs."""
    if len(encoder.input_shape) != 5:
        return False
    layers = {layer.name: layer.compute_dtype for layer in encoder.layers}
    return all(layers.get(name) == "float32" for name in LAYERS)


def bytes_per_voxel(network: keras.Model) -> int:
    """Memory that the layers of an encoder take at a time, about."""
    widths = [weight.shape[-1] for weight in network.weights]
    return BYTES_PER_CHANNEL * max(*widths, network.output_shape[-1])


def known_radius(network: keras.Model) -> int | None:
    """The receptive radius of a network of ``build_encoder`` or ``in_planes``; None for others."""
    network = bare(network)
    planes = [layer for layer in network.layers if isinstance(layer, Slicewise)]
    if planes:
        return known_radius(planes[0].network)
    convolutions = (keras.layers.Conv2D, keras.layers.Conv3D)
    names = {layer.name for layer in network.layers if isinstance(layer, convolutions)}
    for architecture, last in {"plain": f"conv_{NUM_CONVOLUTIONS - 2}", "unet": "up_0_0"}.items():
        count = {"plain": NUM_CONVOLUTIONS, "unet": 4 * UNET_LEVELS - 2}[architecture]
        if len(names) == count and {last, "features"} <= names:
            return receptive_radius(architecture)
    return None


def bare(model: keras.Model) -> keras.Model:
    """The network inside of models that carry one, such as ``Encoder``."""
    while hasattr(model, "network"):
        model = model.network
    return model


@lru_cache(maxsize=4)  # so that TensorFlow traces it once, for tiles and images of every size
def before_normalization(encoder: keras.Model) -> keras.Model:
    """The network of an encoder without its last layer, where that normalizes."""
    encoder = bare(encoder)
    if not isinstance(encoder.layers[-1], L2Normalize):
        return encoder
    return keras.Model(encoder.input, _last_inputs(encoder)[0])


@lru_cache(maxsize=4)
def _traced_before_normalization(encoder):
    """``before_normalization`` as a function."""
    body = before_normalization(encoder)
    any_volume = tf.TensorSpec([None] * 4 + [1])
    return tf.function(lambda image: body(image, training=False), input_signature=[any_volume])


@lru_cache(maxsize=4)
def _slabs(encoder, axis):
    """``Slabs``, traced once for volumes of every size."""
    return Slabs(encoder, axis)


def _last_inputs(encoder):
    """What the last layer of an encoder takes: features and, since version 0.2, the image."""
    # 0: in the encoder itself, not in models that hold it.
    inputs = encoder.layers[-1].get_input_at(0)
    return inputs if isinstance(inputs, list) else [inputs]


def sums_of_squares(features, inside):
    """Of each channel of (x, y, z, C) inside, float64; a plane at a time, for the memory."""
    planes = (plane[shown] for plane, shown in zip(features, inside, strict=True))
    return sum(np.einsum("nc,nc->c", plane, plane, dtype=float) for plane in planes)


def _shown(copies, encoder):
    """Where copies of a volume are not 0; everywhere if the last layer counts what is 0 too."""
    shown = np.zeros(copies[0].shape, bool)
    for copy in copies:
        shown |= (copy != 0) | (_inside(copy, encoder) & is_air(copy))
    return shown


def _inside(image, encoder):
    """The voxels over which the last layer of an encoder normalizes."""
    inside = ~is_air(image)
    if len(_last_inputs(encoder)) == 1 or not inside.any():
        inside[:] = True
    return inside
