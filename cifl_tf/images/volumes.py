"""Medical images in and out: NIfTI and MGH files, orientation, voxel size, intensity scaling.

Inside the package a volume lies in canonical orientation (axes towards right, anterior, superior),
perhaps resampled. ``to_original`` brings what was computed on it back to the input's own grid.
"""

from dataclasses import dataclass, field

import nibabel
import numpy as np
from nibabel.affines import apply_affine, from_matvec, voxel_sizes
from nibabel.orientations import apply_orientation

from cifl_tf._former_names import accepts_former
from cifl_tf.images.atomic import atomic_path
from cifl_tf.images.file_names import WRITABLE, checked_suffix
from cifl_tf.images.grid import Grid, bring_onto, canonical, grid_of, resample, resized, three_axes
from cifl_tf.images.intensity import find_background
from cifl_tf.images.nifti import check_values, one_frame, open_image
from cifl_tf.images.planes import PLANES

MOST_ANISOTROPIC = 1.5  # longest over shortest side of a voxel that is not of a thick slice
LABEL_NOISE = 1e-3  # from a whole number; more is no rounding error
ORDERS = ("continuous", "linear", "nearest")


@dataclass(frozen=True, eq=False)
class Volume:
    """One 3D image in canonical (RAS+) orientation, and the grid it came from.

    Attributes:
        data: float32 array (x, y, z), finite, not constant; int32 of a label map, perhaps constant.
        affine: (4, 4), voxels of ``data`` to mm.
        original: the input's own grid, for ``to_original``.

    Example:
        >>> import cifl_tf as cifl, nibabel, numpy as np
        >>> image = nibabel.Nifti1Image(np.random.rand(24, 20, 18), np.diag([-2, 2, 2, 1]))
        >>> volume = cifl.read_volume(image)
        >>> nibabel.aff2axcodes(volume.affine), nibabel.aff2axcodes(volume.original.affine)
        (('R', 'A', 'S'), ('L', 'A', 'S'))
    """

    data: np.ndarray = field(repr=False)
    affine: np.ndarray
    original: Grid


def read_grid(image) -> Grid:
    """The grid of an image, of a 4D one that of each of its volumes.

    Args:
        image: NIfTI or MGZ file, or nibabel image.

    Raises:
        ValueError, FileNotFoundError: as ``read_volume``, but for its voxels.
    """
    opened, name = open_image(image)
    return grid_of(opened, opened.shape[:3], name)


@accepts_former()
def read_volume(path, volume_index: int | None = None, voxel_size=None) -> Volume:
    """Read one 3D image, turn it to canonical orientation, and resample it if asked.

    Args:
        path: a .nii, .nii.gz, .mgh or .mgz file, or a nibabel image in memory. A 2D image counts
            as one slice.
        volume_index: which 3D image of a 4D one, counted from 0; may be left out if there is only
            one.
        voxel_size: in mm, one number or three in canonical order (right, anterior, superior).
            None among three keeps the size of that axis, as does an axis with a single voxel. Cubic
            interpolation over the same field of view; what becomes coarser is smoothed first. Air
            of one value, as after a skull strip, is of one value again.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the image cannot be used (not an image, damaged, empty, constant, not finite,
            not numeric, without a valid affine), or ``volume_index`` or ``voxel_size`` does not
            fit it.

    Example:
        >>> import cifl_tf as cifl, nibabel, numpy as np
        >>> image = nibabel.Nifti1Image(np.random.rand(24, 20, 18), np.eye(4))
        >>> nibabel.save(image, "scan.nii.gz")
        >>> cifl.read_volume("scan.nii.gz", voxel_size=2).data.shape
        (12, 10, 9)
    """
    image, name = open_image(path)
    data = one_frame(image, volume_index, name)
    check_values(data, name)
    volume = canonical_volume(data, image, name, np.float32)
    return volume if voxel_size is None else resample_volume(volume, voxel_size)


def resample_volume(volume: Volume, voxel_size) -> Volume:
    """Resample an image that was read; see ``read_volume``.

    Raises:
        ValueError: ``voxel_size`` is not one or three positive numbers.
    """
    affine, shape = resized(volume.affine, volume.data.shape, voxel_size)
    data = _resampled_image(volume.data, volume.affine, affine, shape)
    return Volume(np.ascontiguousarray(data, np.float32), affine, volume.original)


def resample_labels(volume: Volume, voxel_size) -> Volume:
    """Resample a label map that was read: each voxel gets the label with the largest share of it.

    Raises:
        ValueError: ``voxel_size`` is not one or three positive numbers.
    """
    affine, shape = resized(volume.affine, volume.data.shape, voxel_size)
    labels, largest = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    for value in np.unique(volume.data).tolist():
        inside = (volume.data == value).astype(np.float32)
        share = resample(inside, volume.affine, affine, shape, "linear")
        labels[share > largest] = value
        np.maximum(largest, share, out=largest)
    return Volume(labels, affine, volume.original)


def fit_shape(volume: Volume, shape) -> Volume:
    """Cut or pad a volume about its middle.

    Args:
        volume: an image, padded with its air, or else its lowest intensity; or a label map, with 0.
        shape: three sizes in voxels.
    """
    data, outside = volume.data, 0.0
    if data.dtype.kind == "f":
        background = find_background(data)
        outside = float(data.min()) if background is None else background.value
    first = (np.array(data.shape) - shape) // 2
    cut = tuple(
        slice(max(0, start), start + size) for start, size in zip(first, shape, strict=True)
    )
    data = data[cut]
    before = np.maximum(0, -first)
    after = np.array(shape) - data.shape - before
    data = np.pad(data, list(zip(before, after, strict=True)), constant_values=outside)
    affine = from_matvec(volume.affine[:3, :3], apply_affine(volume.affine, first))
    return Volume(data, affine, volume.original)


