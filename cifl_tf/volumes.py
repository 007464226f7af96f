"""Medical images in and out: NIfTI and MGH files, orientation, voxel size, intensity scaling.

Inside the package a volume lies in canonical orientation (axes towards right, anterior, superior),
perhaps resampled. ``to_original`` brings what was computed on it back to the input's own grid.
"""

import warnings
from dataclasses import dataclass, field
from typing import Literal

import nibabel
import numpy as np
from nibabel.affines import apply_affine, from_matvec, voxel_sizes
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform

from cifl_tf.files import written_whole
from cifl_tf.image_files import (
    WRITABLE,
    check_values,
    checked_affine,
    checked_suffix,
    one_frame,
    open_image,
)

LOWER, UPPER = 0.1, 99.9
PlaneName = Literal["sagittal", "coronal", "axial"]
PLANES: dict[str, int] = {"sagittal": 0, "coronal": 1, "axial": 2}
RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])
LABEL_NOISE = 1e-3  # from a whole number; more is no rounding error
SCANNER = 1  # the code of an sform or qform of the scanner's axes
CANONICAL = ((0, 1), (1, 1), (2, 1))
SFORM = ("sform_code", "srow_x", "srow_y", "srow_z")
QFORM = ("qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")


@dataclass(frozen=True, eq=False)
class Grid:
    """Where an input image lies.

    Attributes:
        shape: of one frame.
        affine: (4, 4), voxels to mm as nibabel reads the header.
        header: with the geometry only; the rest, such as the display range, would be wrong on
            features.
        itk_affine: voxels to mm as ITK and ANTs read the header, in RAS as ``affine``. Both differ
            where the header's sform and qform do, or where it has neither.
    """

    shape: tuple[int, ...]
    affine: np.ndarray
    header: nibabel.Nifti1Header = field(repr=False)
    itk_affine: np.ndarray


@dataclass(frozen=True, eq=False)
class Volume:
    """One 3D image in canonical (RAS+) orientation, and the grid it came from.

    Attributes:
        data: float32 array (x, y, z), finite, not constant; int32 of a label map, perhaps constant.
        affine: (4, 4), voxels of ``data`` to mm.
        original: the input's own grid, for ``to_original``.
    """

    data: np.ndarray = field(repr=False)
    affine: np.ndarray
    original: Grid


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
    image, name = open_image(path)
    data = one_frame(image, frame, name)
    check_values(data, name)
    original = _grid_of(image, data.shape, name)

    orientation, shape, canonical_affine = _canonical(original)
    data = apply_orientation(data.reshape(_three_axes(data.shape)), orientation)
    if voxel_size is not None:
        target_affine, target_shape = _resized(canonical_affine, shape, voxel_size)
        data = _resample(data, canonical_affine, target_affine, target_shape, "continuous")
        canonical_affine = target_affine
    return Volume(np.ascontiguousarray(data, np.float32), canonical_affine, original)


def read_labels(path) -> np.ndarray:
    """Read a label map as int32 (x, y, z) in canonical orientation; see ``read_label_volume``."""
    return read_label_volume(path).data


def read_label_volume(path) -> Volume:
    """Read a label map with its grid.

    Args:
        path: a NIfTI or MGH file or pair of files, or a nibabel image in memory.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no image, or holds other than whole numbers of 32 bits. Noise below
            ``LABEL_NOISE``, as scaling in a header leaves it, is rounded away.
    """
    image, name = open_image(path)
    data = one_frame(image, None, name, np.float64)  # float32 has whole numbers up to 2**24 only
    # NaN and infinity are not below anything.
    large = data.size - np.count_nonzero(np.abs(data) < 2**31)
    if large:
        raise ValueError(
            f"{name} is no label map: {large} of {data.size} voxels are NaN, infinite or not below "
            "2**31; give segmentations only"
        )
    labels = np.rint(data)
    data -= labels
    np.abs(data, out=data)
    wrong = np.count_nonzero(data >= LABEL_NOISE)
    if wrong:
        raise ValueError(
            f"{name} is no label map: {wrong} of {data.size} voxels are not whole numbers, but up "
            f"to {data.max():.3g} off; resample segmentations by the nearest neighbour, save them "
            "as integers, and of probabilities give the most probable label"
        )
    data = labels
    original = _grid_of(image, data.shape, name)
    orientation, _, canonical_affine = _canonical(original)
    data = apply_orientation(data.reshape(_three_axes(data.shape)), orientation)
    return Volume(data.astype(np.int32), canonical_affine, original)


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
    if order == "continuous" or array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
    elif array.dtype.kind == "b" or array.dtype.itemsize > 4:
        array = array.astype(np.int32)  # NIfTI has no bool, and few programs read 64-bit integers
    original = volume.original
    orientation, shape, affine = _canonical(original)
    if array.shape[:3] != shape or not np.array_equal(affine, volume.affine):
        array = _resample(array, volume.affine, affine, shape, order)
    array = apply_orientation(array, ornt_transform(CANONICAL, orientation))
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
    checked_suffix(path, WRITABLE)
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
    checked_suffix(path, WRITABLE)
    with written_whole(path) as temporary:
        nibabel.save(image, temporary)


