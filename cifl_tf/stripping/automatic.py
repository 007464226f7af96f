"""Scans as models for brains take them: without skull, whether they came so or not."""

import contextlib
from functools import lru_cache
from typing import NamedTuple

import nibabel
import numpy as np
from nibabel.affines import voxel_sizes
from scipy.ndimage import binary_fill_holes

from cifl_tf._notes import note
from cifl_tf.images.grid import three_axes
from cifl_tf.images.intensity import air_mask
from cifl_tf.images.nifti import name_of
from cifl_tf.images.volumes import read_grid, read_volume, to_original
from cifl_tf.stripping.stripper import NoBrainError, StrippedHead, Stripper

LEAST_FIELD = 100.0  # mm along each axis, of a scan that may show a whole head


class Brain(NamedTuple):
    """A scan without skull.

    Attributes:
        image: float32, on the grid of the scan.
        mask: bool, of the same shape: where it shows the brain, without holes.
        head: what brain extraction found; None for a scan that had no skull.
    """

    image: nibabel.Nifti1Image
    mask: np.ndarray
    head: StrippedHead | None

    @property
    def volume(self) -> float:
        """Of the mask, in mm³, whatever the unit of the header."""
        return float(self.mask.sum() * read_grid(self.image).voxel_volume)

    @property
    def mask_image(self) -> nibabel.Nifti1Image:
        """The mask as uint8, 1 inside."""
        mask = nibabel.Nifti1Image(self.mask.astype(np.uint8), self.image.affine, self.image.header)
        mask.set_data_dtype(np.uint8)
        return mask


def brain_of(
    image,
    stripped: bool | None = None,
    stripper: Stripper | None = None,
    volume_index: int | None = None,
    window: tuple[float, float] | None = None,
) -> Brain:
    """The brain of a scan of any contrast, which may be stripped already.

    Args:
        image: NIfTI or MGZ file, or nibabel image.
        stripped: whether the scan shows the brain alone; None to find out, see
            ``StrippedHead.was_stripped``.
        stripper: finds the brain; None for that which ships.
        volume_index, window: see ``features_of``.

    Raises:
        ValueError, FileNotFoundError: as ``Stripper.strip``.

    Example:
        >>> import nibabel, numpy as np
        >>> from cifl_tf.stripping import brain_of
        >>> distance = np.linalg.norm(np.indices((40, 40, 40)) - 20, axis=0)
        >>> scan = nibabel.Nifti1Image(np.where(distance < 15, 50.0, 0), np.diag([4, 4, 4, 1]))
        >>> brain_of(scan, stripped=True).mask.sum() == (distance < 15).sum()
        np.True_
    """
    head = head_in(image, stripped, stripper, volume_index, window)
    if head is not None:
        return Brain(head.brain, np.asarray(head.mask.dataobj) > 0, head)
    volume = read_volume(image, volume_index)
    scan = to_original(volume.data, volume)
    return Brain(scan, binary_fill_holes(~air_mask(np.asarray(scan.dataobj))), None)


def head_in(
    image,
    stripped: bool | None = None,
    stripper: Stripper | None = None,
    volume_index: int | None = None,
    window: tuple[float, float] | None = None,
    any_body_part: bool = False,
) -> StrippedHead | None:
    """What brain extraction finds in a scan; None for a scan that is to stay as it is.

    Args:
        image, stripped, stripper, volume_index, window: see ``brain_of``.
        any_body_part: the scan may show no head at all: it stays as it is where the field of view
            is too small for one, or where the brain has not the size of one.

    Raises:
        ValueError, FileNotFoundError: as ``Stripper.strip``.
    """
    if stripped:
        return None
    if stripped is None and any_body_part:
        head = plausible_brain(image, stripper, volume_index, window)
        return None if head is None or head.was_stripped else head
    try:
        head = (stripper or shipped_stripper()).strip(
            image, volume_index=volume_index, window=window
        )
    except NoBrainError as error:
        raise NoBrainError(
            f"{error}; if it shows a brain alone, give --stripped, or stripped=True in Python"
        ) from error
    return None if stripped is None and head.was_stripped else head


def plausible_brain(
    image,
    stripper: Stripper | None = None,
    volume_index: int | None = None,
    window: tuple[float, float] | None = None,
) -> StrippedHead | None:
    """What brain extraction finds in a scan of any body part.

    Args:
        image, stripper, volume_index, window: see ``brain_of``.

    Returns:
        None where the field of view is too small for a head, or where nothing has the size of a
        brain; a note says so of volumes.
    """
    grid = read_grid(image)
    shape = three_axes(grid.shape)
    if len(shape) != 3 or min(shape) == 1:
        return None
    if np.min(shape * voxel_sizes(grid.affine)) >= LEAST_FIELD:
        with contextlib.suppress(NoBrainError):
            head = (stripper or shipped_stripper()).strip(
                image, volume_index=volume_index, window=window
            )
            if not head.doubt:
                return head
    note(
        f"{name_of(image)} shows no whole head, and is used as it is; --stripped says that this is "
        "right, --no-stripped takes the skull away from a part of a head"
    )
    return None


@lru_cache(maxsize=1)
def shipped_stripper() -> Stripper:
    """The stripper that ships, loaded once."""
    return Stripper.from_pretrained()
