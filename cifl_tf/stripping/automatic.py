"""Scans as models for brains take them: without skull, whether they came so or not."""

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
from cifl_tf.stripping.stripper import NoBrainError, StrippedHead, Stripper, doubt_of_size

LEAST_FIELD = 100.0  # mm along each axis, of a scan that may show a whole head


# What is judged of a scan that is said to show a brain, and why its size may be another.
GIVEN = (
    "brain",
    "the image shows skull and scalp, or a part of the brain, or has a wrong voxel size",
)
ADVICE = (
    "--stripped says that this is right, --no-stripped takes the skull away from a part of a head"
)


class Brain(NamedTuple):
    """A scan without skull.

    Attributes:
        image: float32, on the grid of the scan.
        mask: bool, of the same shape: where it shows the brain, without holes.
        head: what brain extraction found; None for a scan that had no skull.
        doubt: why this is hardly a whole brain, in words; empty where nothing says so.
    """

    image: nibabel.Nifti1Image
    mask: np.ndarray
    head: StrippedHead | None
    doubt: str = ""

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
    found = None if stripped else _found_in(image, stripper, volume_index, window)
    if found is not None and (stripped is False or not found.was_stripped):
        return Brain(found.brain, np.asarray(found.mask.dataobj) > 0, found, found.doubt)
    volume = read_volume(image, volume_index)
    scan = to_original(volume.data, volume)
    brain = Brain(scan, binary_fill_holes(~air_mask(np.asarray(scan.dataobj))), None)
    # A mask of another tool may be wide: what brain extraction found has the size that counts.
    doubt = found.doubt if found is not None else doubt_of_size(brain.volume / 1000, *GIVEN)
    return brain._replace(doubt=doubt)


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
        if head is None and has_slices(image):
            note(f"{name_of(image)} shows no whole head, and is used as it is; {ADVICE}")
        return None if head is None or head.was_stripped else head
    head = _found_in(image, stripper, volume_index, window)
    return None if stripped is None and head.was_stripped else head


def _found_in(image, stripper, volume_index, window):
    """What brain extraction finds, with advice where it finds nothing."""
    try:
        return (stripper or shipped_stripper()).strip(
            image, volume_index=volume_index, window=window
        )
    except NoBrainError as error:
        raise NoBrainError(
            f"{error}; if it shows a brain alone, give --stripped, or stripped=True in Python"
        ) from error


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
        brain.
    """
    grid = read_grid(image)
    shape = three_axes(grid.shape)
    if not _is_volume(shape) or np.min(shape * voxel_sizes(grid.affine)) < LEAST_FIELD:
        return None
    try:
        head = _found_in(image, stripper, volume_index, window)
    except NoBrainError:
        return None
    return None if head.doubt else head


def has_slices(image) -> bool:
    """Whether an image is a volume, and no single slice."""
    return _is_volume(three_axes(read_grid(image).shape))


def _is_volume(shape):
    return len(shape) == 3 and min(shape) > 1  # a file may have one axis


@lru_cache(maxsize=1)
def shipped_stripper() -> Stripper:
    """The stripper that ships, loaded once."""
    return Stripper.from_pretrained()
