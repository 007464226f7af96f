"""Opening image files: what cannot be used is refused here, in one line that says what to do."""

import contextlib
import os

import nibabel
import numpy as np
from nibabel import imageglobals

from cifl_tf.images.atomic import expanded
from cifl_tf.images.claims import (
    SPARE,
    check_file_size,
    check_memory,
    check_voxel_size,
    compressed_size,
    is_compressed,
    read_claim,
)
from cifl_tf.images.file_names import (
    COMPRESSED,
    PAIR,
    READABLE,
    beginning_of,
    checked_suffix,
    missing_content,
)
from cifl_tf.images.memory import size_text

GZIP = b"\x1f\x8b"

_DICOM = "it is DICOM: convert its whole folder by dcm2niix"
_ITK = "convert it to .nii.gz in 3D Slicer, or by SimpleITK.ReadImage and WriteImage"
_NIBABEL = "convert it to .nii.gz by nibabel.load and nibabel.save"
_ARRAY = "save its array by nibabel.Nifti1Image(array, affine).to_filename('image.nii.gz')"
_PICTURE = "a picture has no voxel size in mm: convert the scan that it was made from"
_PACKED = "unpack it first"
CONVERTERS = {
    **dict.fromkeys((".dcm", ".dicom", ".ima"), _DICOM),
    **dict.fromkeys((".nrrd", ".nhdr", ".mha", ".mhd", ".vtk", ".vti"), _ITK),
    **dict.fromkeys((".mnc", ".rec", ".par", ".head", ".brik", ".v"), _NIBABEL),
    **dict.fromkeys((".mat", ".npy", ".npz", ".h5", ".hdf5"), _ARRAY),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff"), _PICTURE),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".bz2", ".xz", ".zst", ".7z"), _PACKED),
    **dict.fromkeys((".gii", ".ply", ".stl", ".annot"), "it is a surface: give a volume"),
}


@contextlib.contextmanager
def explained(name):
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


@contextlib.contextmanager
def _silent(logger):
    """Keep nibabel from writing to standard error what its error says too."""
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def load_image(path):
    """Open an image file; its voxels are read later.

    Raises:
        FileNotFoundError: there is no such file, or nothing but a link or pointer to its content.
        ValueError: it is no image that can be read, its header claims more than the file holds, or
            more than fits into memory.
    """
    if not isinstance(path, (str, os.PathLike)):
        kind = type(path).__name__
        raise ValueError(f"got a {kind}, not a file or image: make it a nibabel.Nifti1Image")
    path = expanded(path)
    _check_file(path)
    with explained(path):
        claim = read_claim(path)
    if claim is not None:
        _check_claim(path, claim)
    with explained(path), _silent(imageglobals.logger):
        return nibabel.load(path)


def _check_claim(path, claim):
    """Raise ValueError if the claim of a header is untrue or too large for this machine."""
    check_file_size(claim)
    check_memory(claim.shape, claim.dtype.itemsize, path, claim.offset)
    check_voxel_size(claim)
    if not is_compressed(path):
        return
    with explained(path):
        held = compressed_size(claim)
    check_file_size(claim, held)
    if held > claim.size + SPARE:
        raise ValueError(
            f"{path} holds more than {size_text(claim.size + SPARE)}, but {claim}: its header is "
            "damaged; convert it again"
        )


def _check_file(path):
    """Raise an error if this is no file with content, of a type that can be read."""
    missing = missing_content(path)
    empty = path.is_file() and path.stat().st_size == 0
    if missing and not empty:
        raise FileNotFoundError(f"{missing}: give a {' or '.join(READABLE)} file")
    if path.is_dir():
        raise ValueError(
            f"{path} is a folder: give a {' or '.join(READABLE)} file; a folder of DICOM becomes "
            "one by dcm2niix"
        )
    suffix = checked_suffix(path, READABLE, _conversion(path))
    if empty:
        raise ValueError(f"{missing}, no NIfTI or MGH image: copy or convert it again")
    if suffix in PAIR:
        other = path.with_suffix(PAIR[suffix])
        if not other.exists() and not other.with_suffix(other.suffix.upper()).exists():
            raise FileNotFoundError(
                f"{path} is half of a pair, but {other} is not there: copy both"
            )
    if suffix in COMPRESSED and beginning_of(path).startswith(GZIP):
        right = path.name[: -len(suffix)] + COMPRESSED[suffix]
        raise ValueError(f"{path} is compressed, in spite of its name: rename it to {right}")
    if suffix == ".nii.gz" and nibabel.Nifti1Header.may_contain_header(beginning_of(path)):
        raise ValueError(
            f"{path} is not compressed, in spite of its name: rename it to {path.stem}"
        )


def _conversion(path):
    """What to do with a file that cannot be read."""
    if beginning_of(path)[128:132] == b"DICM":
        return _DICOM
    return CONVERTERS.get(path.suffix.lower(), "convert it to one of these")


def name_of(image) -> str | os.PathLike:
    """What an error calls an image: its path, or "the image" for one that has none."""
    if isinstance(image, str | os.PathLike):
        return image
    file = image.get_filename() if hasattr(image, "get_filename") else None
    return file or "the image"


def open_image(path):
    """Return a file, or a nibabel image in memory, as a nibabel image, and its name for errors."""
    image = path if hasattr(path, "dataobj") else load_image(path)
    name = str(name_of(path))
    if not isinstance(image, nibabel.spatialimages.SpatialImage):
        kind = type(image).__name__
        raise ValueError(f"{name} is a {kind}, not a volume: give a NIfTI or MGH volume")
    return image, name


def one_frame(image, volume_index, name, dtype=np.float32):
    """Return one frame of the image as an array of floats, of two or three axes."""
    shape = image.shape
    while len(shape) > 3 and shape[-1] == 1:  # axes that NIfTI has for time and channels
        shape = shape[:-1]
    if len(shape) not in (2, 3, 4):
        raise ValueError(
            f"{name} has {len(shape)} axes, shape {shape}: give a volume (3), a slice (2), or "
            "frames of volumes (4)"
        )
    if 0 in shape:
        raise ValueError(f"{name} is empty, its shape is {shape}: give an image with voxels")
    count = shape[3] if len(shape) == 4 else 1
    if volume_index is None and count > 1:
        raise ValueError(
            f"{name} has {count} frames, shape {shape}: choose one from 0 to {count - 1}, "
            "volume_index=0 in Python, --volume-index 0 on the command line (in register "
            "--moving-volume-index, --fixed-volume-index)"
        )
    volume_index = 0 if volume_index is None else volume_index
    if not isinstance(volume_index, (int, np.integer)) or not 0 <= volume_index < count:
        choice = f"pass 0 to {count - 1}" if count > 1 else "leave it out"
        raise ValueError(f"volume_index is {volume_index!r}, but {name} has {count}: {choice}")
    if nibabel.is_proxy(image.dataobj):
        check_memory(shape, image.dataobj.dtype.itemsize, name)
    chosen = (..., volume_index, *[0] * (image.ndim - 4))
    with explained(name):
        data = np.asanyarray(image.dataobj[chosen] if image.ndim > 3 else image.dataobj)
    if data.dtype.kind not in "biuf":
        kind = "colors (RGB)" if data.dtype.names else f"of type {data.dtype}"
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
    usable = affine.shape == (4, 4) and np.isfinite(affine).all()
    if not usable or not np.linalg.cond(affine[:3, :3]) < 1e6:
        raise ValueError(
            f"the affine of {name} is singular, not finite or not (4, 4), {affine[:3].tolist()}: "
            "correct the sform or qform in its header"
        )
    return affine
