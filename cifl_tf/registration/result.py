"""What a registration gives: warps, what they make of the moving image, and the files of both."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import nibabel
import numpy as np

from cifl_tf.figures.panels import save_figure
from cifl_tf.figures.registration import RegisteredSlice, registration_figure
from cifl_tf.images.atomic import expanded
from cifl_tf.images.volumes import save_image
from cifl_tf.metrics.folding import std_of_logarithm
from cifl_tf.registration.affine import Affine
from cifl_tf.registration.composite_files import write_composite
from cifl_tf.registration.displacement_field import Displacement

FIGURE_FILE = "registration.png"
IMAGES = ("warped", "warp", "inverse_warp", "jacobian", "labels")
LABELS_FILE = "labels.nii.gz"
AFFINE_FILE = "affine.mat"
COMPOSITE_FILE = "composite.h5"
REGISTRATION_FILES = (
    *(f"{name}.nii.gz" for name in IMAGES),
    AFFINE_FILE,
    COMPOSITE_FILE,
    FIGURE_FILE,
)


@dataclass(frozen=True, eq=False)
class RegistrationResult:
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
            warp, at the worst point that both keep inside the image and where the moving image is
            no air. Large where the warp folds, as it has no inverse there.
        views: slices for ``registration_figure`` by name.
        displacement: of ``warp``, to go on computing with.
        inverse: of ``inverse_warp``.
        affine: the part of the warp that a matrix is, which is in ``warp`` too; None where there is
            none.
        report: what ``register`` measured, by name with unit.
        warnings: why the result may be wrong, in words.

    Example:
        >>> import cifl_tf as cifl, nibabel, numpy as np
        >>> image = nibabel.Nifti1Image(np.random.rand(24, 2, 20), np.diag([2, 2, 2, 1]))
        >>> network = cifl.Registration(None, (24, 20), num_filters=2, int_steps=0)
        >>> found = network.register(image, image)
        >>> found.warped.shape, found.warp.shape
        ((24, 2, 20), (24, 2, 20, 1, 3))
    """

    warped: nibabel.Nifti1Image
    warp: nibabel.Nifti1Image
    inverse_warp: nibabel.Nifti1Image
    jacobian: nibabel.Nifti1Image
    labels: nibabel.Nifti1Image | None
    folded: float
    inverse_residual: float
    views: Mapping[str, RegisteredSlice]
    displacement: Displacement
    inverse: Displacement
    affine: Affine | None = None
    report: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def transform(self) -> Displacement:
        """The displacement, fixed to moving, of all stages."""
        return self.displacement

    @property
    def log_jacobian_std(self) -> float:
        """SD of the logarithm of the Jacobian determinant where the warped image is not 0."""
        inside = np.asarray(self.warped.dataobj) != 0
        return std_of_logarithm(np.asarray(self.jacobian.dataobj)[inside])


def save_registration(found: RegistrationResult, out, overwrite: bool = False) -> None:
    """Write the images of a registration and a picture of it to a folder, each whole or not at all.

    ``warped.nii.gz``, ``warp.nii.gz``, ``inverse_warp.nii.gz``, ``jacobian.nii.gz``, where there
    are labels ``labels.nii.gz``, where there is a matrix ``affine.mat``, the warp as a matrix and
    what is left of it for ITK and ANTs as ``composite.h5``, and ``registration.png``.

    Args:
        found: of ``register_images``.
        out: the folder.
        overwrite: replace files of these names, and remove labels that another warp wrote.

    Raises:
        ValueError: a file of these names is there, and is not to be overwritten.

    Example:
        >>> import cifl_tf as cifl, nibabel, numpy as np, pathlib
        >>> image = nibabel.Nifti1Image(np.random.rand(24, 2, 20), np.diag([2, 2, 2, 1]))
        >>> network = cifl.Registration(None, (24, 20), num_filters=2, int_steps=0)
        >>> cifl.save_registration(network.register(image, image), "result")
        >>> sorted(path.name for path in pathlib.Path("result").iterdir())[-2:]
        ['warp.nii.gz', 'warped.nii.gz']
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
    if found.affine is None:
        (out / AFFINE_FILE).unlink(missing_ok=True)
    else:
        found.affine.write(out / AFFINE_FILE, found.inverse.grid, found.displacement.grid)
    affine = found.affine or Affine.identity()
    write_composite(out / COMPOSITE_FILE, affine, found.displacement, found.inverse.grid)
    save_figure(registration_figure(found.views), out / FIGURE_FILE, dpi=200)
