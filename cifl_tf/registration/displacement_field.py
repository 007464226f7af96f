"""``Displacement``: a displacement field with its grid, in mm."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import nibabel
import numpy as np
from nibabel.affines import apply_affine

from cifl_tf.images.grid import (
    Grid,
    bring_onto,
    grid_of,
    three_axes,
)
from cifl_tf.images.volumes import save_image
from cifl_tf.images.warps import into_itk, read_vectors, vector_image
from cifl_tf.metrics import jacobian_determinant
from cifl_tf.registration.displacements import invert_displacement
from cifl_tf.registration.sampling import sampled, sampled_image

if TYPE_CHECKING:  # an affine gives displacements
    from cifl_tf.registration.affine import Affine

INSIDE = 1e-3  # voxels beyond the last one that are rounding errors


@dataclass(frozen=True, eq=False)
class Displacement:
    """Where the points of a grid lie in another image, the moving one.

    Point p of the grid lies at ``p + u(p)``, so that ``warped(p) = moving(p + u(p))``. All is in
    mm along the axes of nibabel (right, anterior, superior), whatever the voxels of the moving
    image are. Between the voxels of the grid u is linear; beyond them, the edge goes on.

    Attributes:
        field: u in mm, float32 (x, y, z, 3); z is 1 on the grid of a slice.
        grid: of the fixed image.

    Raises:
        ValueError: the field does not fit the grid, or is not finite.

    Example:
        Ten millimeters to the right, there and back:

        >>> import nibabel, numpy as np
        >>> from cifl_tf.images.grid import grid_at
        >>> grid = grid_at(np.diag([2, 2, 2, 1]), (30, 20, 20))
        >>> right = Displacement(np.full((30, 20, 20, 3), (10.0, 0, 0)), grid)
        >>> right.map([[4.0, 6.0, 8.0]])
        array([[14.,  6.,  8.]])
        >>> back, residual = right.inverse()
        >>> right.then(back).map([[4.0, 6.0, 8.0]]).round(2)
        array([[4., 6., 8.]])
        >>> image = nibabel.Nifti1Image(np.random.rand(40, 40, 40), np.eye(4))
        >>> right.apply(image).shape
        (30, 20, 20)
    """

    field: np.ndarray
    grid: Grid

    def __post_init__(self):
        field = np.asarray(self.field, np.float32)
        expected = (*three_axes(self.grid.shape), 3)
        if field.shape != expected:
            raise ValueError(
                f"the field has shape {field.shape}, but the grid {self.grid.shape}; give "
                f"{expected}, in mm"
            )
        if not np.isfinite(field).all():
            raise ValueError(
                f"the field holds {np.sum(~np.isfinite(field))} values that are not finite; every "
                "one must be"
            )
        object.__setattr__(self, "field", field)

    @classmethod
    def identity(cls, grid: Grid) -> "Displacement":
        """The displacement that moves nothing."""
        return cls(np.zeros((*three_axes(grid.shape), 3), np.float32), grid)

    @classmethod
    def from_voxels(cls, displacement, grid: Grid) -> "Displacement":
        """A displacement between two images on one grid.

        Args:
            displacement: (x, y, z, 3) in voxels, as ``warp`` takes it.
            grid: of both images.
        """
        return cls(displacement @ grid.affine[:3, :3].T, grid)

    @classmethod
    def from_file(cls, path) -> "Displacement":
        """Read a displacement field of ANTs, ITK or ``to_file``.

        Args:
            path: of a NIfTI file, or a nibabel image in memory.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no field of vectors.
        """
        vectors, image = read_vectors(path)
        return cls(vectors, grid_of(image, image.shape[:3], str(path)))

    def to_file(self, path, moving: Grid | None = None) -> None:
        """Write .nii or .nii.gz for ANTs and ITK; see ``to_itk``.

        Raises:
            ValueError: the name ends in something else.
        """
        save_image(self.to_itk(moving), path)

    def to_itk(self, moving: Grid | None = None) -> nibabel.Nifti1Image:
        """The 5-D NIfTI image that ITK's ``DisplacementFieldTransform`` and ANTs read.

        Args:
            moving: grid of the moving image. ITK sees a file elsewhere than nibabel where its sform
                and qform differ; with this grid, and that of the fixed image, the field is right
                for both files. None where there is no such file.
        """
        points = self.grid.points()
        reached = points + self.field
        if moving is not None:
            reached = apply_affine(into_itk(moving), reached)
        seen = apply_affine(into_itk(self.grid), points)
        return vector_image(reached - seen, self.grid.itk_affine)

    def in_voxels(self) -> np.ndarray:
        """The field in voxels of its own grid, (x, y, z, 3)."""
        return self.field @ np.linalg.inv(self.grid.affine[:3, :3]).T.astype(np.float32)

    def map(self, points) -> np.ndarray:
        """Where points of the fixed image lie in the moving image.

        Args:
            points: (..., 3) in mm.
        """
        points = np.asarray(points, np.float64)
        components = (
            sampled(component, self.grid.affine, points, "linear", None)
            for component in np.moveaxis(self.field, -1, 0)
        )
        return points + np.stack([*components], axis=-1)

    def apply(
        self, image, order: str = "linear", outside: float = 0.0, volume_index: int | None = None
    ) -> nibabel.Nifti1Image:
        """Warp the moving image, or its labels, to the grid.

        As in ITK an image ends half a voxel beyond the center of its last voxel.

        Args:
            image: NIfTI or MGZ file, nibabel image, or ``Volume``; on any grid.
            order: "linear", which smooths first what becomes coarser; or "nearest" for label maps,
                which keep their values, and their type where it holds them.
            outside: value beyond the moving image.
            volume_index: for a 4D image, which of them.

        Raises:
            ValueError: the image cannot be used, is no label map, or an unknown order.
            FileNotFoundError: there is no such file.
        """
        reached = self.grid.points() + self.field
        steps = self.grid.affine
        return sampled_image(image, self.grid, reached, steps, order, outside, volume_index)

    def then(self, other: "Displacement") -> "Displacement":
        """The one displacement that warps by this one first, and by the other then.

        A point goes through the other first: ``w(p) = v(p) + u(p + v(p))``.

        Args:
            other: from a grid to points of this one's; the result lies on the other's grid.
        """
        points = other.grid.points()
        return Displacement(self.map(points + other.field) - points, other.grid)

    def after(self, affine: "Affine", grid: Grid) -> "Displacement":
        """The displacement that moves a point by an affine first, and by this one then.

        Args:
            affine: to points that this displacement maps.
            grid: of the result.
        """
        reached = replace(grid, affine=affine.matrix @ grid.affine)
        field = self.on(reached).field
        return Displacement(reached.points() + field - grid.points(), grid)

    def inverse(self) -> tuple["Displacement", float]:
        """The displacement that undoes this one, on the same grid, and its ``residual`` in mm.

        See ``invert_displacement``. There is no inverse where the displacement folds; ``residual``
        is large then.
        """
        found = self.from_voxels(invert_displacement(self.in_voxels()), self.grid)
        return found, self.residual(found)

    def residual(self, inverse: "Displacement", shown=None) -> float:
        """How far the inverse of this displacement, and then this one, miss a point, in mm.

        Args:
            inverse: from about where this displacement leads to.
            shown: booleans (x, y, z) on the grid of the inverse, the points that count; None for
                all.

        Returns:
            The largest distance over the points that the inverse keeps inside the grid.
        """
        points = inverse.grid.points()
        reached = points + inverse.field
        voxels = apply_affine(np.linalg.inv(self.grid.affine), reached)
        last = np.array(three_axes(self.grid.shape)) - 1
        inside = ((voxels > -INSIDE) & (voxels < last + INSIDE)).all(axis=-1)
        if shown is not None:
            inside &= shown
        missed = np.linalg.norm(self.map(reached[inside]) - points[inside], axis=-1)
        return float(missed.max(initial=0.0))

    def on(self, grid: Grid) -> "Displacement":
        """The same displacement on another grid, by cubic interpolation."""
        if not self.field.any():
            return Displacement.identity(grid)
        return Displacement(bring_onto(grid, self.field, self.grid.affine, "continuous"), grid)

    def jacobian(self) -> nibabel.Nifti1Image:
        """Determinants of the Jacobian: at most 0 where the displacement folds.

        Axes of one voxel are left out.
        """
        displacement = self.in_voxels()
        wide = [axis for axis in range(3) if displacement.shape[axis] > 1]
        flat = displacement[..., wide].squeeze(tuple({0, 1, 2} - set(wide)))
        determinants = jacobian_determinant(flat).astype(np.float32)
        return self.grid.image(determinants.reshape(self.grid.shape))
