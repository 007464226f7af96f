"""A virtual cohort: the MNI152 brain, deformed and rendered, with labels and no download."""

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

import nibabel
import numpy as np

from cifl_tf.datasets.cohorts import Cohort, make_cohort
from cifl_tf.datasets.mni152 import mni152_tissues
from cifl_tf.datasets.subjects import ImageSource, Subject
from cifl_tf.datasets.virtual_fields import (
    integrate,
    random_velocity,
    resize,
    sample,
    smooth_noise,
    warp,
)
from cifl_tf.images.volumes import read_volume

TABLE = {1: "WM", 2: "GM", 3: "CSF", 4: "THA"}
# Mean intensity of white matter, gray matter, fluid and thalamus, by contrast.
MEANS: dict[str, tuple[float, float, float, float]] = {
    "T1w": (0.85, 0.60, 0.22, 0.74),
    "T2w": (0.42, 0.56, 0.95, 0.48),
    "FLAIR": (0.54, 0.78, 0.15, 0.66),
    "PDw": (0.58, 0.78, 0.88, 0.68),
}
COARSE = 4.0  # mm: smooth fields are drawn on this grid, the same ones at every resolution
NUM_CACHED = 24  # deformed anatomies; each takes 5 MB at 2 mm, 40 MB at 1 mm


@dataclass(frozen=True)
class Variation:
    """How subjects of a virtual cohort differ; with all at 0 they are the MNI152 brain.

    Attributes:
        broad: SD of the velocity of the broad deformation, in mm; smoothed by 24 mm.
        fine: SD of the velocity of the fine deformation, in mm; smoothed by 9 mm.
        folding: SD of smooth noise (2.5 mm) on the log-odds of the tissues: where the template is
            undecided, as in the cortex, each subject is different.
        fluid: largest addition to the log-odds of fluid, in [0, fluid] by subject: atrophy.
        contrast: SD of the mean intensity of each tissue.
        bias: SD of the logarithm of the bias field, smoothed by 40 mm.
        noise: SD of the noise; white matter in T1w is at 0.85.
    """

    broad: float = 1.7
    fine: float = 1.3
    folding: float = 0.6
    fluid: float = 2.0
    contrast: float = 0.015
    bias: float = 0.06
    noise: float = 0.02


def virtual_cohort(
    num_subjects: int = 20,
    seed: int = 0,
    resolution: int = 2,
    variation: Variation | None = None,
) -> Cohort:
    """Subjects made from the tissue maps of the MNI152 brain that nilearn carries; no download.

    Each has the tissue maps under a random diffeomorphism of its own, further individual where
    the template is blurred, and labels white matter WM, gray matter GM, cerebrospinal fluid CSF and
    thalamus THA: the likeliest tissue at each voxel. The thalamus is an approximation, see
    ``mni152_tissues``. Images are skull-stripped T1w, T2w, FLAIR and PDw: mean intensities of the
    tissues in their known order, mixed by the probabilities (partial volume), times a bias field,
    plus Gaussian noise. Vessels, lesions, iron and thick slices are not there.

    A subject is made when it is asked for, in about a second at 2 mm. It depends on the seed
    and its number only, not on how many there are.

    Args:
        num_subjects: how many.
        seed: from 0; the same seed gives the same subjects.
        resolution: voxel size in mm, a whole number; (99, 117, 95) voxels at 2 mm.
        variation: how subjects differ; None for the default, ``Variation()``.

    Returns:
        Cohort of subjects "virtual-001" onwards, in MNI152 space.

    Raises:
        ValueError: an argument is not a whole number, or too small.

    Source: ICBM 152 nonlinear 2009 (Fonov et al., NeuroImage 2011).
    """
    for name, value, least in (
        ("num_subjects", num_subjects, 1),
        ("seed", seed, 0),
        ("resolution", resolution, 1),
    ):
        if not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"{name} is {value!r}: give a whole number from {least}")
    variation = variation or Variation()
    subjects = []
    for number in range(num_subjects):
        anatomy = partial(_anatomy, seed, number, resolution, variation)
        images: dict[str, ImageSource] = {
            contrast: partial(_render, anatomy, contrast, (seed, number, index), variation)
            for index, contrast in enumerate(MEANS, start=1)
        }
        subjects.append(
            Subject(f"virtual-{number + 1:03d}", images, partial(_label_map, anatomy), (0, *TABLE))
        )
    return make_cohort(subjects, TABLE)


def deformation(seed: int, number: int, resolution: int, variation: Variation) -> np.ndarray:
    """Displacement (3, x, y, z), in voxels, by which subject ``number`` pulls from the template."""
    shape = mni152_tissues(resolution).probabilities.shape[1:]
    coarse = _coarse_shape(shape, resolution)
    scales = ((24 / COARSE, variation.broad / COARSE), (9 / COARSE, variation.fine / COARSE))
    velocity = random_velocity(coarse, scales, np.random.default_rng((seed, number, 0)))
    return resize(integrate(velocity), shape, resolution / COARSE) * (COARSE / resolution)


class _Anatomy(NamedTuple):
    """Where the brain of a subject is, (x, y, z), and its tissues there, (4, voxels)."""

    brain: np.ndarray
    probabilities: np.ndarray
    affine: np.ndarray


@lru_cache(maxsize=NUM_CACHED)
def _anatomy(seed, number, resolution, variation):
    """Deform the template."""
    template, affine = mni152_tissues(resolution)
    displacement = deformation(seed, number, resolution, variation)
    brain = warp(template.sum(0), displacement) > 0.5
    places = np.stack(np.nonzero(brain)) + displacement[:, brain]
    warped = np.stack([sample(tissue, places) for tissue in template])
    before = warped.sum(0)
    random = np.random.default_rng((seed, number, len(MEANS) + 1))
    coarse = _coarse_shape(brain.shape, resolution)
    # The thalamus has no folds: the last tissue keeps its odds.
    odds = [variation.folding * smooth_noise(coarse, 2.5 / COARSE, random) for _ in range(3)]
    odds[2] += variation.fluid * random.random()
    warped[:3] *= np.exp(resize(np.stack(odds), brain.shape, resolution / COARSE)[:, brain])
    return _Anatomy(brain, warped * (before / warped.sum(0)), affine)


def _label_map(anatomy):
    brain, probabilities, _ = anatomy()
    labels = np.zeros(brain.shape, np.int32)
    labels[brain] = 1 + probabilities.argmax(0)
    return labels


def _render(anatomy, contrast, seed, variation):
    """Return one image of a subject as a volume."""
    brain, probabilities, affine = anatomy()
    random = np.random.default_rng(seed)
    means = np.array(MEANS[contrast]) + variation.contrast * random.standard_normal(4)
    values = means.astype(np.float32) @ probabilities
    resolution = abs(affine[0, 0])
    coarse = _coarse_shape(brain.shape, resolution)
    bias = variation.bias * smooth_noise(coarse, 40 / COARSE, random)
    values *= np.exp(resize(bias[None], brain.shape, resolution / COARSE)[0, brain])
    values += variation.noise * random.standard_normal(brain.shape, dtype=np.float32)[brain]
    image = np.zeros(brain.shape, np.float32)
    image[brain] = np.maximum(values, 1e-3)
    return read_volume(nibabel.Nifti1Image(image, affine))


def _coarse_shape(shape, resolution):
    """Sizes of the coarse grid over the same voxels, with one to spare."""
    return tuple(int(np.ceil((size - 1) * resolution / COARSE)) + 2 for size in shape)
