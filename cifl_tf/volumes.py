"""Medical images in and out: NIfTI and MGH files, orientation, voxel size, intensity scaling.

Inside the package a volume lies in canonical orientation (axes towards right, anterior, superior),
perhaps resampled. ``to_original`` brings what was computed on it back to the input's own grid.
"""

import gzip
import os
import uuid
import zlib
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

import nibabel
import numpy as np
from nibabel.affines import apply_affine, from_matvec, voxel_sizes
from nibabel.orientations import aff2axcodes, apply_orientation, inv_ornt_aff, io_orientation
from nibabel.orientations import ornt_transform as orientation_change

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
READABLE = (".nii", ".nii.gz", ".mgh", ".mgz")
WRITABLE = (".nii", ".nii.gz")
CANONICAL = ((0, 1), (1, 1), (2, 1))
GEOMETRY_FIELDS = (
    *("sform_code", "srow_x", "srow_y", "srow_z", "qform_code", "quatern_b", "quatern_c"),
    *("quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
)


@dataclass(frozen=True, eq=False)
class Grid:
    """Where an input image lies: its shape (one frame), its affine, and its geometry as a header.

    The header holds nothing else: display ranges, time or descriptions of the input would be wrong
    on an image of features.
    """

    shape: tuple[int, ...]
    affine: np.ndarray
    header: nibabel.Nifti1Header


@dataclass(frozen=True, eq=False, repr=False)
class Volume:
    """One 3D image in canonical (RAS+) orientation, and the grid it came from.

    Attributes:
        data: float32 array (x, y, z), finite, not constant.
        affine: (4, 4), voxels of ``data`` to mm.
        original: the input's own grid, for ``to_original``.
    """

    data: np.ndarray
    affine: np.ndarray
    original: Grid

    def __repr__(self):
        sizes = "x".join(f"{size:.4g}" for size in voxel_sizes(self.affine))
        codes = "".join(aff2axcodes(self.original.affine))
        return (
            f"Volume(shape={self.data.shape}, voxels of {sizes} mm; "
            f"original: shape={self.original.shape}, {codes})"
        )


def read_volume(path, frame: int | None = None, voxel_size=None) -> Volume:
    """Read one 3D image, turn it to canonical orientation, and resample it if asked.

    Args:
        path: a .nii, .nii.gz, .mgh or .mgz file, or a nibabel image in memory. A 2D image counts
            as one slice.
        frame: which 3D image of a 4D one, counted from 0; may be left out if there is only one.
        voxel_size: in mm, one number or three in canonical order (right, anterior, superior).
            Cubic interpolation over the same field of view and, as everywhere in nilearn, no
            smoothing before. An axis with a single voxel keeps its size.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the image cannot be used (not an image, damaged, empty, constant, not finite,
            not numeric, without a valid affine), or ``frame`` or ``voxel_size`` does not fit it.
    """
    image, name = (path, "the image") if hasattr(path, "dataobj") else (_load(path), str(path))
    if not isinstance(image, nibabel.spatialimages.SpatialImage):
        raise ValueError(f"{name} is a {type(image).__name__}, not a volume: give a NIfTI or MGH one")
    data = _one_frame(image, frame, name)
    _check_values(data, name)
    affine = _checked_affine(image.affine, name)
    original = Grid(data.shape, affine, _geometry(image, affine))

    orientation, shape, canonical_affine = _canonical(original)
    data = apply_orientation(data.reshape(_three_axes(data.shape)), orientation)
    if voxel_size is not None:
        target_affine, target_shape = _resized(canonical_affine, shape, voxel_size)
        data = _resample(data, canonical_affine, target_affine, target_shape, "continuous")
        canonical_affine = target_affine
    return Volume(np.ascontiguousarray(data, np.float32), canonical_affine, original)


def to_original(array, volume: Volume, order: str = "continuous") -> nibabel.Nifti1Image:
    """Bring an array on the grid of ``volume`` back to the grid of the image it was read from.

    Args:
        array: (x, y, z) or (x, y, z, channels), on the grid of ``volume.data``.
        volume: what ``read_volume`` returned.
        order: "continuous" (cubic where the volume was resampled, float32) or "nearest" for label
            maps, which keep their integer type.

    Returns:
        A NIfTI image with the input's shape, affine, spatial unit, and sform and qform codes.
    """
    array = np.asarray(array)
    if order not in ("continuous", "nearest"):
        raise ValueError(f"order is {order!r}: choose 'continuous', or 'nearest' for label maps")
    if array.ndim not in (3, 4) or array.shape[:3] != volume.data.shape:
        raise ValueError(
            f"the array has shape {array.shape}, but the volume has {volume.data.shape}: give an "
            "array with these axes, or these and one more for channels"
        )
    array = array.astype(_storable(array.dtype, order), copy=False)
    original = volume.original
    orientation, shape, affine = _canonical(original)
    if array.shape[:3] != shape or not np.array_equal(affine, volume.affine):
        array = _resample(array, volume.affine, affine, shape, order)
    array = apply_orientation(array, orientation_change(CANONICAL, orientation))
    if array.ndim == 3:
        array = array.reshape(original.shape)
    header = original.header.copy()
    header.set_data_dtype(array.dtype)
    return nibabel.Nifti1Image(array, original.affine, header)


def write_features(path, features, volume: Volume) -> None:
    """Save features (x, y, z, channels) of ``volume`` as 4D float32 NIfTI on the input's own grid.

    Raises:
        ValueError: the features do not fit the volume, or ``path`` is not a NIfTI name.
    """
    _suffix(path, WRITABLE)
    if np.ndim(features) != 4:
        raise ValueError(
            f"features have shape {np.shape(features)}: give four axes, (x, y, z, channels)"
        )
    save_image(to_original(features, volume), path)


def save_image(image, path) -> None:
    """Save a nibabel image as .nii or .nii.gz, whole or not at all; missing folders are made.

    Raises:
        ValueError: ``path`` ends in something else.
    """
    path = Path(path)
    suffix = _suffix(path, WRITABLE)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: its files are readable by their owner only, and stay so when renamed.
    temporary = path.parent / f".{uuid.uuid4().hex}{suffix}"
    try:
        nibabel.save(image, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def rescale_intensity(image, lower: float = 0.1, upper: float = 99.9) -> np.ndarray:
    """Scale intensities to [0, 1] between two percentiles, by the same rule for every contrast.

    With p the percentiles of all voxels (linear interpolation between the two nearest ranks):
    ``clip((x - p_lower) / (p_upper - p_lower), 0, 1)``. Where both percentiles are the same, because
    nearly all voxels are, the minimum and maximum take their place; where these are the same too,
    the image is constant and the result is 0. All in float32.

    Args:
        image: finite numbers, any shape.
        lower: percentile that becomes 0.
        upper: percentile that becomes 1. With ``lower + upper == 100`` an inverted image becomes
            the inverse of the result.

    Raises:
        ValueError: no voxels, or not ``0 <= lower < upper <= 100``.
    """
    if not 0 <= lower < upper <= 100:
        raise ValueError(
            f"percentiles are {lower} and {upper}: give 0 <= lower < upper <= 100, such as 0.1, 99.9"
        )
    image = np.asarray(image, np.float32)
    if image.size == 0:
        raise ValueError(f"the image has no voxels, its shape is {image.shape}: give one that has")
    low, high = np.percentile(image, (lower, upper)).astype(np.float32)
    if low == high:
        low, high = image.min(), image.max()
    if low == high:
        return np.zeros_like(image)
    return np.clip((image - low) / (high - low), 0, 1)


def plane_axis(plane: str) -> int:
    """Return the axis of a canonical volume that runs across the slices of ``plane``."""
    if plane not in PLANES:
        raise ValueError(f"plane is {plane!r}: choose one of {', '.join(PLANES)}")
    return PLANES[plane]


def _suffix(path, accepted):
    """Return the file type at the end of ``path``, or raise ValueError if it is not accepted."""
    name = Path(path).name.lower()
    for suffix in sorted(accepted, key=len, reverse=True):
        if name.endswith(suffix):
            return suffix
    raise ValueError(f"{path} does not end in {' or '.join(accepted)}: give it one of these names")


def _load(path):
    """Open an image file; its voxels are read later."""
    if isinstance(path, np.ndarray):
        raise ValueError(
            f"an array of shape {path.shape} has no affine: give a file or nibabel.Nifti1Image"
        )
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: give a {' or '.join(READABLE)} file")
    suffix = _suffix(path, READABLE)
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give a {' or '.join(READABLE)} file")
    try:
        if suffix in (".nii.gz", ".mgz"):
            # nibabel stops at the last voxel, before the checksum that shows damaged ones.
            with gzip.open(path) as stream:
                while stream.read(1 << 20):
                    pass
        return nibabel.load(path)
    except PermissionError:
        raise
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(_damaged(path, error)) from error
    except (
        *(nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError),
        *(ValueError, TypeError, LookupError),
    ) as error:
        raise ValueError(
            f"{path} is not a NIfTI or MGH image in spite of its name, or its header is damaged: "
            f"convert or copy it again ({_first_line(error)})"
        ) from error


def _damaged(name, error):
    return f"{name} is truncated or damaged: copy or convert it again ({_first_line(error)})"


def _first_line(error):
    return (str(error).splitlines() or [type(error).__name__])[0]


def _one_frame(image, frame, name):
    """Return one frame of the image as a float32 array of two or three axes."""
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
            f"{name} has {count} frames, shape {shape}: pass frame=0 to frame={count - 1}"
        )
    frame = 0 if frame is None else frame
    if not isinstance(frame, Integral) or not 0 <= frame < count:
        raise ValueError(f"frame is {frame!r}, but {name} has {count}: pass 0 to {count - 1}")
    try:
        data = np.asanyarray(image.dataobj[..., frame] if len(shape) == 4 else image.dataobj)
    except PermissionError:
        raise
    except (EOFError, OSError, zlib.error, ValueError) as error:
        raise ValueError(_damaged(name, error)) from error
    if data.dtype.kind not in "biuf":
        kind = "colours (RGB)" if data.dtype.names else f"of type {data.dtype}"
        raise ValueError(
            f"the voxels of {name} are {kind}: give an image with one real number per voxel"
        )
    with np.errstate(over="ignore"):
        return np.asarray(data, np.float32)


def _check_values(data, name):
    """Raise ValueError if voxels are not finite or all the same."""
    nans, infinite = np.isnan(data).sum(), np.isinf(data).sum()
    if nans or infinite:
        raise ValueError(
            f"{name} has {nans} NaN and {infinite} infinite voxels (in float32) of {data.size}: "
            "replace them first, for example by numpy.nan_to_num"
        )
    if data.min() == data.max():
        raise ValueError(f"{name} is constant, every voxel is {data.flat[0]}: give one with content")


def _checked_affine(affine, name):
    """Return the affine in float64, or raise ValueError if it maps no volume to mm."""
    affine = np.full((4, 4), np.nan) if affine is None else np.array(affine, np.float64)
    if not np.isfinite(affine).all() or not np.linalg.cond(affine[:3, :3]) < 1e6:
        raise ValueError(
            f"the affine of {name} is singular or not finite, {affine[:3].tolist()}: correct the "
            "sform or qform in its header"
        )
    return affine


def _geometry(image, affine):
    """Return a NIfTI header with the sform, qform, voxel size and spatial unit of the image."""
    header = nibabel.Nifti1Header()
    if isinstance(image.header, nibabel.Nifti1Header):
        for field in GEOMETRY_FIELDS:
            header[field] = image.header[field]
        header["pixdim"][:4] = image.header["pixdim"][:4]
        header["xyzt_units"] = image.header["xyzt_units"] % 8  # the rest is the unit of time
    else:
        header.set_data_shape(_three_axes(image.shape))
        header.set_sform(affine, code="scanner")
        header.set_qform(affine, code="scanner")
        header.set_xyzt_units("mm")
    return header


def _three_axes(shape):
    return (*shape, 1)[:3]


def _canonical(grid):
    """Return the orientation of the grid, and the shape and affine it has when canonical."""
    shape = _three_axes(grid.shape)
    orientation = io_orientation(grid.affine)
    canonical_shape = np.empty(3, int)
    canonical_shape[orientation[:, 0].astype(int)] = shape
    affine = grid.affine @ inv_ornt_aff(orientation, shape)
    return orientation, tuple(canonical_shape.tolist()), affine


def _resized(affine, shape, voxel_size):
    """Return affine and shape of the same field of view in voxels of another size."""
    wanted = np.asarray(voxel_size, np.float64)
    if wanted.shape not in ((), (3,)) or not (np.isfinite(wanted) & (wanted > 0)).all():
        raise ValueError(f"voxel_size is {voxel_size!r}: give one or three positive numbers, in mm")
    old = np.array(shape)
    factor = np.where(old == 1, 1.0, wanted / voxel_sizes(affine))
    new = np.maximum(1, np.rint(old / factor)).astype(int)
    matrix = affine[:3, :3] * factor
    origin = apply_affine(affine, (old - 1) / 2) - matrix @ ((new - 1) / 2)
    return from_matvec(matrix, origin), tuple(new.tolist())


def _resample(array, affine, target_affine, target_shape, interpolation):
    """Resample (x, y, z) or (x, y, z, channels) to another grid over the same field of view."""
    if array.shape[:3] == target_shape and np.allclose(affine, target_affine):
        return array
    from nilearn.image import resample_img  # slow to import

    # The outermost voxel centres of one grid lie up to 0.75 voxels outside those of the other, where
    # nilearn fills in 0: that would be bright beside the air of a CT, and a ring on features.
    padding = [(1, 1)] * 3 + [(0, 0)] * (array.ndim - 3)
    padded = np.pad(array, padding, mode="edge")
    image = nibabel.Nifti1Image(padded, affine @ from_matvec(np.eye(3), [-1, -1, -1]))
    resampled = resample_img(
        image, target_affine, target_shape, interpolation, force_resample=True, copy_header=True
    )
    return np.asarray(resampled.dataobj).astype(array.dtype, copy=False)


def _storable(dtype, order):
    """Return the type that NIfTI stores an array of ``dtype`` in."""
    if order == "continuous" or dtype.kind == "f":
        return np.float32
    if dtype.kind == "b":
        return np.uint8
    return np.int32 if dtype.itemsize > 4 else dtype
