"""Brain masks of image files: a network that knows its voxel size, and what it gives."""

import dataclasses
from collections.abc import Sequence

import nibabel
import numpy as np
from nibabel.affines import voxel_sizes
from scipy.ndimage import binary_fill_holes

from cifl_tf._checks import BORDER_MM
from cifl_tf._compat import keras
from cifl_tf.features.inference import fit_voxel_size
from cifl_tf.features.pretrained import load_named
from cifl_tf.images.grid import three_axes
from cifl_tf.images.nifti import name_of
from cifl_tf.images.volumes import read_volume, to_original
from cifl_tf.images.windows import put, take
from cifl_tf.models import shipped
from cifl_tf.models.files import STRIPPER
from cifl_tf.models.image_model import ImageModel
from cifl_tf.stripping.field_of_view import head_window, largest_piece, share_around
from cifl_tf.stripping.losses import FARTHEST

STRIPPER_FILE = "stripper.keras"
PLAUSIBLE_ML = 700, 2200  # of the brain with the fluid around it
# Of 21 scans and 9 slabs of each, those without skull had at most 0.04 around the brain, and those
# of heads 0.27 or more.
MOST_AROUND = 0.2


class NoBrainError(ValueError):
    """A scan shows no brain that the network finds."""


@dataclasses.dataclass(frozen=True, eq=False)
class StrippedHead:
    """A brain and its mask, on the grid of the image.

    Attributes:
        image: the head, float32.
        brain: the image inside the mask, float32; its lowest value, or 0 if lower, outside.
        mask: uint8, 1 inside.
        distance: float32, mm to the surface of the brain, negative inside.
        volume_ml: of the mask.
        share_around: share of what lies 3 to 15 mm beyond the brain that is no air.

    Example:
        >>> import nibabel, numpy as np
        >>> from cifl_tf.stripping import Stripper, build_stripper
        >>> stripper = Stripper(build_stripper(num_filters=2, num_levels=2))
        >>> image = nibabel.Nifti1Image(np.random.rand(20, 18, 16), np.diag([3, 3, 3, 1]))
        >>> found = stripper.strip(image, border=20)
        >>> found.distance.shape, found.volume_ml > 0
        ((20, 18, 16), True)
    """

    image: nibabel.Nifti1Image
    brain: nibabel.Nifti1Image
    mask: nibabel.Nifti1Image
    distance: nibabel.Nifti1Image
    volume_ml: float
    share_around: float

    @property
    def was_stripped(self) -> bool:
        """Whether the scan shows hardly anything but a brain, as after brain extraction."""
        return self.share_around < MOST_AROUND

    @property
    def doubt(self) -> str:
        """Why the mask is likely wrong, in words; empty where nothing says so."""
        return doubt_of_size(
            self.volume_ml, "mask", "the mask is wrong, or the image shows a part of the brain"
        )


def doubt_of_size(volume_ml: float, what: str, reason: str) -> str:
    """Why something is hardly a whole brain, in words; empty where it has the size of one.

    Args:
        volume_ml: of what is judged.
        what: is judged.
        reason: why its size may be another.
    """
    low, high = PLAUSIBLE_ML
    if low <= volume_ml <= high:
        return ""
    return (
        f"the {what} has {volume_ml:.0f} ml, and brains of adults have {low} to {high} ml, "
        f"so perhaps {reason}"
    )


def refuse_slice(shape: Sequence[int], image, what: str, otherwise: str) -> None:
    """Refuse a slice alone where only volumes can be used.

    Args:
        shape: of the image.
        image: file or nibabel image.
        what: is done in volumes.
        otherwise: what to do with a slice.

    Raises:
        ValueError: the image is a single slice.
    """
    if len(shape) > 1 and min(three_axes(shape)) == 1:
        raise ValueError(
            f"{name_of(image)} is a single slice, but {what} in volumes; give a volume, {otherwise}"
        )


