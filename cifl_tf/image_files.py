"""Opening image files: what cannot be used is refused here, in one line that says what to do."""

import contextlib
import gzip
import os
import shutil
from pathlib import Path

import nibabel
import numpy as np

from cifl_tf.files import expanded

READABLE = (".nii", ".nii.gz", ".mgh", ".mgz")
WRITABLE = (".nii", ".nii.gz")


def checked_suffix(path, accepted):
    """Return the file type at the end of ``path``, or raise ValueError if it is not accepted."""
    name = Path(path).name.lower()
    for suffix in sorted(accepted, key=len, reverse=True):
        if name.endswith(suffix):
            return suffix
    raise ValueError(f"{path} does not end in {' or '.join(accepted)}: give it one of these names")


@contextlib.contextmanager
def _explained(name):
    """Turn what nibabel raises on a bad file, nearly anything, now or later, into ValueError."""
    try:
        yield
    except (PermissionError, FileNotFoundError):
        raise
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{name} is truncated or damaged, or no NIfTI or MGH image in spite of its name: copy "
            f"or convert it again ({reason})"
        ) from error


def load_image(path):
    """Open an image file; its voxels are read later."""
    if not isinstance(path, (str, os.PathLike)):
        kind = type(path).__name__
        raise ValueError(f"got a {kind}, not a file or image: make it a nibabel.Nifti1Image")
    path = expanded(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: give a {' or '.join(READABLE)} file")
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give a {' or '.join(READABLE)} file")
    suffix = checked_suffix(path, READABLE)
    with _explained(path):
        if suffix in (".nii.gz", ".mgz"):
            # nibabel stops at the last voxel, before the checksum that tells damaged ones.
            with gzip.open(path) as stream, open(os.devnull, "wb") as nowhere:
                shutil.copyfileobj(stream, nowhere)
        return nibabel.load(path)


def open_image(path):
    """Return a file, or a nibabel image in memory, as a nibabel image, and its name for errors."""
    image = path if hasattr(path, "dataobj") else load_image(path)
    file = image.get_filename() if hasattr(image, "get_filename") else None
    name = str(file or "the image") if image is path else str(path)
    if not isinstance(image, nibabel.spatialimages.SpatialImage):
        kind = type(image).__name__
        raise ValueError(f"{name} is a {kind}, not a volume: give a NIfTI or MGH volume")
    return image, name


def one_frame(image, frame, name, dtype=np.float32):
    """Return one frame of the image as an array of floats, of two or three axes."""
    shape = image.shape
    if len(shape) not in (2, 3, 4):
        raise ValueError(
            f"{name} has {len(shape)} axes, shape {shape}: give a volume (3), a slice (2), or "
            "frames of volumes (4)"
        )
    if 0 in shape:
        raise ValueError(f"{name} is empty, its shape is {shape}: give an image with voxels")
    count = shape[3] if len(shape) == 4 else 1
    if frame is None and count > 1:
        raise ValueError(
            f"{name} has {count} frames, shape {shape}: choose one from 0 to {count - 1}, frame=0 "
            "in Python, --frame 0 on the command line (--moving-frame, --fixed-frame in register)"
        )
    frame = 0 if frame is None else frame
    if not isinstance(frame, (int, np.integer)) or not 0 <= frame < count:
        raise ValueError(f"frame is {frame!r}, but {name} has {count}: pass 0 to {count - 1}")
    with _explained(name):
        data = np.asanyarray(image.dataobj[..., frame] if len(shape) == 4 else image.dataobj)
    if data.dtype.kind not in "biuf":
        kind = "colours (RGB)" if data.dtype.names else f"of type {data.dtype}"
        raise ValueError(
            f"the voxels of {name} are {kind}: give an image with one real number per voxel"
        )
    with np.errstate(over="ignore"):
        return np.array(data, dtype)  # a copy: the voxels may lie in the file, mapped


def check_values(data, name):
    """Raise ValueError if voxels are not finite or all the same."""
    nans, infinite = np.isnan(data).sum(), np.isinf(data).sum()
    if nans or infinite:
        raise ValueError(
            f"{name} has {nans} NaN and {infinite} infinite voxels (in float32) of {data.size}: "
            "replace them first, for example by numpy.nan_to_num"
        )
    if data.min() == data.max():
        raise ValueError(
            f"{name} is constant, all {data.flat[0]}: give an image that shows something"
        )


def checked_affine(affine, name):
    """Return the affine in float64, or raise ValueError if it maps no volume to mm."""
    affine = np.full((4, 4), np.nan) if affine is None else np.array(affine, np.float64)
    if not np.isfinite(affine).all() or not np.linalg.cond(affine[:3, :3]) < 1e6:
        raise ValueError(
            f"the affine of {name} is singular or not finite, {affine[:3].tolist()}: correct the "
            "sform or qform in its header"
        )
    return affine
