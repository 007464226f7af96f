"""Features of a volume slab by slab: in little memory, and with no voxel computed twice.

Each convolution of a plain encoder keeps the last two planes of its input, and goes on from them
in the next slab. So the convolutions are those of the whole volume, one after the other.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from cifl_tf._compat import keras
from cifl_tf.features.architectures import NUM_CONVOLUTIONS

LAYERS = (*(f"conv_{index}" for index in range(NUM_CONVOLUTIONS - 1)), "features")
KEPT = 2  # planes of the input of a convolution of three planes
THINNEST = NUM_CONVOLUTIONS + 1  # planes: the first slab gives as many less as a feature sees
BESIDE = 10  # planes whose memory is that of what is kept, before and after a step
MOST_VOXELS = 2**19  # of a slab: larger ones are no faster


def slabs_for(shape: Sequence[int], most_voxels: float) -> tuple[int, int] | None:
    """The axis along which slabs of a volume take the least memory, and how many planes they have.

    Args:
        shape: of the volume, in voxels.
        most_voxels: that fit into memory with all their layers.

    Returns:
        None where the thinnest slabs do not fit, or one slab holds the volume.
    """
    axis = int(np.argmax(shape))
    plane = math.prod(size + 2 for other, size in enumerate(shape) if other != axis)
    thickness = int(min(max(THINNEST, MOST_VOXELS // plane), most_voxels / plane - BESIDE))
    return (axis, thickness) if THINNEST <= thickness < shape[axis] else None


def slab_count(length: int, thickness: int) -> int:
    """How many slabs there are along an axis of some planes."""
    return math.ceil(length / thickness)


def enough_voxels(shape: Sequence[int]) -> int:
    """The ``most_voxels`` of ``slabs_for`` beyond which slabs do not get thicker."""
    plane = math.prod(size + 2 for size in sorted(shape)[:-1])
    return plane * (BESIDE + max(THINNEST, MOST_VOXELS // plane))


class Slabs:
    """A plain encoder for volumes without its last layer, along one axis of a volume.

    Args:
        network: see ``build_encoder``; it stays the one whose weights count.
        axis: of the volume, 0, 1, or 2.
    """

    def __init__(self, network: keras.Model, axis: int):
        self._layers = [network.get_layer(name) for name in LAYERS]
        self._order = [axis, *(other for other in range(3) if other != axis)]
        planes = tf.TensorSpec([1, None, None, None, None])
        self._step = tf.function(
            self._convolved,
            input_signature=[planes, [planes] * NUM_CONVOLUTIONS, tf.TensorSpec([], tf.int32)],
        )

    def features(
        self, volume: np.ndarray, thickness: int
    ) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
        """Give slices of the volume, and the features there, until all of it is done.

        Args:
            volume: (x, y, z), of more planes than ``thickness``.
            thickness: planes of every slab but the last, at least ``THINNEST``.

        Yields:
            Three slices, and float32 (x', y', z', C), not normalized.
        """
        turned = np.transpose(volume, self._order)
        back = [*np.argsort(self._order), 3]
        length, *sizes = turned.shape
        kept = [
            tf.zeros([1, 1, *(size + 2 for size in sizes), layer.kernel.shape[3]])
            for layer in self._layers
        ]
        slabs = [turned[first : first + thickness] for first in range(0, length, thickness)]
        begin = 0
        for number, slab in enumerate(slabs, 1):
            image = tf.constant(slab[None, ..., None], tf.float32)
            found, kept = self._step(image, kept, tf.constant(int(number == len(slabs))))
            end = begin + found.shape[1]
            place = [slice(0, size) for size in volume.shape]
            place[self._order[0]] = slice(begin, end)
            yield tuple(place), found[0].numpy().transpose(back)
            begin = end

    def _convolved(self, slab, kept, last):
        """Features as far as a slab shows all that they depend on, and what to keep.

        Args:
            slab: (1, x, y, z, 1).
            kept: for each layer, planes of its input before the slab, with a margin.
            last: 1 if the volume ends with the slab, else 0.
        """
        keeping = []
        for layer, before in zip(self._layers, kept, strict=True):
            count = tf.shape(before)[1]
            seen = tf.pad(slab, [[0, 0], [count, last], [1, 1], [1, 1], [0, 0]])
            shape = tf.shape(seen)
            # In place, as a copy takes a twentieth of the time of a convolution.
            planes = tf.raw_ops.InplaceUpdate(
                x=tf.reshape(seen, shape[1:]), i=tf.range(count), v=before[0]
            )
            seen = tf.reshape(planes, shape)
            # Gathered: a slice would hold on to all of its slab.
            keeping.append(tf.gather(seen, shape[1] - KEPT + tf.range(KEPT), axis=1))
            kernel = tf.transpose(layer.kernel, [*self._order, 3, 4])
            slab = tf.nn.bias_add(tf.nn.conv3d(seen, kernel, [1] * 5, "VALID"), layer.bias)
            slab = layer.activation(slab)
        return slab, keeping
