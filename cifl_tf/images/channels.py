"""Channels of a volume that do not fit into memory: in a file while they are made, and saved."""

import os
from pathlib import Path
from types import EllipsisType

import numpy as np
from nibabel.openers import ImageOpener

from cifl_tf.images.atomic import atomic_path
from cifl_tf.images.channel_types import ChannelType, check_channel_type
from cifl_tf.images.file_names import WRITABLE, checked_suffix
from cifl_tf.images.grid import bring_onto, three_axes
from cifl_tf.images.volumes import Volume

LARGEST = np.iinfo(np.int16).max


class ChannelFile:
    """Float32 channels of a volume in a file, of which a part at a time is in memory.

    Parts are got as those of an array, as copies, and set in all channels. ``file *= factors``
    multiplies every channel by its own.

    Args:
        path: new file, of as many bytes as the channels take.
        shape: (x, y, z, channels).

    Raises:
        OSError: the disk is full.
    """

    def __init__(self, path, shape):
        self.path, self.shape = Path(path), tuple(shape)
        size = 4 * int(np.prod(self.shape, dtype=np.int64))
        with self.path.open("xb") as stream:
            # A mapped file that finds the disk full ends the process: claim the disk before.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(stream.fileno(), 0, size)
            else:
                stream.truncate(size)

    def __getitem__(self, place) -> np.ndarray:
        match place:
            case (EllipsisType(), int(index)):
                return self._channel(range(self.shape[-1])[index])
        return np.array(self._mapped()[place])

    def _channel(self, index):
        """One channel, read without a map, of which all pages would count as memory."""
        count = int(np.prod(self.shape[:3], dtype=np.int64))
        values = np.fromfile(self.path, np.float32, count, offset=4 * count * index)
        return values.reshape(self.shape[:3], order="F")

    def __setitem__(self, place, values):
        # Channel by channel, as the pages that a part touches hold much more than the part.
        place = place if isinstance(place, tuple) else (place,)
        values = np.broadcast_to(values, self._mapped()[place].shape)
        for index in range(self.shape[-1]):
            self._mapped()[..., index][place] = values[..., index]

    def __imul__(self, factors):
        for plane in range(self.shape[2]):
            self[:, :, plane] *= factors
        return self

    def _mapped(self):
        """The file, mapped anew: what a map has touched stays in memory as long as the map."""
        return np.memmap(self.path, np.float32, "r+", shape=self.shape, order="F")


def save_channels(channels, volume: Volume, path, dtype: ChannelType = "float32") -> None:
    """``save_image`` of ``to_original``, with one channel at a time in memory.

    Args:
        channels: array or ``ChannelFile`` (x, y, z, channels), on the grid of ``volume``.
        volume: what ``read_volume`` returned.
        path: .nii or .nii.gz to write, whole or not at all.
        dtype: of the numbers in the file. "int16" takes half the space; programs read the channels
            as floating-point numbers, rounded to 1/32767 of the largest absolute value.

    Raises:
        ValueError: ``path`` ends in something else, or there is no such type.
    """
    checked_suffix(path, WRITABLE)
    check_channel_type(dtype)
    grid, count = volume.original, channels.shape[-1]
    nothing = np.broadcast_to(np.zeros((), dtype), (*three_axes(grid.shape), count))
    image = grid.image(nothing)
    image.update_header()

    def on_grid(index):
        channel = np.asarray(channels[..., index], np.float32)
        return bring_onto(grid, channel, volume.affine, "continuous")

    slope = 1.0
    if dtype != "float32":
        # Resampled channels go beyond those that are given.
        largest = max(np.abs(on_grid(index)).max() for index in range(count))
        slope = float(np.float32(largest / LARGEST)) or 1.0  # the header holds single precision
    image.header.set_slope_inter(slope, 0)
    with atomic_path(path) as temporary, ImageOpener(temporary, "wb") as stream:
        image.header.write_to(stream)
        stream.write(b"\0" * (image.header.get_data_offset() - stream.tell()))
        for index in range(count):
            channel = on_grid(index)
            if dtype != "float32":
                rounded = np.rint(channel / slope)
                channel = np.clip(rounded, -LARGEST, LARGEST).astype(dtype)
            for plane in np.moveaxis(channel, 2, 0):
                stream.write(plane.tobytes(order="F"))
