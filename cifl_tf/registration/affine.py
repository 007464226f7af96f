"""``Affine``: where the points of one image lie in another, by one matrix in mm."""

from dataclasses import dataclass

import nibabel
import numpy as np
from nibabel.affines import apply_affine, from_matvec

from cifl_tf.images.grid import Grid
from cifl_tf.images.label_maps import read_mask
from cifl_tf.images.nifti import open_image
from cifl_tf.images.volumes import Volume
from cifl_tf.images.warps import into_itk
from cifl_tf.registration.affine_files import LPS, read_affine, write_affine
from cifl_tf.registration.displacement_field import Displacement
from cifl_tf.registration.sampling import sampled_image

FITTED = 32  # points along each axis of a field that are enough to fit a matrix
LEAST_VOLUME = 1e-6  # determinant of a matrix that can be inverted


@dataclass(frozen=True, eq=False)
class Affine:
    """Where the points of the fixed image lie in the moving image.

    Point p lies at ``A p``, so that ``warped(p) = moving(A p)``: the direction of ``Displacement``,
    of ITK, and of NiftyReg's text files. All is in mm along the axes of nibabel (right, anterior,
    superior).

    Attributes:
        matrix: (4, 4), float64.

    Raises:
        ValueError: the matrix has another shape, is not finite, cannot be inverted, or its last row
            is not 0, 0, 0, 1.

    Example:
        Ten millimeters to the right, there and back:

        >>> import numpy as np
        >>> from cifl_tf.registration import Affine
        >>> right = Affine([[1, 0, 0, 10], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        >>> right.map([[4.0, 6.0, 8.0]])
        array([[14.,  6.,  8.]])
        >>> right.then(right.inverse()).map([[4.0, 6.0, 8.0]])
        array([[4., 6., 8.]])
    """

    matrix: np.ndarray

    def __post_init__(self):
        matrix = np.array(self.matrix, np.float64)
        if matrix.shape != (4, 4):
            raise ValueError(f"the matrix has shape {matrix.shape}; give (4, 4), in mm")
        if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < LEAST_VOLUME:
            raise ValueError(
                f"the matrix is singular or not finite, {matrix.tolist()}; give one that can be "
                "inverted, in mm"
            )
        if not np.allclose(matrix[3], [0, 0, 0, 1]):
            raise ValueError(
                f"the last row of the matrix is {matrix[3].tolist()}; give 0, 0, 0, 1: points are "
                "columns, so the shift is the last column"
            )
        matrix.setflags(write=False)
        object.__setattr__(self, "matrix", matrix)

    @classmethod
    def identity(cls) -> "Affine":
        """The affine that moves nothing."""
        return cls(np.eye(4))

    @classmethod
    def from_file(cls, path, moving: Grid | None = None, fixed: Grid | None = None) -> "Affine":
        """Read an affine of ITK, ANTs, FreeSurfer, NiftyReg or ``write``.

        Args:
            path: .mat, .tfm or .txt of ITK or ANTs; .lta of FreeSurfer, of type 0 (voxels to
                voxels) or 1 (RAS to RAS); or a text file of a 4 x 4 matrix, fixed to moving in mm,
                in RAS, as of NiftyReg.
            moving: grid of the moving image. ITK and ANTs see a file elsewhere than nibabel where
                its sform and qform differ; with the grids a file of theirs is right for both.
            fixed: the same of the fixed image.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it holds no such affine.
        """
        matrix, of_itk = read_affine(path)
        if of_itk and moving is not None:
            matrix = np.linalg.inv(into_itk(moving)) @ matrix
        if of_itk and fixed is not None:
            matrix = matrix @ into_itk(fixed)
        return cls(matrix)

    def write(self, path, moving: Grid | None = None, fixed: Grid | None = None) -> None:
        """Write the affine for ITK and ANTs, whole or not at all.

        Args:
            path: .mat, .tfm or .txt.
            moving: see ``to_itk``.
            fixed: see ``to_itk``.

        Raises:
            ValueError: the name ends in something else.
        """
        write_affine(self.seen_by_itk(moving, fixed), path)

    def seen_by_itk(self, moving: Grid | None = None, fixed: Grid | None = None) -> np.ndarray:
        """The matrix (4, 4) between where ITK sees both files, in RAS; see ``to_itk``."""
        matrix = self.matrix
        if moving is not None:
            matrix = into_itk(moving) @ matrix
        if fixed is not None:
            matrix = matrix @ np.linalg.inv(into_itk(fixed))
        return matrix

    def to_itk(self, moving: Grid | None = None, fixed: Grid | None = None):
        """A ``SimpleITK.AffineTransform``, in LPS, for ``SimpleITK.Resample``.

        Args:
            moving: grid of the moving image. ITK sees a file elsewhere than nibabel where its sform
                and qform differ; with the grids the transform is right for both files.
            fixed: the same of the fixed image.

        Raises:
            ImportError: SimpleITK is not installed.
        """
        try:
            import SimpleITK
        except ImportError as error:
            raise ImportError("SimpleITK is not installed: pip install SimpleITK") from error
        matrix = LPS @ self.seen_by_itk(moving, fixed) @ LPS
        transform = SimpleITK.AffineTransform(3)
        transform.SetMatrix(matrix[:3, :3].ravel().tolist())
        transform.SetTranslation(matrix[:3, 3].tolist())
        return transform

    def as_displacement(self, grid: Grid) -> Displacement:
        """The same as a field on a grid of the fixed image."""
        points = grid.points()
        return Displacement(self.map(points) - points, grid)

    def map(self, points) -> np.ndarray:
        """Where points of the fixed image lie in the moving image.

        Args:
            points: (..., 3) in mm.
        """
        return apply_affine(self.matrix, np.asarray(points, np.float64))

    def apply(
        self,
        image,
        grid: Grid,
        order: str = "linear",
        outside: float = 0.0,
        volume_index: int | None = None,
    ) -> nibabel.Nifti1Image:
        """Warp the moving image, or its labels, to a grid of the fixed image.

        Args:
            image: NIfTI or MGZ file, nibabel image, or ``Volume``; on any grid.
            grid: of the result.
            order: "linear", which smooths first what becomes coarser; or "nearest" for label maps.
            outside: value beyond the moving image.
            volume_index: for a 4D image, which of them.

        Raises:
            ValueError, FileNotFoundError: as ``Displacement.apply``.
        """
        steps = self.matrix @ grid.affine
        reached = self.map(grid.points())
        return sampled_image(image, grid, reached, steps, order, outside, volume_index)

    def apply_mask(self, mask, grid: Grid) -> np.ndarray:
        """Where a mask of the moving image is not 0, on a grid of the fixed image.

        Args:
            mask: file, nibabel image or ``Volume``, on any grid.
            grid: of the result.

        Returns:
            Booleans of the shape of the grid.

        Raises:
            ValueError, FileNotFoundError: as ``read_mask``.
        """
        shown = mask if isinstance(mask, Volume) else read_mask(mask)
        return np.asarray(self.apply(shown, grid, "nearest").dataobj) > 0

    def apply_channels(self, image, grid: Grid) -> np.ndarray:
        """Channels of the moving image, such as probabilities, on a grid of the fixed image.

        Args:
            image: file or nibabel image (x, y, z, C), on any grid.
            grid: of the result.

        Returns:
            float32 (*shape of the grid, C), linear in between, 0 beyond the moving image.

        Raises:
            ValueError: the image has not four axes.
            ValueError, FileNotFoundError: as ``Displacement.apply``.
        """
        image, name = open_image(image)
        if len(image.shape) != 4:
            raise ValueError(f"{name} has shape {image.shape}; give channels (x, y, z, C)")
        channels = [
            np.asarray(self.apply(image, grid, volume_index=index).dataobj, np.float32)
            for index in range(image.shape[3])
        ]
        return np.stack(channels, axis=-1)

    def then(self, other: "Affine") -> "Affine":
        """The one affine that warps by this one first, and by the other then.

        A point goes through the other first, as in ``Displacement.then``.
        """
        return Affine(self.matrix @ other.matrix)

    def after(self, displacement: Displacement) -> Displacement:
        """The displacement that moves a point by another first, and by this affine then.

        Args:
            displacement: to points that the affine maps; the result lies on its grid.
        """
        points = displacement.grid.points()
        return Displacement(self.map(points + displacement.field) - points, displacement.grid)

    def inverse(self) -> "Affine":
        """The affine that undoes this one."""
        return Affine(np.linalg.inv(self.matrix))

    @classmethod
    def fitted(cls, displacement: Displacement) -> "Affine":
        """The affine nearest to a displacement, by the least squares of its points."""
        affine, sizes = displacement.grid.affine, displacement.field.shape[:3]
        every = [max(1, size // FITTED) for size in sizes]
        field = displacement.field[tuple(slice(None, None, step) for step in every)]
        voxels = np.moveaxis(np.indices(field.shape[:3]), 0, -1).reshape(-1, 3) * every
        wide = [axis for axis in range(3) if sizes[axis] > 1]
        known = np.column_stack([voxels[:, wide], np.ones(len(voxels))])
        moved = np.zeros((4, 4))  # what the affine of the grid changes by
        moved[:3, [*wide, 3]] = np.linalg.lstsq(known, field.reshape(-1, 3), rcond=None)[0].T
        return cls((affine + moved) @ np.linalg.inv(affine))

    @classmethod
    def about(cls, linear, center, shift=(0.0, 0.0, 0.0)) -> "Affine":
        """The affine that turns and scales about a point, and moves it then.

        Args:
            linear: (3, 3).
            center: the point, in mm.
            shift: in mm.
        """
        center = np.asarray(center, np.float64)
        return cls(from_matvec(linear, center + shift - np.asarray(linear) @ center))
