"""Register image files, each on its own grid, and write what other programs read."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import nibabel
import numpy as np
from nibabel.affines import apply_affine, voxel_sizes

from cifl_tf.features.inference import fit_voxel_size
from cifl_tf.figures.panels import central_slice, save_figure
from cifl_tf.figures.registration import RegisteredSlice, registration_figure
from cifl_tf.images.atomic import expanded
from cifl_tf.images.grid import Grid, grid_of, sampling_steps, smooth_before_sampling
from cifl_tf.images.nifti import open_image
from cifl_tf.images.volumes import (
    MOST_ANISOTROPIC,
    PLANES,
    read_label_volume,
    read_volume,
    save_image,
    slice_axis,
    to_original,
)
from cifl_tf.images.warps import itk_field
from cifl_tf.metrics import jacobian_determinant
from cifl_tf.registration.displacements import warp
from cifl_tf.registration.methods import InstanceMethod, NetworkMethod, register_volumes

FIGURE_FILE = "registration.png"
IMAGES = ("warped", "warp", "inverse_warp", "jacobian", "labels")
LABELS_FILE = "labels.nii.gz"
REGISTRATION_FILES = (*(f"{name}.nii.gz" for name in IMAGES), FIGURE_FILE)
# Of a volume whose warp is optimized: a head at 2 mm. 1.1 million voxels took 3.9 GB of memory.
MOST_VOXELS = 1_500_000
# Where the slices of a picture lie in one plane: shares of the fixed image's intensity before them.
SHARES = (0.3, 0.5, 0.7)


@dataclass(frozen=True, eq=False)
class Registration:
    """The warp between two image files, and what it makes of the moving one.

    Attributes:
        warped: the moving image on the fixed one's own grid, interpolated once, linearly; 0 beyond
            the moving image, as in ITK.
        warp: displacement field of ITK on the fixed image's own grid, see ``itk_field``. It holds
            in mm, and so for the moving file itself; where sform and qform of a file differ, in
            the space where ITK sees it.
        inverse_warp: the field that undoes it, on the moving image's own grid, for the fixed file.
        jacobian: determinant of the warp on the fixed image's own grid; at most 0 where it folds.
        labels: the warped labels on the fixed image's own grid, nearest, values and type as they
            were; None where none were given.
        folded: share of the fixed image's voxels where the warp folds, in [0, 1].
        inverse_residual: mm by which a point is missed that goes through the inverse and then the
            warp, at the worst point that both keep inside the image. Large where the warp folds,
            as it has no inverse there.
        views: slices for ``registration_figure`` by name.
    """

    warped: nibabel.Nifti1Image
    warp: nibabel.Nifti1Image
    inverse_warp: nibabel.Nifti1Image
    jacobian: nibabel.Nifti1Image
    labels: nibabel.Nifti1Image | None
    folded: float
    inverse_residual: float
    views: Mapping[str, RegisteredSlice]


def register_images(
    moving,
    fixed,
    method: NetworkMethod | InstanceMethod,
    labels=None,
    voxel_size=None,
    moving_volume_index: int | None = None,
    fixed_volume_index: int | None = None,
    moving_window: tuple[float, float] | None = None,
    fixed_window: tuple[float, float] | None = None,
) -> Registration:
    """Register two NIfTI or MGZ files, or nibabel images, that lie in about the same place.

    Both are scaled to [0, 1] as the method was trained with, the fixed image is resampled to the
    voxel size of the method, and the moving image is sampled on its grid, by the affines of both.
    Where it becomes coarser, it is smoothed first. Nothing is aligned before that.

    Args:
        moving: the image to warp.
        fixed: the image it is warped to.
        method: by which network, or by optimization.
        labels: label map of the moving image; its grid may be another.
        voxel_size: in mm: resample the fixed image to it before. None for the voxel size of the
            training, and, where a volume is optimized, for ``optimization_voxel_size``. The warp is
            brought back to the fixed image's own grid.
        moving_volume_index: for a 4D moving image, which of them.
        fixed_volume_index: the same for the fixed image.
        moving_window: see ``features_of``.
        fixed_window: the same for the fixed image.

    Raises:
        ValueError: an image cannot be used, they do not overlap, or do not fit the method.
        FileNotFoundError: there is no such file.
    """
    if voxel_size is None and isinstance(method, InstanceMethod) and method.ndim == 3:
        voxel_size = optimization_voxel_size(fixed)
    moving_volume, fixed_volume = (
        read_volume(moving, moving_volume_index),
        read_volume(fixed, fixed_volume_index),
    )
    preprocessing, across = method.preprocessing, None
    if method.ndim == 2:
        across = slice_axis(fixed_volume.data.shape, preprocessing.plane or "coronal")
    fixed_volume = fit_voxel_size(fixed_volume, preprocessing, across, voxel_size)
    label_map = None if labels is None else _label_map(labels)
    affine, grid = fixed_volume.affine, fixed_volume.original
    pair = (
        _sampled(
            preprocessing.with_choices(window=moving_window).scaling(moving_volume.data),
            moving_volume.affine,
            affine,
            np.broadcast_to(0.0, (*fixed_volume.data.shape, 3)),
        ),
        preprocessing.with_choices(window=fixed_window).scaling(fixed_volume.data),
    )
    if np.ptp(pair[0]) == 0:
        raise ValueError(
            "the moving image shows nothing where the fixed image lies; align them first, for "
            "example by an affine registration, or correct the affines in their headers"
        )
    forward, inverse = register_volumes(*pair, method)
    residual = inversion_residual(forward, inverse, affine)
    to_moving = _on_own_grid(forward @ affine[:3, :3].T, fixed_volume)
    to_fixed = _sampled(
        inverse @ affine[:3, :3].T,
        affine,
        moving_volume.affine,
        np.broadcast_to(0.0, (*moving_volume.data.shape, 3)),
        beyond=None,
    )
    determinants = _determinants(_in_voxels(to_moving, grid.affine)).astype(np.float32)
    warped = _sampled(moving_volume.data, moving_volume.affine, grid.affine, to_moving)
    warped_labels = None
    if label_map is not None:
        volume, dtype = label_map
        values = _sampled(volume.data, volume.affine, grid.affine, to_moving, "nearest")
        warped_labels = grid.image(values.astype(exact_type(values, dtype)).reshape(grid.shape))
    return Registration(
        warped=grid.image(warped.reshape(grid.shape)),
        warp=_field(to_moving, grid, moving_volume.original),
        inverse_warp=_field(_on_own_grid(to_fixed, moving_volume), moving_volume.original, grid),
        jacobian=grid.image(determinants.reshape(grid.shape)),
        labels=warped_labels,
        folded=float(np.mean(determinants <= 0)),
        inverse_residual=residual,
        views=_views(*pair, forward, affine, method),
    )


def default_ndim(image) -> int:
    """3 for a file that holds a volume, 2 for one that holds a slice or two."""
    image, _ = open_image(image)
    return 3 if len(image.shape) > 2 and min(image.shape[:3]) > 2 else 2


def optimization_voxel_size(image) -> float | None:
    """Voxel size in mm at which to optimize the warp to a volume; None for its own.

    Another than its own where it has more than ``MOST_VOXELS``, or thick slices: as features see
    equally far in voxels along every axis, those should be of one size.

    Args:
        image: NIfTI or MGZ file, or nibabel image.

    Raises:
        ValueError: the image cannot be used.
        FileNotFoundError: there is no such file.
    """
    image, name = open_image(image)
    shape = image.shape[:3]
    sizes = voxel_sizes(grid_of(image, shape, name).affine)[: len(shape)]
    if math.prod(shape) <= MOST_VOXELS and sizes.max() <= MOST_ANISOTROPIC * sizes.min():
        return None
    affordable = (np.multiply(shape, sizes).prod() / MOST_VOXELS) ** (1 / 3)
    return float(f"{max(affordable, sizes.min()):.2g}")


def save_registration(found: Registration, out, overwrite: bool = False) -> None:
    """Write the images of a registration and a picture of it to a folder, each whole or not at all.

    ``warped.nii.gz``, ``warp.nii.gz``, ``inverse_warp.nii.gz``, ``jacobian.nii.gz``, where there
    are labels ``labels.nii.gz``, and ``registration.png``.

    Args:
        found: of ``register_images``.
        out: the folder.
        overwrite: replace files of these names, and remove labels that another warp wrote.

    Raises:
        ValueError: a file of these names is there, and is not to be overwritten.
    """
    out = expanded(out)
    there = [name for name in REGISTRATION_FILES if (out / name).exists()]
    if there and not overwrite:
        raise ValueError(
            f"{out} holds {', '.join(there)}; give another folder, or pass overwrite=True"
        )
    for name in IMAGES:
        image, file = getattr(found, name), out / f"{name}.nii.gz"
        if image is None:
            file.unlink(missing_ok=True)
        else:
            save_image(image, file)
    save_figure(registration_figure(found.views), out / FIGURE_FILE, dpi=200)


def _sampled(values, affine, grid_affine, vectors, order="linear", beyond: float | None = 0.0):
    """Values at the points of another grid, moved by vectors (*shape, 3) in mm.

    As in ITK an image ends half a voxel beyond the center of its last voxel, and is ``beyond`` from
    there on; None continues its edge.
    """
    if order == "linear":
        values = smooth_before_sampling(values, sampling_steps(affine, grid_affine))
    voxels = np.moveaxis(np.indices(vectors.shape[:3]), 0, -1)
    world = apply_affine(grid_affine, voxels) + vectors
    positions = apply_affine(np.linalg.inv(affine), world)
    sampled = warp(values, positions - voxels, order)
    if beyond is not None:
        last = np.array(values.shape[:3]) - 0.5
        sampled[((positions < -0.5) | (positions > last)).any(axis=-1)] = beyond
    return sampled


def _on_own_grid(vectors, volume):
    """Vectors in mm, of the grid of a volume, on the grid of the file it was read from."""
    return np.asarray(to_original(vectors, volume).dataobj)


def _in_voxels(vectors, affine):
    return vectors @ np.linalg.inv(affine[:3, :3]).T


def _field(vectors, grid: Grid, other: Grid):
    """ITK's field of vectors (*shape, 3) in mm, from the points of a grid to those of another."""
    voxels = np.moveaxis(np.indices(vectors.shape[:3]), 0, -1)
    points = apply_affine(grid.affine, voxels) + vectors
    displacement = apply_affine(np.linalg.inv(other.affine), points) - voxels
    return itk_field(displacement, grid.itk_affine, other.itk_affine)


