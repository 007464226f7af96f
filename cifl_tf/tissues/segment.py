"""Tissues of a scan of any contrast: the skull is taken away, and the brain is segmented."""

import dataclasses

import nibabel
import numpy as np

from cifl_tf.images.grid import grid_of
from cifl_tf.images.volumes import read_grid
from cifl_tf.models import shipped
from cifl_tf.segmentation.refinement import refine_image
from cifl_tf.segmentation.result import Segmentation
from cifl_tf.segmentation.segmenter import Segmenter
from cifl_tf.stripping.automatic import Brain, brain_of
from cifl_tf.stripping.stripper import Stripper, refuse_slice
from cifl_tf.tissues.network import TISSUES

# Of 96 images that got worse in 5 ways, those below this had a mean Dice of 0.66 or less.
LEAST_CERTAINTY = 0.695
# Of ``refine``, as the network is surer than it should be.
PRIOR_WEIGHT = 0.7
DEEP_MARGIN = 0.25  # of the difference of white and gray matter


@dataclasses.dataclass(frozen=True, eq=False)
class TissueResult:
    """Tissues of one scan, on its own grid.

    Attributes:
        segmentation: labels, probabilities, and volumes in mm³ by name.
        brain: the scan without skull, with its mask.
        certainty: mean over the brain of the network's highest probability, before intensities
            place the borders. It falls where the labels get worse; see ``LEAST_CERTAINTY``.

    Example:
        >>> import nibabel, numpy as np
        >>> from cifl_tf.tissues import segment_tissues
        >>> distance = np.linalg.norm(np.indices((40, 40, 40)) - 20, axis=0)
        >>> scan = np.select([distance < 10, distance < 14], [90.0, 60.0])
        >>> found = segment_tissues(nibabel.Nifti1Image(scan, np.diag([4, 4, 4, 1])), stripped=True)
        >>> found.segmentation.labels.shape, 0 <= found.certainty <= 1
        ((40, 40, 40), True)
    """

    segmentation: Segmentation
    brain: Brain
    certainty: float

    @property
    def channels(self) -> nibabel.Nifti1Image:
        """Probabilities (x, y, z, tissues) without the background; for ``register``."""
        known = self.segmentation.probabilities
        grid = grid_of(known, known.shape[:3], "the probabilities")
        return grid.image(np.asarray(known.dataobj, np.float32)[..., 1:])

    @property
    def shares(self) -> dict[str, float]:
        """Share of every tissue in all of them."""
        volumes = self.segmentation.volumes
        total = sum(volumes.values())
        return {name: volume / total if total else 0.0 for name, volume in volumes.items()}

    @property
    def uncertainty(self) -> str:
        """That the network is uncertain, in words; empty where it is not."""
        if self.certainty >= LEAST_CERTAINTY:
            return ""
        return (
            f"the network is uncertain: its mean probability is {self.certainty:.3f}, and scans "
            f"that it handles have {LEAST_CERTAINTY} or more"
        )

    @property
    def doubts(self) -> list[str]:
        """Why the labels are likely wrong, in words; empty where nothing says so."""
        return [doubt for doubt in (self.brain.doubt, self.uncertainty) if doubt]


def segment_tissues(
    image,
    model: str | Segmenter = shipped.TISSUES,
    stripped: bool | None = None,
    stripper: Stripper | None = None,
    volume_index: int | None = None,
    window: tuple[float, float] | None = None,
    memory: float | None = None,
    refined: bool = True,
) -> TissueResult:
    """White matter, gray matter, fluid, deep gray matter and thalamus of a head or a brain.

    Args:
        image: NIfTI or MGZ file, or nibabel image, of any contrast and voxel size.
        model: "tissues", which ships with the package; the folder of a training or its file; or a
            ``Segmenter``.
        stripped, stripper: see ``brain_of``.
        volume_index, window, memory: see ``features_of``.
        refined: place the borders by the intensities of the scan, see ``refine``; without, they are
            those of the network.

    Raises:
        ValueError: the segmenter is of other labels or for slices, or the image is a single slice.
        ValueError, FileNotFoundError: as ``brain_of`` and ``Segmenter.segment``.

    Example:
        >>> import cifl_tf as cifl, nibabel
        >>> from cifl_tf.datasets import virtual_cohort
        >>> subject = virtual_cohort(1, resolution=4).subjects[0]
        >>> scan = nibabel.Nifti1Image(subject.image("T2w"), subject.affine)
        >>> found = cifl.segment_tissues(scan, stripped=True)
        >>> max(found.shares, key=found.shares.get) in ("white matter", "gray matter")
        True
    """
    segmenter = model if isinstance(model, Segmenter) else Segmenter.from_pretrained(model)
    check_tissues(segmenter)
    refuse_slice(
        read_grid(image).shape,
        image,
        "tissues are found",
        "or train a segmenter for slices with `cifl segment train`",
    )
    brain = brain_of(image, stripped, stripper, volume_index, window)
    found = segmenter.segment(brain.image, window=window, memory=memory)
    shown, known = found.image, np.array(found.probabilities.dataobj)
    del found  # or what is large would be there twice
    known[~brain.mask] = np.eye(known.shape[-1])[0]  # the network may see things at the border
    better = grid_of(shown, shown.shape, "the image").image(known)
    if refined:
        options = {"prior_weight": PRIOR_WEIGHT, "restrict": with_deep_between}
        better = refine_image(shown, better, window, **options)
    highest = known.max(axis=-1)[known.argmax(axis=-1) > 0]
    certainty = float(highest.mean()) if len(highest) else 0.0
    return TissueResult(segmenter.result(shown, better), brain, certainty)


def with_deep_between(means: np.ndarray) -> np.ndarray:
    """Mean intensities of tissues, those of deep gray matter about between white and gray matter.

    Without this, the thalamus of a brain with large ventricles can become fluid.

    Args:
        means: of ``TISSUES`` in their order.
    """
    low, high = means[:2].min(), means[:2].max()
    margin = DEEP_MARGIN * (high - low)
    return np.concatenate([means[:3], means[3:].clip(low - margin, high + margin)])


def check_tissues(segmenter: Segmenter) -> None:
    """Refuse a segmenter of other labels: their borders would be placed as those of tissues.

    Raises:
        ValueError: the segmenter is of other labels, or for slices.
    """
    labels = segmenter.label_names[1:]
    if len(segmenter.input_shape) != 5 or labels != (*TISSUES.values(),)[: len(labels)]:
        raise ValueError(
            f"the segmenter is of {', '.join(labels)}, not of tissues in volumes; give a model of "
            "scripts/train_tissues.py, or apply this one with `cifl segment apply` or "
            "Segmenter.segment"
        )