def rescale_intensity(image, lower: float = LOWER, upper: float = UPPER) -> np.ndarray:
    """Scale intensities to [0, 1] between two percentiles, by the same rule for every contrast.

    With p the percentiles of all voxels (linear interpolation between the two nearest ranks):
    ``clip((x - p_lower) / (p_upper - p_lower), 0, 1)``. Where both percentiles are the same,
    because nearly all voxels are, the minimum and maximum take their place; where these are the
    same too, the image is constant and the result is 0. All in float32.

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
            f"percentiles are {lower} and {upper}: give 0 <= lower < upper <= 100, as 0.1 and 99.9"
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
    """Return the axis of a canonical volume along which slices of this plane are stacked."""
    if plane not in PLANES:
        raise ValueError(f"plane is {plane!r}: choose one of {', '.join(PLANES)}")
    return PLANES[plane]


def slice_axis(shape, plane: str) -> int:
    """The axis that slices are numbered along; for a single slice, the one of one voxel."""
    axis = plane_axis(plane)
    single = [dim for dim, size in enumerate(shape) if size == 1]
    return single[0] if len(single) == 1 else axis


def _grid_of(image, shape, name):
    """Where one frame of an opened image lies, after a check of its affine."""
    affine = checked_affine(image.affine, name)
    return Grid(shape, affine, _geometry(image, affine), _itk_affine(image, affine))


def _geometry(image, affine):
    """Return a NIfTI header with the sform, qform, voxel size and spatial unit of the image."""
    header = nibabel.Nifti1Header()
    if isinstance(image.header, nibabel.Nifti1Header):
        for name in SFORM + QFORM:
            header[name] = image.header[name]
        header["pixdim"][:4] = image.header["pixdim"][:4]
        header["xyzt_units"] = image.header["xyzt_units"] % 8  # the rest is the unit of time
    else:
        header.set_data_shape(_three_axes(image.shape))
        header.set_sform(affine, code="scanner")
        header.set_qform(affine, code="scanner")
        header.set_xyzt_units("mm")
    return header


def _itk_affine(image, affine):
    """Where ITK (5.4, ``NiftiImageIO``) sees the image: see ``Grid.itk_affine``."""
    header = image.header
    if not isinstance(header, nibabel.Nifti1Header):
        return affine
    sform, qform = int(header["sform_code"]), int(header["qform_code"])
    sizes = np.array(header["pixdim"][1:4], np.float64)
    sizes = np.where(sizes > 0, sizes, 1.0)
    if sform == qform == 0:
        return np.diag([*sizes * RAS_TO_LPS, 1.0])
    axes = affine[:3, :3] / voxel_sizes(affine)
    sheared = not np.allclose(axes.T @ axes, np.eye(3), atol=1e-4)
    if qform > 0 and (sform != SCANNER or sheared):
        return np.array(header.get_qform(), np.float64)
    # ITK takes the voxel size from pixdim, whatever the length of the sform's axes.
    if np.allclose(voxel_sizes(affine), sizes, rtol=1e-4):
        return affine
    return from_matvec(axes * sizes, affine[:3, 3])


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

    # The outermost voxel centres of one grid lie up to 0.75 voxels outside those of the other,
    # where nilearn fills in 0: bright beside the air of a CT, and a dark ring on features.
    padding = [(1, 1)] * 3 + [(0, 0)] * (array.ndim - 3)
    padded = np.pad(array, padding, mode="edge")
    image = nibabel.Nifti1Image(padded, affine @ from_matvec(np.eye(3), [-1, -1, -1]))
    with warnings.catch_warnings():
        # A displacement within slices is 0 across them; that does not make it a mask.
        warnings.filterwarnings("ignore", message="Resampling binary images")
        resampled = resample_img(
            image,
            target_affine=target_affine,
            target_shape=target_shape,
            interpolation=interpolation,
            force_resample=True,
            copy_header=True,
        )
    return np.asarray(resampled.dataobj).astype(array.dtype, copy=False)
