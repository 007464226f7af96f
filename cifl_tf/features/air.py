"""Features of the air around what a volume shows: known from a small volume of air.

Far from the faces of a volume, air looks like air anywhere. So only a box around what is not air
has to be encoded, which may be less than half of a volume with a skull-stripped brain.
"""

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from scipy.ndimage import find_objects


class Surroundings:
    """The box of a volume that has to be encoded, and the features outside of it.

    Args:
        shown: booleans (x, y, z): what is not 0 in a volume.
        radius: how many voxels away from a feature the farthest voxel is that it depends on.
        alignment: voxels of the coarsest level of the network.

    Attributes:
        box: slices of the part to encode. At its faces that are none of the volume, features are
            wrong, but only outside of ``inner``.
        inner: slices of the part outside of which features are those of air.
    """

    def __init__(self, shown: np.ndarray, radius: int, alignment: int):
        self.shape = shown.shape
        self._reach = math.ceil(radius / alignment) * alignment
        self._alignment = alignment
        found = find_objects(shown.view(np.uint8))  # none where nothing is shown
        (shown_box,) = found or [tuple(slice(0, length) for length in self.shape)]
        self.inner, self.box = (self._around(shown_box, count * self._reach) for count in (1, 2))

    def _around(self, box, margin):
        """A box with a margin, aligned, as far as the volume goes."""
        parts = []
        for part, length in zip(box, self.shape, strict=True):
            begin = max(0, part.start - margin) // self._alignment * self._alignment
            end = math.ceil((part.stop + margin) / self._alignment) * self._alignment
            parts.append(slice(begin, min(length, end)))
        return tuple(parts)

    def in_volume(self, place: tuple[slice, ...]) -> tuple[slice, ...]:
        """Slices of the volume, of those of the box."""
        return tuple(
            slice(part.start + one.start, part.start + one.stop)
            for part, one in zip(self.box, place, strict=True)
        )

    def fill(self, features, body: Callable[[tf.Tensor], tf.Tensor]) -> None:
        """Set the features (x, y, z, C) outside of ``inner``.

        Args:
            features: array or ``ChannelFile``.
            body: a network before normalization, from (1, x, y, z, 1) to (1, x, y, z, C).
        """
        if all(part == slice(0, size) for part, size in zip(self.inner, self.shape, strict=True)):
            return
        lengths, places = zip(*map(self._places, self.shape), strict=True)
        air = body(tf.zeros((1, *lengths, 1)))[0].numpy()
        everywhere = slice(None)
        x, y, z = self.inner
        around = [
            (slice(0, x.start), everywhere),
            (slice(x.stop, None), everywhere),
            (x, slice(0, y.start)),
            (x, slice(y.stop, None)),
        ]
        for level in range(self.shape[2]):
            plane = air[:, :, places[2][level]]
            parts = around if z.start <= level < z.stop else [(everywhere, everywhere)]
            for rows, columns in parts:
                index = np.ix_(places[0][rows], places[1][columns])
                features[rows, columns, level] = plane[index]

    def _places(self, length):
        """Along one axis: voxels of a volume of air, and where in it each voxel finds its like."""
        faces = self._reach, self._reach + length % self._alignment
        small = min(length, sum(faces) + self._alignment)
        places = np.arange(length)
        if small < length:
            middle = slice(faces[0], length - faces[1])
            places[middle] = faces[0] + places[middle] % self._alignment
            places[middle.stop :] -= length - small
        return small, places
