"""Where an image lies: its header in mm, canonical orientation, and resampling to another grid."""

import math
from dataclasses import dataclass, field

import nibabel
import numpy as np
from nibabel.affines import apply_affine, from_matvec, voxel_sizes
from nibabel.orientations import (
    apply_orientation,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from scipy.ndimage import affine_transform, gaussian_filter

from cifl_tf.images.memory import available_memory, size_text
from cifl_tf.images.nifti import checked_affine

RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])
CANONICAL = ((0, 1), (1, 1), (2, 1))
SCANNER = 1  # the code of an sform or qform of the scanner's axes
SFORM = ("sform_code", "srow_x", "srow_y", "srow_z")
QUATERNION = ("quatern_b", "quatern_c", "quatern_d")
QFORM = ("qform_code", *QUATERNION, "qoffset_x", "qoffset_y", "qoffset_z")
SPLINE_ORDERS = {"continuous": 3, "linear": 1, "nearest": 0}
BYTES_PER_VOXEL = 12  # that resampling takes: the image, its splines in float64
LARGEST_SIZE = 100  # of a voxel, in lengths of the image: the blur before takes as long
LEAST_VARIANCE = 0.01  # of a blur that is worth its time, in voxels
MM_PER_UNIT = {1: 1e3, 2: 1.0, 3: 1e-3}  # codes of NIfTI for meters, millimeters, micrometers


@dataclass(frozen=True, eq=False)
class Grid:
    """Where an input image lies.

    Attributes:
        shape: of one frame.
        affine: (4, 4), voxels to mm, by the affine that nibabel reads and the unit of the header.
        header: with the geometry only; the rest, such as the display range, would be wrong on
            features. It keeps the unit of the input, so that results lie where the input lies in
            every program, also where that ignores units.
        stored_affine: (4, 4), voxels to the unit of the header.
        itk_affine: voxels to mm as ITK and ANTs read the header, in RAS as ``affine``. Both differ
            where the header's sform and qform do, or where it has neither.
    """

    shape: tuple[int, ...]
    affine: np.ndarray
    header: nibabel.Nifti1Header = field(repr=False)
    stored_affine: np.ndarray = field(repr=False)
    itk_affine: np.ndarray

    @property
    def voxel_volume(self) -> float:
        """In mm³: not the product of the voxel sizes, as the axes of a sheared grid are oblique."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def points(self) -> np.ndarray:
        """The voxels' centers in mm, (x, y, z, 3)."""
        voxels = np.moveaxis(np.indices(three_axes(self.shape)), 0, -1)
        return apply_affine(self.affine, voxels)

    def image(self, array) -> nibabel.Nifti1Image:
        """A NIfTI image on this grid; the file holds the values of the array as they are.

        Args:
            array: (*shape) or (*shape, channels), of a type that NIfTI has.
        """
        array = np.asarray(array)
        header = self.header.copy()
        header.set_data_dtype(array.dtype)
        return nibabel.Nifti1Image(array, self.stored_affine, header)


def grid_of(image, shape, name) -> Grid:
    """Where one frame of an opened image lies.

    Args:
        image: nibabel image.
        shape: of the frame.
        name: of the image, for errors.

    Raises:
        ValueError: the affine of the image maps no volume to mm.
    """
    affine = checked_affine(image.affine, name)
    in_mm = np.diag([*[_mm_per_unit(image.header)] * 3, 1.0])
    itk_affine = in_mm @ _itk_affine(image, affine)
    return Grid(shape, in_mm @ affine, _geometry(image, affine), affine, itk_affine)


def grid_at(affine, shape) -> Grid:
    """A grid that no file has.

    Args:
        affine: (4, 4), voxels to mm.
        shape: two or three sizes.
    """
    image = nibabel.Nifti1Image(np.broadcast_to(np.uint8(0), shape), affine)
    image.set_sform(affine, code="scanner", update_affine=False)  # which would round the affine
    image.header.set_xyzt_units("mm")
    return grid_of(image, tuple(shape), "the grid")


