"""Transforms of this package, of ANTs, ITK and FreeSurfer, one after the other, applied once."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd

from cifl_tf._notes import note
from cifl_tf.images.file_names import READABLE, suffix_of
from cifl_tf.images.grid import RAS_TO_LPS, Grid
from cifl_tf.images.warps import into_itk
from cifl_tf.registration.affine import Affine
from cifl_tf.registration.composite_files import COMPOSITE_SUFFIXES, read_composite
from cifl_tf.registration.config import LARGEST_RESIDUAL
from cifl_tf.registration.displacement_field import Displacement
from cifl_tf.registration.sampling import as_volume, sampled_image

AXES = ["x", "y", "z"]


class TransformChain:
    """Transforms through which a point of the fixed image goes, one after the other.

    All is in mm, along the axes of nibabel (RAS), where ITK sees the files.

    Args:
        transforms: ``Affine``, ``Displacement``, or their files, in the order of
            ``antsApplyTransforms``: a point of the fixed image goes through the first one first.
        inverse: lead from points of the moving image to the fixed one instead.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there are no transforms, or a file holds none.

    Example:
        >>> import numpy as np
        >>> from cifl_tf.registration import Affine, TransformChain
        >>> right = Affine(np.diag([2.0, 1, 1, 1])), Affine.about(np.eye(3), (0, 0, 0), (10, 0, 0))
        >>> TransformChain(right).map([[1.0, 2, 3]])
        array([[12.,  2.,  3.]])
        >>> TransformChain(right, inverse=True).map([[12.0, 2, 3]])
        array([[1., 2., 3.]])
    """

    def __init__(self, transforms: Sequence, inverse: bool = False):
        if not transforms:
            raise ValueError("there are no transforms; give one at least")
        read: list[Affine | Displacement] = []
        for each in transforms:
            known = isinstance(each, Affine | Displacement)
            read += [each] if known else read_transforms(each)
        self.transforms = (
            [part for each in reversed(read) for part in _inverse(each)] if inverse else read
        )

    def map(self, points) -> np.ndarray:
        """Where points of the fixed image lie in the moving image.

        Args:
            points: (..., 3) in mm.
        """
        points = np.asarray(points, np.float64)
        for transform in self.transforms:
            points = transform.map(points)
        return points

    def apply(
        self, image, grid: Grid, order: str = "linear", volume_index: int | None = None
    ) -> nibabel.Nifti1Image:
        """Warp the moving image, or its labels, to a grid of the fixed image, interpolated once.

        Args:
            image: NIfTI or MGZ file, nibabel image, or ``Volume``; on any grid.
            grid: of the result.
            order: "linear", which smooths first what becomes coarser; or "nearest" for label maps.
            volume_index: for a 4D image, which of them.

        Raises:
            ValueError: the image cannot be used, is no label map, or an unknown order.
            FileNotFoundError: there is no such file.
        """
        volume = as_volume(image, order, volume_index)
        seen = into_itk(volume.original) @ volume.affine
        reached = self.map(replace(grid, affine=grid.itk_affine).points())
        # How far voxels of the result lie apart in the moving image.
        steps = np.eye(4)
        for each in self.transforms:
            steps = each.matrix @ steps if isinstance(each, Affine) else steps
        return sampled_image(
            replace(volume, affine=seen), grid, reached, steps @ grid.itk_affine, order
        )

    @property
    def grid(self) -> Grid | None:
        """The grid of the first displacement field; None where there is none."""
        fields = [each for each in self.transforms if isinstance(each, Displacement)]
        return fields[0].grid if fields else None


def read_transforms(path) -> list[Affine | Displacement]:
    """The transforms of a file, in the order of a ``TransformChain``.

    Args:
        path: of a displacement field in NIfTI, or a matrix, see ``from_file`` of both; or of a
            composite transform of ITK or ANTs (.h5).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds none.
    """
    if suffix_of(path, COMPOSITE_SUFFIXES):
        return [
            Displacement(*one) if isinstance(one, tuple) else Affine(one)
            for one in read_composite(path)
        ]
    kind = Displacement if suffix_of(path, READABLE) else Affine
    return [kind.from_file(path)]


def warp_points(table: pd.DataFrame, chain: TransformChain, lps: bool = False) -> pd.DataFrame:
    """A table of points, moved by transforms: from the fixed image to the moving one, as in ITK.

    Args:
        table: with the columns x, y and z in mm; others stay as they are.
        chain: the transforms.
        lps: the axes of the points lead to left, posterior and superior, as ITK's do; else to
            right, anterior and superior, as nibabel's.

    Raises:
        ValueError: a column is missing, or holds something else than finite numbers.
    """
    missing = [axis for axis in AXES if axis not in table]
    if missing:
        raise ValueError(
            f"the table has the columns {', '.join(map(str, table))}, but no {', '.join(missing)}; "
            "give points as x, y, z in mm"
        )
    points = table[AXES].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    wrong = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if len(wrong):
        raise ValueError(
            f"row {wrong[0] + 1} of the table has no finite numbers for x, y and z; correct it"
        )
    signs = RAS_TO_LPS if lps else np.ones(3)
    return table.assign(**dict(zip(AXES, (chain.map(points * signs) * signs).T, strict=True)))


def read_table(path) -> pd.DataFrame:
    """A table of a CSV file, as text: 007 stays 007, and empty cells are empty.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no table.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist; give a CSV file")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, pd.errors.ParserError) as error:
        message = str(error).splitlines()[0]
        raise ValueError(f"{path} is no table ({message}); give a CSV file") from error
    if len(table.columns) == 1 and set(";\t") & {*table.columns[0]}:
        raise ValueError(
            f"{path} has one column, {table.columns[0]!r}; give a table with commas between columns"
        )
    return table


def _inverse(transform: Affine | Displacement) -> list[Affine | Displacement]:
    """What undoes a transform; of a field its matrix first, so that the rest stays on its grid."""
    if isinstance(transform, Affine):
        return [transform.inverse()]
    back = Affine.fitted(transform).inverse()
    found, residual = back.after(transform).inverse()
    if residual > LARGEST_RESIDUAL:
        note(
            f"the inverse of a displacement field misses by up to {residual:.1f} mm; give the "
            "inverse that was written beside it, without --inverse"
        )
    return [back, found]
