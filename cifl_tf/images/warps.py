"""Warps as the displacement fields that ANTs and ITK read directly.

ITK's ``DisplacementFieldTransform`` maps a point of the fixed image to one of the moving image by
adding a vector in mm. In NIfTI that is a 5-D image (x, y, z, 1, 3) of intent "vector" (1007) on the
fixed image's grid, with vectors in ITK's axes: left, posterior, superior (LPS). nibabel's affines
lead to RAS instead, so the first two components change sign.
"""

import nibabel
import numpy as np
from nibabel.affines import apply_affine

from cifl_tf.images.grid import RAS_TO_LPS, Grid
from cifl_tf.images.nifti import checked_affine, explained, open_image
from cifl_tf.images.volumes import save_image

VECTOR_INTENT = 1007


def itk_field(displacement, fixed_affine, moving_affine=None, axis: int = 2) -> nibabel.Nifti1Image:
    """A displacement of voxels as the 5-D NIfTI image that ANTs and ITK read.

    The vector at voxel x is ``A_moving (x + u(x)) - A_fixed x`` in mm, in LPS.

    Args:
        displacement: u, (x, y, z, 3) in voxels: fixed voxel x lies at moving voxel x + u. Or
            (x, y, 2) for single slices, which become one voxel thick.
        fixed_affine: (4, 4), voxels of the fixed image to mm in RAS, of the grid u is on.
        moving_affine: the same of the moving image; None where both share it.
        axis: for slices, the axis of the affine across the slice. ANTs reads the result as a volume
            (``-d 3``), and so does SimpleITK but for axis 2, whose field it takes as 2D.

    Raises:
        ValueError: the displacement or an affine has another shape, or is not finite.
    """
    field = _volume_field(displacement, axis)
    fixed_affine = checked_affine(fixed_affine, "the fixed image")
    moving_affine = (
        fixed_affine if moving_affine is None else checked_affine(moving_affine, "the moving image")
    )
    voxels = np.moveaxis(np.indices(field.shape[:3]), 0, -1)
    vectors = apply_affine(moving_affine, voxels + field) - apply_affine(fixed_affine, voxels)
    return vector_image(vectors, fixed_affine)


def vector_image(vectors, affine) -> nibabel.Nifti1Image:
    """Vectors in mm as the 5-D NIfTI image that ANTs and ITK read.

    Args:
        vectors: (x, y, z, 3), in RAS.
        affine: (4, 4), voxels to mm in RAS.
    """
    vectors = np.multiply(vectors, RAS_TO_LPS, dtype=np.float32, casting="same_kind")[..., None, :]
    image = nibabel.Nifti1Image(vectors, affine)
    image.header.set_intent(VECTOR_INTENT)
    # ITK prefers the qform unless the sform says "scanner"; a sheared affine has no qform.
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    image.header.set_xyzt_units("mm")
    return image


def into_itk(grid: Grid) -> np.ndarray:
    """The matrix (4, 4) from where nibabel sees a point of a file to where ITK does, in RAS.

    Args:
        grid: of the file; the identity where its sform and qform agree.
    """
    return grid.itk_affine @ np.linalg.inv(grid.affine)


def write_warp(path, displacement, fixed_affine, moving_affine=None, axis: int = 2) -> None:
    """Write a displacement of voxels as .nii or .nii.gz for ANTs and ITK; see ``itk_field``.

    Raises:
        ValueError: as ``itk_field``, or the name ends in something else.

    Example:
        >>> import cifl_tf as cifl, nibabel, numpy as np
        >>> displacement = np.full((24, 20, 18, 3), 1.5)
        >>> cifl.write_warp("warp.nii.gz", displacement, np.diag([2, 2, 2, 1]))
        >>> nibabel.load("warp.nii.gz").dataobj[0, 0, 0, 0]
        array([-3., -3.,  3.], dtype=float32)
    """
    save_image(itk_field(displacement, fixed_affine, moving_affine, axis), path)


def read_warp(path, moving_affine=None) -> tuple[np.ndarray, np.ndarray]:
    """Read a displacement field of ANTs, ITK or ``write_warp`` as a displacement of voxels.

    Args:
        path: of the file, or a nibabel image in memory.
        moving_affine: (4, 4) of the moving image; None where it shares that of the fixed one.

    Returns:
        float32 (x, y, z, 3) in voxels of the moving image, fixed voxel to moving voxel; and the
        affine of the fixed image.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no field of vectors.

    Example:
        >>> import cifl_tf as cifl, numpy as np
        >>> displacement = np.full((24, 20, 18, 3), 1.5)
        >>> cifl.write_warp("warp.nii.gz", displacement, np.diag([2, 2, 2, 1]))
        >>> found, affine = cifl.read_warp("warp.nii.gz")
        >>> bool(np.allclose(found, displacement))
        True
    """
    vectors, image = read_vectors(path)
    fixed_affine = np.asarray(image.affine, np.float64)
    moving_affine = (
        fixed_affine if moving_affine is None else checked_affine(moving_affine, "the moving image")
    )
    voxels = np.moveaxis(np.indices(vectors.shape[:3]), 0, -1)
    world = apply_affine(fixed_affine, voxels) + vectors
    displacement = apply_affine(np.linalg.inv(moving_affine), world) - voxels
    return displacement.astype(np.float32), fixed_affine


def read_vectors(path) -> tuple[np.ndarray, nibabel.Nifti1Image]:
    """Read a displacement field of ANTs or ITK.

    Args:
        path: of the file, or a nibabel image in memory.

    Returns:
        Vectors (x, y, z, 3) in mm, in RAS; and the image that was read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no field of vectors.
    """
    image, name = open_image(path)
    intent = int(image.header["intent_code"]) if "intent_code" in image.header else None
    if image.ndim != 5 or image.shape[3:] != (1, 3) or intent != VECTOR_INTENT:
        raise ValueError(
            f"{name} has shape {image.shape} and intent {intent}, but a displacement field of ITK "
            f"has (x, y, z, 1, 3) and {VECTOR_INTENT}; give what `write_warp` or ANTs wrote"
        )
    checked_affine(image.affine, name)
    with explained(name):
        vectors = np.asarray(image.dataobj, np.float64)[..., 0, :] * RAS_TO_LPS
    if not np.isfinite(vectors).all():
        raise ValueError(
            f"{name} holds {np.sum(~np.isfinite(vectors))} values that are not finite; write the "
            "field again"
        )
    return vectors, image


def _volume_field(displacement, axis):
    """(x, y, z, 3) of a displacement of a volume or of a slice."""
    field = np.asarray(displacement, np.float64)
    if not np.isfinite(field).all():
        raise ValueError(
            f"the displacement holds {np.sum(~np.isfinite(field))} values that are not finite; "
            "every one must be"
        )
    if field.ndim == 3 and field.shape[-1] == 2 and axis in (0, 1, 2):
        return np.expand_dims(np.insert(field, axis, 0.0, axis=-1), axis)
    if field.ndim != 4 or field.shape[-1] != 3:
        raise ValueError(
            f"the displacement has shape {field.shape} and axis is {axis}; give (x, y, z, 3), or "
            "(x, y, 2) and the axis 0, 1 or 2 across the slice, in voxels"
        )
    return field