def exact_type(values, preferred) -> np.dtype:
    """The type in which a file holds whole numbers as they are.

    Args:
        values: integers.
        preferred: taken where it is an integer type of up to 32 bits that holds them all.
    """
    preferred = np.dtype(preferred)
    if preferred.kind in "iu" and preferred.itemsize <= 4:
        limits = np.iinfo(preferred)
        if limits.min <= values.min() and values.max() <= limits.max:
            return preferred
    return np.dtype(np.int32)


def inversion_residual(displacement, inverse, affine) -> float:
    """How far the inverse of a displacement, and then the displacement, miss a point, in mm.

    Args:
        displacement: (x, y, z, 3) in voxels.
        inverse: the same, on the same grid.
        affine: (4, 4), voxels to mm.

    Returns:
        The largest distance over the points that the inverse keeps inside the grid.
    """
    missed = inverse + warp(displacement, inverse)
    reached = np.moveaxis(np.indices(inverse.shape[:3]), 0, -1) + inverse
    inside = ((reached >= 0) & (reached <= np.array(inverse.shape[:3]) - 1)).all(axis=-1)
    distances = np.linalg.norm(missed @ affine[:3, :3].T, axis=-1)
    return float(distances[inside].max(initial=0.0))


def _label_map(labels):
    """A label map and the type its voxels are stored in."""
    image, _ = open_image(labels)
    return read_label_volume(image), image.get_data_dtype()


def _determinants(displacement):
    """Jacobian determinants (x, y, z); axes of one voxel are left out."""
    wide = [axis for axis in range(3) if displacement.shape[axis] > 1]
    flat = displacement[..., wide].squeeze(tuple({0, 1, 2} - set(wide)))
    return jacobian_determinant(flat).reshape(displacement.shape[:3])


def _views(moving, fixed, displacement, affine, method):
    """Slices to show: the middle ones of all planes, or several of the plane of the method."""
    if method.ndim == 3:
        places = [(axis, 0.5) for axis in range(3)]
    else:
        axis = slice_axis(fixed.shape, method.preprocessing.plane or "coronal")
        places = [(axis, share) for share in SHARES]
    warped = warp(moving, displacement, outside=0.0)
    views = {}
    for axis, share in places:
        index = central_slice(fixed, axis, share)
        width, height = np.delete(voxel_sizes(affine), axis).tolist()
        views[f"{list(PLANES)[axis]} {index}"] = RegisteredSlice(
            fixed.take(index, axis),
            moving.take(index, axis),
            warped.take(index, axis),
            np.delete(displacement.take(index, axis), axis, axis=-1),
            (width, height),
        )
    return views
