"""Register image files, each on its own grid, and write what other programs read."""

import math
from dataclasses import replace

import numpy as np
from nibabel.affines import voxel_sizes

from cifl_tf._former_names import accepts_former
from cifl_tf.features.inference import fit_voxel_size
from cifl_tf.figures.panels import central_slice
from cifl_tf.figures.planes import SIDES, pixel_size
from cifl_tf.figures.registration import RegisteredSlice
from cifl_tf.images.grid import grid_at
from cifl_tf.images.intensity import air_mask
from cifl_tf.images.nifti import open_image
from cifl_tf.images.volumes import (
    MOST_ANISOTROPIC,
    PLANES,
    Volume,
    read_grid,
    read_volume,
    slice_axis,
)
from cifl_tf.registration.affine import Affine
from cifl_tf.registration.companions import labels_of
from cifl_tf.registration.config import MOST_VOXELS
from cifl_tf.registration.displacement_field import Displacement
from cifl_tf.registration.displacements import warp
from cifl_tf.registration.methods import (
    DeformableMethod,
    InstanceMethod,
    Method,
    NoDeformation,
    register_volumes,
)
from cifl_tf.registration.result import RegistrationResult as RegistrationResult
from cifl_tf.registration.result import save_registration as save_registration

# Where the slices of a picture lie in one plane: shares of the fixed image's intensity before them.
SHARES = (0.3, 0.5, 0.7)


@accepts_former()
def register_images(
    moving,
    fixed,
    method: Method,
    labels=None,
    voxel_size=None,
    moving_volume_index: int | None = None,
    fixed_volume_index: int | None = None,
    moving_window: tuple[float, float] | None = None,
    fixed_window: tuple[float, float] | None = None,
    affine: Affine | None = None,
) -> RegistrationResult:
    """Register two NIfTI or MGZ files, or nibabel images, that lie in about the same place.

    Both are scaled to [0, 1] as the method was trained with, the fixed image is resampled to the
    voxel size of the method, and the moving image is sampled on its grid, by the affines of both.
    Where it becomes coarser, it is smoothed first. Nothing is aligned before that but by
    ``affine``; ``register`` finds one.

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
        affine: fixed to moving, by which the moving image is brought close first; part of the
            warp.

    Raises:
        ValueError: an image cannot be used, they do not overlap, or do not fit the method.
        FileNotFoundError: there is no such file.

    Example:
        >>> import cifl_tf as cifl, nibabel, numpy as np
        >>> brain = cifl.mni152_slice()[0][::5, ::5, None]
        >>> for name, slice_ in (("moving", brain), ("fixed", np.roll(brain, 1, axis=0))):
        ...     nibabel.save(nibabel.Nifti1Image(slice_, np.eye(4)), f"{name}.nii.gz")
        >>> settings = cifl.InstanceSettings(scales=(2,), steps=(10,))
        >>> method = cifl.InstanceMethod(None, ndim=2, settings=settings)
        >>> found = cifl.register_images("moving.nii.gz", "fixed.nii.gz", method)
        >>> found.warped.shape, found.folded
        ((40, 38, 1), 0.0)
    """
    volumes = read_volume(moving, moving_volume_index), read_volume(fixed, fixed_volume_index)
    return register_read(
        *volumes,
        method,
        labels_of(labels, *volumes),
        voxel_size,
        moving_window,
        fixed_window,
        affine,
    )