def _mm_per_unit(header):
    """Millimeters of the spatial unit of a header; an unknown one counts as mm, as in ITK."""
    if not isinstance(header, nibabel.Nifti1Header):
        return 1.0
    return MM_PER_UNIT.get(int(header["xyzt_units"]) % 8, 1.0)


def _geometry(image, affine):
    """Return a NIfTI header with the sform, qform, voxel size and spatial unit of the image."""
    header = nibabel.Nifti1Header()
    if isinstance(image.header, nibabel.Nifti1Header):
        for name in SFORM + QFORM:
            header[name] = image.header[name]
        header["pixdim"][:4] = image.header["pixdim"][:4]
        header["xyzt_units"] = image.header["xyzt_units"] % 8  # the rest is the unit of time
    else:
        header.set_data_shape(three_axes(image.shape))
        header.set_sform(affine, code="scanner")
        header.set_qform(affine, code="scanner")
        header.set_xyzt_units("mm")
    return header


def _itk_affine(image, affine):
    """Where ITK (5.4, ``NiftiImageIO``) sees the image, in the unit of its header."""
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
        return _qform(header, affine)
    # ITK takes the voxel size from pixdim, whatever the length of the sform's axes.
    if np.allclose(voxel_sizes(affine), sizes, rtol=1e-4):
        return affine
    return from_matvec(axes * sizes, affine[:3, 3])


def _qform(header, affine):
    """The affine of a quaternion, whose length is 1 at most, as in ITK; else that of nibabel."""
    vector = np.array([header[name] for name in QUATERNION], np.float64)
    length = np.linalg.norm(vector)
    if length > 1:
        header = header.copy()
        for name, value in zip(QUATERNION, vector / length, strict=True):
            header[name] = value
    found = np.array(header.get_qform(), np.float64) if np.isfinite(length) else affine
    return found if np.isfinite(found).all() else affine


def three_axes(shape) -> tuple[int, int, int]:
    """A shape of two or three sizes as three."""
    return (*shape, 1)[:3]


def canonical(grid: Grid):
    """Return the orientation of the grid, and the shape and affine it has when canonical."""
    shape = three_axes(grid.shape)
    orientation = io_orientation(grid.affine)
    canonical_shape = np.empty(3, int)
    canonical_shape[orientation[:, 0].astype(int)] = shape
    affine = grid.affine @ inv_ornt_aff(orientation, shape)
    return orientation, tuple(canonical_shape.tolist()), affine


