"""Composite transforms of ITK in HDF5, as of ANTs: a matrix and a displacement field in one file.

Points of the fixed image go through the last transform of the file first. Inside, all is in mm, in
RAS; in the file, in LPS.
"""

import math
from typing import TYPE_CHECKING

import h5py
import numpy as np
from nibabel.affines import apply_affine, from_matvec

from cifl_tf.images.atomic import atomic_path, expanded
from cifl_tf.images.grid import RAS_TO_LPS, Grid, grid_at
from cifl_tf.images.warps import into_itk
from cifl_tf.registration.affine_files import ITK_TYPE, LPS, itk_matrix

if TYPE_CHECKING:  # both read and write files
    from cifl_tf.registration.affine import Affine
    from cifl_tf.registration.displacement_field import Displacement

COMPOSITE_SUFFIXES = (".h5", ".hdf5")
COMPOSITE_TYPE = "CompositeTransform_double_3_3"
FIELD_TYPE = "DisplacementFieldTransform_double_3_3"
GROUP, TYPE = "TransformGroup", "TransformType"
PARAMETERS, FIXED = "TransformParameters", "TransformFixedParameters"
# By older versions of ITK.
MISSPELLED = {PARAMETERS: "TranformParameters", FIXED: "TranformFixedParameters"}
UNREADABLE = OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, IndexError
STILL = 1e-3  # mm, that is rounding: without more a matrix says all
ITK_VERSION = "5.4.0"  # whose layout this is


def write_composite(
    path, affine: "Affine", displacement: "Displacement", moving: Grid | None = None
) -> None:
    """Write a matrix, and what a displacement moves beside it, for ITK and ANTs.

    Args:
        path: .h5.
        affine: a part of the displacement, fixed to moving.
        displacement: of all.
        moving: see ``Displacement.to_itk``.
    """
    grid = displacement.grid
    matrix = affine.seen_by_itk(moving, grid)
    reached = grid.points() + displacement.field
    if moving is not None:
        reached = apply_affine(into_itk(moving), reached)
    seen = apply_affine(into_itk(grid), grid.points())
    vectors = (apply_affine(np.linalg.inv(matrix), reached) - seen).astype(np.float32)
    linear = LPS @ matrix @ LPS
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        _write_text(file, "ITKVersion", ITK_VERSION)
        _write_text(file, f"{GROUP}/0/{TYPE}", COMPOSITE_TYPE)
        parameters = np.concatenate([linear[:3, :3].ravel(), linear[:3, 3]])
        _write_transform(file[GROUP], "1", ITK_TYPE, parameters, np.zeros(3))
        if np.abs(vectors).max() > STILL:
            axes = LPS @ grid.itk_affine
            sizes = np.linalg.norm(axes[:3, :3], axis=0)
            directions = (axes[:3, :3] / sizes).ravel()
            fixed = np.concatenate([vectors.shape[:3], axes[:3, 3], sizes, directions])
            # The first axis is the fastest.
            parameters = (vectors * RAS_TO_LPS).transpose(2, 1, 0, 3).ravel()
            _write_transform(file[GROUP], "2", FIELD_TYPE, parameters, fixed)


def _write_text(group, name, text):
    group.create_dataset(name, data=[text], dtype=h5py.string_dtype("ascii"))


def _write_transform(group, number, kind, parameters, fixed):
    transform = group.create_group(number)
    _write_text(transform, TYPE, kind)
    transform.create_dataset(FIXED, data=fixed, dtype="f8")
    packed = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    packed = packed if kind == FIELD_TYPE else {}
    transform.create_dataset(PARAMETERS, data=parameters, dtype="f8", **packed)


def read_composite(path) -> list[np.ndarray | tuple[np.ndarray, Grid]]:
    """Read the transforms of an HDF5 file of ITK or ANTs, or of ``write_composite``.

    Returns:
        In the order in which a point of the fixed image goes through them, in RAS: a matrix (4, 4),
        or vectors (x, y, z, 3) in mm and their grid.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no such transforms.
    """
    path = expanded(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; give a composite transform of ITK")
    try:
        with h5py.File(path, "r") as file:
            groups = sorted(file[GROUP].items(), key=lambda item: int(item[0]))
            read = [
                (group[TYPE].asstr()[0], _numbers(group, PARAMETERS), _numbers(group, FIXED))
                for _, group in groups
                if {PARAMETERS, MISSPELLED[PARAMETERS]} & {*group}
            ]
    except UNREADABLE as error:  # h5py raises any of them, by where a file is damaged
        raise ValueError(
            f"{path} is no transform of ITK in HDF5: {error}; write it again"
        ) from error
    if not read:
        raise ValueError(f"{path} holds no transforms; write it again")
    return [_transform(kind, parameters, fixed, path) for kind, parameters, fixed in reversed(read)]


def _numbers(group, name):
    """The numbers of a transform (n,), by the name or as older versions of ITK misspelled it."""
    numbers = group[name if name in group else MISSPELLED[name]][()]
    return np.ravel(numbers).astype(np.float64)


def _transform(kind, parameters, fixed, path):
    if not (np.isfinite(parameters).all() and np.isfinite(fixed).all()):
        raise ValueError(f"{path} holds numbers that are not finite; write it again")
    if not kind.startswith("DisplacementFieldTransform"):
        return itk_matrix(kind, parameters, fixed, path)
    shape = fixed[:3].round().astype(int)
    if len(fixed) != 18 or shape.min() < 1 or parameters.size != 3 * math.prod(shape.tolist()):
        raise ValueError(
            f"the field of {path} has {parameters.size} numbers, and {len(fixed)} of its grid; "
            "give one of a volume"
        )
    vectors = parameters.reshape(*shape[::-1], 3).transpose(2, 1, 0, 3) * RAS_TO_LPS
    affine = LPS @ from_matvec(fixed[9:].reshape(3, 3) * fixed[6:9], fixed[3:6])
    if np.linalg.det(affine) == 0:
        raise ValueError(f"the grid of the field of {path} has no volume; write it again")
    return vectors, grid_at(affine, tuple(shape.tolist()))