def _resampled_image(data, affine, target_affine, target_shape):
    """Intensities on another grid, no wider than before, and with the same air."""
    grids = affine, target_affine, target_shape
    resampled = np.clip(resample(data, *grids, "continuous"), data.min(), data.max())
    background = find_background(data)
    if background is not None and background.constant:
        share = resample(background.mask(data).astype(np.float32), *grids, "linear")
        resampled[share > 0.5] = background.value
    return resampled


def read_labels(path) -> np.ndarray:
    """Read a label map as int32 (x, y, z) in canonical orientation; see ``read_label_volume``."""
    return read_label_volume(path).data


def read_label_volume(path, volume_index: int | None = None) -> Volume:
    """Read a label map with its grid.

    Args:
        path: a NIfTI or MGH file or pair of files, or a nibabel image in memory.
        volume_index: for a 4D image, which of them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no image, or holds other than whole numbers of 32 bits. Noise below
            ``LABEL_NOISE``, as scaling in a header leaves it, is rounded away.
    """
    image, name = open_image(path)
    data = one_frame(
        image, volume_index, name, np.float64
    )  # float32 has whole numbers up to 2**24 only
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
            f"to {data.max():.3g} off; resample segmentations by the nearest neighbor, save them "
            "as integers, and of probabilities give the most probable label"
        )
    return canonical_volume(labels, image, name, np.int32)


def canonical_volume(data, image, name, dtype) -> Volume:
    """Voxels of an opened image, in canonical orientation, with the grid of the image.

    Args:
        data: of one frame, (x, y) or (x, y, z).
        image, name, dtype: opened by nibabel; for errors; of the result.
    """
    original = grid_of(image, data.shape, name)
    orientation, _, affine = canonical(original)
    data = apply_orientation(data.reshape(three_axes(data.shape)), orientation)
    return Volume(np.ascontiguousarray(data, dtype), affine, original)


def to_original(array, volume: Volume, order: str = "continuous") -> nibabel.Nifti1Image:
    """Bring an array on the grid of ``volume`` back to the grid of the image it was read from.

    Args:
        array: (x, y, z) or (x, y, z, channels), on the grid of ``volume.data``.
        volume: what ``read_volume`` returned.
        order: "continuous" (cubic where the volume was resampled, float32), "linear" for
            probabilities, which stay in [0, 1] and keep their sum, or "nearest" for label maps,
            which keep their integer type.

    Returns:
        A NIfTI image with the input's shape, affine, spatial unit, and sform and qform codes.
    """
    array = np.asarray(array)
    if order not in ORDERS:
        raise ValueError(
            f"order is {order!r}: choose 'continuous', 'linear' for probabilities, or 'nearest' "
            "for label maps"
        )
    if array.ndim not in (3, 4) or array.shape[:3] != volume.data.shape:
        raise ValueError(
            f"the array has shape {array.shape}, but the volume has {volume.data.shape}: give an "
            "array with these axes, or these and one more for channels"
        )
    if order != "nearest" or array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
    elif array.dtype.kind == "b" or array.dtype.itemsize > 4:
        array = array.astype(np.int32)  # NIfTI has no bool, and few programs read 64-bit integers
    original = volume.original
    array = bring_onto(original, array, volume.affine, order)
    return original.image(array.reshape(original.shape) if array.ndim == 3 else array)


def write_features(path, features, volume: Volume) -> None:
    """Save features (x, y, z, channels) of ``volume`` as 4D float32 NIfTI on the input's own grid.

    Raises:
        ValueError: the features do not fit the volume, or ``path`` is not a NIfTI name.

    Example:
        >>> import cifl_tf as cifl, nibabel, numpy as np
        >>> scan = nibabel.Nifti1Image(np.random.rand(24, 20, 18), np.eye(4))
        >>> features = np.random.rand(24, 20, 18, 4)
        >>> cifl.write_features("features.nii.gz", features, cifl.read_volume(scan))
        >>> nibabel.load("features.nii.gz").shape
        (24, 20, 18, 4)
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
    with atomic_path(path) as temporary:
        nibabel.save(image, temporary)


def plane_axis(plane: str) -> int:
    """Return the axis of a canonical volume along which slices of this plane are stacked."""
    if plane not in PLANES:
        raise ValueError(f"plane is {plane!r}: choose one of {', '.join(PLANES)}")
    return PLANES[plane]


def natural_plane(affine, otherwise: str = "coronal") -> str:
    """Plane of the slices of a volume: of thick slices theirs.

    Args:
        affine: (4, 4), voxels to mm, canonical axes.
        otherwise: the plane where no slices are thick.
    """
    sizes = voxel_sizes(affine)
    thick = sizes.max() > MOST_ANISOTROPIC * sizes.min()
    return [*PLANES][int(sizes.argmax())] if thick else otherwise


def slice_axis(shape, plane: str) -> int:
    """The axis that slices are numbered along; for a single slice, the one of one voxel."""
    axis = plane_axis(plane)
    single = [dim for dim, size in enumerate(shape) if size == 1]
    return single[0] if len(single) == 1 else axis