def resized(affine, shape, voxel_size) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Return affine and shape of the same field of view in voxels of another size.

    Args:
        affine: (4, 4), voxels to mm.
        shape: three sizes.
        voxel_size: in mm, one number or three, of which None keeps that of the axis.

    Raises:
        ValueError: ``voxel_size`` is none of these, makes more voxels than memory holds, or is far
            larger than the whole image.
    """
    try:
        wanted = np.broadcast_to(np.array(voxel_size, np.float64), 3)
        given = np.broadcast_to(np.array(voxel_size, object), 3)
    except (TypeError, ValueError):
        wanted, given = np.zeros(3), np.zeros(3)
    kept = np.array([size is None for size in given])  # NaN in wanted
    if not (kept | (np.isfinite(wanted) & (wanted > 0))).all():
        raise ValueError(f"voxel_size is {voxel_size!r}: give one or three positive numbers, in mm")
    old = np.array(shape)
    extent = (old * voxel_sizes(affine)).max()
    if (wanted > LARGEST_SIZE * extent).any():  # NaN is not
        raise ValueError(
            f"voxel_size is {voxel_size!r}, but the image is {extent:.3g} mm long at most: give a "
            "smaller one, in mm"
        )
    factor = np.where(kept | (old == 1), 1.0, wanted / voxel_sizes(affine))
    new = np.maximum(1, np.rint(old / factor)).astype(int)
    matrix = affine[:3, :3] * factor
    origin = apply_affine(affine, (old - 1) / 2) - matrix @ ((new - 1) / 2)
    needed, available = BYTES_PER_VOXEL * math.prod(new.tolist()), available_memory()
    if available is not None and needed > available:
        raise ValueError(
            f"voxel_size is {voxel_size!r}, which makes {' x '.join(map(str, new))} voxels of the "
            f"image and needs {size_text(needed)}, but {size_text(available)} of memory are "
            "available: give a larger one, in mm"
        )
    return from_matvec(matrix, origin), tuple(new.tolist())


def smooth_before_sampling(array: np.ndarray, steps) -> np.ndarray:
    """Blur an array before it is sampled at every so many voxels, against aliasing.

    A Gaussian whose full width at half maximum makes a voxel as wide as the steps (Cardoso et al.,
    Scale factor point spread function matching, MICCAI 2015).

    Args:
        array: (x, y, z) or (x, y, z, channels).
        steps: distance of the samples along each of the three axes, in voxels of the array; axes
            with steps of up to one voxel stay as they are.

    Returns:
        The array, or a blurred one of the same type; float32 for integers.
    """
    variance = (np.maximum(steps, 1.0) ** 2 - 1) / (8 * np.log(2))
    if variance.max() < LEAST_VARIANCE:
        return array
    if array.dtype.kind != "f":
        array = array.astype(np.float32)
    sigma = [*np.sqrt(variance), *[0.0] * (array.ndim - 3)]
    return gaussian_filter(array, sigma, mode="nearest")


def sampling_steps(affine, grid_affine) -> np.ndarray:
    """Distance of the points of a grid in voxels of an image, along each axis of the image, (3,).

    Args:
        affine: (4, 4) of the image.
        grid_affine: (4, 4) of the grid.
    """
    return np.linalg.norm(np.linalg.solve(affine[:3, :3], grid_affine[:3, :3]), axis=1)


def resample(array, affine, target_affine, target_shape, interpolation, outside=None):
    """Resample an array to another grid; what becomes coarser is smoothed first.

    Args:
        array: (x, y, z) or (x, y, z, channels).
        affine: (4, 4), voxels of the array to mm.
        target_affine: the same of the other grid.
        target_shape: three sizes of the other grid.
        interpolation: "continuous" (cubic), "linear", or "nearest" for labels, not smoothed.
        outside: value beyond the array; None continues its edge.

    Returns:
        Of the type of the array, (*target_shape) or (*target_shape, channels).
    """
    if array.shape[:3] == tuple(target_shape) and np.allclose(affine, target_affine):
        return array
    dtype = array.dtype
    if interpolation != "nearest":
        array = smooth_before_sampling(array, sampling_steps(affine, target_affine))
    mapping = np.linalg.solve(affine, target_affine)
    matrix = mapping[:3, :3]
    resampled = np.empty((*target_shape, *array.shape[3:]), dtype)
    for channel in np.ndindex(array.shape[3:]):
        chosen = (slice(None), slice(None), slice(None), *channel)
        resampled[chosen] = affine_transform(
            array[chosen],
            # A diagonal is faster as a vector.
            np.diag(matrix) if np.allclose(matrix, np.diag(np.diag(matrix))) else matrix,
            mapping[:3, 3],
            tuple(target_shape),
            order=SPLINE_ORDERS[interpolation],
            mode="nearest" if outside is None else "constant",
            cval=outside or 0.0,
        )
    return resampled


def bring_onto(grid: Grid, array, affine, interpolation):
    """Resample an array to the grid of an image.

    Args:
        grid: in any orientation.
        array, affine, interpolation: see ``resample``.

    Returns:
        Of the type of the array, (x, y, z) of the grid, and channels.
    """
    orientation, shape, canonical_affine = canonical(grid)
    array = resample(array, affine, canonical_affine, shape, interpolation)
    return apply_orientation(array, ornt_transform(CANONICAL, orientation))