@keras.saving.register_keras_serializable(package="cifl_tf")
class Stripper(ImageModel):
    """A network from the image of a head to the distance from the surface of its brain.

    Args:
        network: see ``build_stripper``.
        preprocessing: see ``ImageModel``.

    Example:
        >>> import nibabel, numpy as np
        >>> from cifl_tf.stripping import Stripper, build_stripper
        >>> stripper = Stripper(build_stripper(num_filters=2, num_levels=2))
        >>> image = nibabel.Nifti1Image(np.random.rand(20, 18, 16), np.diag([3, 3, 3, 1]))
        >>> stripper.strip(image).mask.shape
        (20, 18, 16)
    """

    @classmethod
    def from_pretrained(cls, model=shipped.STRIPPER) -> "Stripper":
        """Load a stripper.

        Args:
            model: "strip", which ships with the package; the folder of a training, or its file.

        Raises:
            ValueError: there is none, or the file is damaged.

        Example:
            >>> from cifl_tf.stripping import Stripper
            >>> Stripper.from_pretrained().preprocessing.voxel_text()
            '3 x 3 x 3 mm'
        """
        return load_named(model, STRIPPER_FILE, kind=STRIPPER)

    def strip(
        self,
        image,
        border: float = 0.0,
        volume_index: int | None = None,
        window: tuple[float, float] | None = None,
    ) -> StrippedHead:
        """Find the brain of a NIfTI or MGZ file, or a nibabel image.

        The image is resampled to the voxel size of the training, and the result is on its own grid.
        The mask is one piece without holes.

        Args:
            image: of a head, of any contrast and voxel size.
            border: mm by which the mask is wider than the brain; narrower, if negative.
            volume_index: for 4D files, which image.
            window: see ``features_of``.

        Raises:
            ValueError, FileNotFoundError: as ``features_of``, or ``border`` is not finite.
        """
        BORDER_MM.check("border", border)
        name = name_of(image)
        original = read_volume(image, volume_index)
        advice = "or mask the slice with another tool"
        refuse_slice(original.data.shape, image, "brains are found", advice)
        preprocessing = self.preprocessing.with_choices(window=window)
        volume = fit_voxel_size(original, preprocessing)
        scaled = preprocessing.scaling(volume.data)
        field = head_window(scaled, float(np.mean(voxel_sizes(volume.affine))))
        found = np.full(scaled.shape, FARTHEST, np.float32)
        part = take(scaled, field)
        near = self.predict_on_batch(part[None, ..., None])[0, ..., 0]
        put(near, field, found)
        distance = to_original(found, volume, "linear")
        values = np.asarray(distance.dataobj)
        mask = binary_fill_holes(largest_piece(values < border))
        if not mask.any():
            raise NoBrainError(
                f"no brain was found in {name}; check that the image shows a head and "
                "that its header has the right voxel size"
                + (", or give a wider border" if border < 0 else "")
            )
        grid = volume.original
        head = to_original(original.data, original)
        intensities = np.asarray(head.dataobj)
        outside = min(0.0, float(intensities.min()))
        brain = np.where(mask, intensities, outside).astype(np.float32)
        return StrippedHead(
            image=head,
            brain=grid.image(brain),
            mask=grid.image(mask.astype(np.uint8)),
            distance=distance,
            volume_ml=float(mask.sum() * grid.voxel_volume / 1000),
            share_around=share_around(scaled, found),
        )


def strip(image, border: float = 0.0, model=shipped.STRIPPER, **options) -> StrippedHead:
    """Brain mask of the image of a head, by the stripper that ships with the package.

    Args:
        image: NIfTI or MGZ file, or nibabel image.
        border: mm by which the mask is wider than the brain; narrower, if negative.
        model: of ``Stripper.from_pretrained``, or a ``Stripper``.
        options: further arguments of ``Stripper.strip``.

    Raises:
        ValueError, FileNotFoundError: as ``Stripper.strip``.

    Example:
        >>> import nibabel, numpy as np
        >>> from cifl_tf.stripping import strip
        >>> distance = np.linalg.norm(np.indices((64, 64, 64)) - 32, axis=0)
        >>> head = np.select([distance < 22, distance < 25, distance < 29], [90.0, 10.0, 60.0])
        >>> found = strip(nibabel.Nifti1Image(head, np.diag([3, 3, 3, 1])))
        >>> found.mask.shape, found.volume_ml > 100
        ((64, 64, 64), True)
    """
    stripper = model if isinstance(model, Stripper) else Stripper.from_pretrained(model)
    return stripper.strip(image, border, **options)