def register_read(
    moving_volume: Volume,
    fixed_volume: Volume,
    method: Method,
    label_volume: Volume | None = None,
    voxel_size=None,
    moving_window: tuple[float, float] | None = None,
    fixed_window: tuple[float, float] | None = None,
    affine: Affine | None = None,
    moving_mask=None,
    fixed_mask=None,
    channels: tuple | None = None,
    smoothness: float | None = None,
) -> RegistrationResult:
    """``register_images`` on images that were read, in their own voxel sizes.

    Masks, and channels (x, y, z, C) of both images, on any grid, and a smoothness in mm are for a
    ``DeformableMethod``.
    """
    untrained = isinstance(method, InstanceMethod | DeformableMethod | NoDeformation)
    if voxel_size is None and untrained and method.ndim == 3:
        voxel_size = _affordable_voxel_size(fixed_volume.original)
    preprocessing, across = method.preprocessing, None
    if method.ndim == 2:
        across = slice_axis(fixed_volume.data.shape, preprocessing.plane or "coronal")
    fixed_volume = fit_voxel_size(fixed_volume, preprocessing, across, voxel_size)
    grid = grid_at(fixed_volume.affine, fixed_volume.data.shape)
    scaled = replace(
        moving_volume,
        data=preprocessing.with_choices(window=moving_window).scaling(moving_volume.data),
    )
    before = np.asarray(Displacement.identity(grid).apply(scaled).dataobj)
    pair = (
        before if affine is None else np.asarray(affine.apply(scaled, grid).dataobj),
        preprocessing.with_choices(window=fixed_window).scaling(fixed_volume.data),
    )
    if np.ptp(pair[0]) == 0:
        raise ValueError(
            "the moving image shows nothing where the fixed image lies; align them first (the "
            "stage rigid or affine of `cifl register`), or correct the affines in their headers"
        )
    affine = affine or Affine.identity()
    if isinstance(method, DeformableMethod):
        method = replace(
            method,
            moving_mask=None if moving_mask is None else affine.apply_mask(moving_mask, grid),
            fixed_mask=None
            if fixed_mask is None
            else Affine.identity().apply_mask(fixed_mask, grid),
            smoothness=smoothness and smoothness / np.mean(voxel_sizes(grid.affine)),
            channels=channels
            and (
                affine.apply_channels(channels[0], grid),
                Affine.identity().apply_channels(channels[1], grid),
            ),
        )
    forward, backward = (
        Displacement.from_voxels(field, grid) for field in register_volumes(*pair, method)
    )
    displacement = affine.after(forward.on(fixed_volume.original))
    inverse = backward.after(affine.inverse(), moving_volume.original)
    jacobian = displacement.jacobian()
    shown = ~air_mask(pair[0]).reshape(backward.field.shape[:3])
    return RegistrationResult(
        warped=displacement.apply(moving_volume),
        warp=displacement.to_itk(moving_volume.original),
        inverse_warp=inverse.to_itk(fixed_volume.original),
        jacobian=jacobian,
        labels=None if label_volume is None else displacement.apply(label_volume, "nearest"),
        folded=float(np.mean(np.asarray(jacobian.dataobj) <= 0)),
        inverse_residual=forward.residual(backward, shown),
        views=_views(before, *pair, forward, method),
        displacement=displacement,
        inverse=inverse,
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
    return _affordable_voxel_size(read_grid(image))


def _affordable_voxel_size(grid):
    shape = grid.shape
    sizes = voxel_sizes(grid.affine)[: len(shape)]
    if math.prod(shape) <= MOST_VOXELS and sizes.max() <= MOST_ANISOTROPIC * sizes.min():
        return None
    affordable = (np.multiply(shape, sizes).prod() / MOST_VOXELS) ** (1 / 3)
    return float(f"{max(affordable, sizes.min()):.2g}")


def _views(before, moving, fixed, displacement, method):
    """Slices to show: the middle ones of all planes, or several of the plane of the method."""
    if method.ndim == 3:
        places = [(axis, 0.5) for axis in range(3)]
    else:
        axis = slice_axis(fixed.shape, method.preprocessing.plane or "coronal")
        places = [(axis, share) for share in SHARES]
    field = displacement.in_voxels()
    warped = warp(moving, field, outside=0.0)
    jacobian = np.reshape(displacement.jacobian().dataobj, field.shape[:3])
    views = {}
    for axis, share in places:
        index = central_slice(fixed, axis, share)
        views[f"{list(PLANES)[axis]} {index}"] = RegisteredSlice(
            fixed.take(index, axis),
            before.take(index, axis),
            warped.take(index, axis),
            np.delete(field.take(index, axis), axis, axis=-1),
            pixel_size(displacement.grid.affine, axis),
            jacobian.take(index, axis),
            SIDES[axis],
        )
    return views
