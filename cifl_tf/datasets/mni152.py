"""The MNI152 brain that nilearn carries: no download."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from cifl_tf.images.intensity import rescale_intensity
from cifl_tf.images.volumes import plane_axis

# Spheroids, one per side, in mm of MNI152 space: x is that of the right side.
THALAMUS_CENTER = (12.5, -18.0, 7.0)
THALAMUS_AXIS = (-0.4, 0.87, 0.28)  # the long one, from the pulvinar forwards and to the midline
THALAMUS_HALF_LENGTH, THALAMUS_RADIUS = 15.5, 9.0
THALAMUS_EDGE = 2.0  # mm over which its probability falls from 0.73 to 0.27


class TissueMaps(NamedTuple):
    """Tissue probabilities on one grid.

    Attributes:
        probabilities: float32 (4, x, y, z), white matter, gray matter, cerebrospinal fluid and
            thalamus. Their sum is 1 inside the brain and 0 outside.
        affine: (4, 4), voxels to mm.
    """

    probabilities: np.ndarray
    affine: np.ndarray


def mni152_slice(plane: str = "coronal") -> tuple[np.ndarray, np.ndarray]:
    """Middle slice of the skull-stripped MNI152 T1 brain that nilearn carries, at 1 mm.

    Returns:
        float32 intensities (x, y) in [0, 1], and the boolean brain mask.

    Raises:
        ValueError: there is no such plane.

    Example:
        >>> import cifl_tf as cifl
        >>> brain, mask = cifl.mni152_slice("axial")
        >>> brain.shape, mask.dtype
        ((197, 233), dtype('bool'))
    """
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_template  # slow to import

    axis = plane_axis(plane)
    brain, mask = (
        np.take(image.get_fdata(), image.shape[axis] // 2, axis)
        for image in (load_mni152_template(resolution=1), load_mni152_brain_mask(resolution=1))
    )
    return rescale_intensity(brain), mask > 0


@lru_cache(maxsize=2)
def mni152_tissues(resolution: int = 2) -> TissueMaps:
    """Probabilities of white matter, gray matter, cerebrospinal fluid and thalamus.

    White and gray matter are the ICBM 152 (2009) templates in nilearn; what they leave of the brain
    mask is cerebrospinal fluid. nilearn has no map of the thalamus: it is **approximated** by a
    spheroid per side, half axes 15.5, 9 and 9 mm, center 12.5 mm from the midline, with an edge
    2 mm wide, that takes its share of the white and gray matter there but no fluid. It has the
    place and the size of a thalamus (about 5 cm³ a side), not its form.

    Args:
        resolution: voxel size in mm, a whole number.
    """
    from nilearn import datasets  # slow to import

    image = datasets.load_mni152_gm_template(resolution=resolution)
    gray = image.get_fdata().clip(0, 1)
    white = datasets.load_mni152_wm_template(resolution=resolution).get_fdata().clip(0, 1)
    brain = datasets.load_mni152_brain_mask(resolution=resolution).get_fdata() > 0
    # The two templates reach a little beyond the mask, and in places their sum beyond 1.
    excess = np.maximum(gray + white, 1)
    gray, white = brain * gray / excess, brain * white / excess
    fluid = brain - gray - white
    thalamus = _thalamus(image.shape, image.affine)
    maps = (white * (1 - thalamus), gray * (1 - thalamus), fluid, (white + gray) * thalamus)
    probabilities = np.stack(maps).astype(np.float32).clip(0, 1)
    probabilities.setflags(write=False)
    return TissueMaps(probabilities, image.affine)


def _thalamus(shape, affine):
    """Return the probability of the thalamus, of both sides."""
    voxels = np.moveaxis(np.indices(shape), 0, -1)
    offset = voxels @ affine[:3, :3].T + affine[:3, 3]
    offset[..., 0] = np.abs(offset[..., 0])
    offset -= THALAMUS_CENTER
    along = offset @ np.divide(THALAMUS_AXIS, np.linalg.norm(THALAMUS_AXIS))
    across = (offset**2).sum(-1) - along**2
    radius = np.sqrt((along / THALAMUS_HALF_LENGTH) ** 2 + across / THALAMUS_RADIUS**2)
    outwards = (radius - 1) * THALAMUS_RADIUS
    return 1 / (1 + np.exp(np.clip(2 * outwards / THALAMUS_EDGE, -50, 50)))
