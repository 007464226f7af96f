"""Whether two scans are the same, so that what was made of one serves for the other."""

import zlib

import numpy as np

from cifl_tf.images.atomic import expanded, file_state
from cifl_tf.images.volumes import Volume


class Content:
    """A scan; equal to another one of the same voxels, or of the same file in the same state.

    Args:
        scan: file, nibabel image, or ``Volume``.

    Example:
        >>> import nibabel, numpy as np
        >>> from cifl_tf.images.contents import Content
        >>> first, second = (nibabel.Nifti1Image(np.ones((4, 4, 4)), np.eye(4)) for _ in range(2))
        >>> Content(first) == Content(second)
        True
    """

    def __init__(self, scan):
        self.scan = scan
        self._key: tuple
        if isinstance(scan, Volume):
            self._key = (*_voxels(scan.data), scan.affine.tobytes())
        elif hasattr(scan, "dataobj"):
            header = getattr(scan.header, "binaryblock", b"")  # with the unit
            self._key = (*_voxels(scan.dataobj), scan.affine.tobytes(), header)
        else:
            self._key = (str(scan),)  # a file that is not there is told when it is read
            if expanded(scan).is_file():
                self._key = file_state(scan)

    def __eq__(self, other):
        return self._key == other._key

    def __hash__(self):
        return hash(self._key)


def _voxels(array):
    voxels = np.ascontiguousarray(array)
    return voxels.shape, str(voxels.dtype), zlib.crc32(voxels.data)
