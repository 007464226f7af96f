"""Whether a registration is likely right: how far features and foregrounds agree after it."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from cifl_tf.images.grid import grid_at
from cifl_tf.images.intensity import air_mask
from cifl_tf.images.volumes import Volume
from cifl_tf.metrics import dice
from cifl_tf.registration.affine import Affine
from cifl_tf.registration.displacement_field import Displacement

LEAST_SIMILARITY = 0.2  # correlation of features, below which hardly any pair is registered
NO_LOSS = 0.03  # of similarity: scans that were aligned before do not gain
LEAST_OVERLAP = 0.85  # Dice of the foregrounds: right pairs have 0.94, 20 mm beside them 0.82
BEYOND = 2  # label of what the moving scan does not hold


def foreground_overlap(
    moving: Volume, fixed: Volume, displacement: Displacement, moving_mask=None, fixed_mask=None
) -> float | None:
    """Dice of what two scans show, see ``air_mask``, after a registration, in [0, 1].

    Of the grid of the displacement, only what the moving scan holds counts.

    Args:
        moving: the scan that is warped.
        fixed: the scan it is warped to.
        displacement: between them.
        moving_mask: image that is not 0 where the moving scan counts, on any grid; None for
            everywhere.
        fixed_mask: the same of the fixed scan.

    Returns:
        None where the border of a scan without a mask shows no air.
    """
    foregrounds = _foreground(moving, moving_mask), _foreground(fixed, fixed_mask)
    if any(each.data.all() for each in foregrounds):
        return None
    transforms = displacement, Displacement.identity(displacement.grid)
    carried, shown = (
        np.asarray(transform.apply(foreground, "nearest", BEYOND).dataobj)
        for transform, foreground in zip(transforms, foregrounds, strict=True)
    )
    held = carried != BEYOND
    # Where nothing is left to compare, Dice is NaN, and the scans lie apart.
    return float(np.nan_to_num(dice(carried[held], shown[held], [1])[0]))


def _foreground(volume, mask):
    """A label map: 1 where a scan shows something inside its mask."""
    shown = ~air_mask(volume.data)
    if mask is not None:
        shown &= Affine.identity().apply_mask(mask, grid_at(volume.affine, shown.shape))
    return replace(volume, data=shown.astype(np.uint8))


def matrix_doubts(affine: Affine, before: float, after: float) -> Iterator[str]:
    """What makes the alignment of two scans doubtful, in words.

    Args:
        affine: that was found.
        before: similarity before it, see ``AffineResult``.
        after: after it.
    """
    scales = np.linalg.svd(affine.matrix[:3, :3], compute_uv=False)
    if after < max(LEAST_SIMILARITY, before - NO_LOSS):
        yield (
            f"the features of both scans agree by {after:.2f} after the alignment, and by "
            f"{before:.2f} before: look at the result, or give --initial or masks"
        )
    if not 0.5 < scales.min() <= scales.max() < 2:
        yield (
            f"the alignment scales by {scales.min():.2f} to {scales.max():.2f}: look at the "
            "result, or give --stages rigid, --initial or masks"
        )


def warp_doubts(before: float, after: float) -> Iterator[str]:
    """What makes a deformable registration doubtful, in words.

    Args:
        before: similarity before it, see ``feature_similarity``.
        after: after it.
    """
    if after <= before:
        yield (
            f"the features of both scans agree by {after:.2f} after the deformable stage, and by "
            f"{before:.2f} before: look at the result, strip both skulls, or give masks"
        )


def overlap_doubts(overlap: float) -> Iterator[str]:
    """What makes a whole registration doubtful, in words.

    Args:
        overlap: see ``foreground_overlap``.
    """
    if overlap < LEAST_OVERLAP:
        yield (
            f"what the scans show overlaps by a Dice of only {overlap:.2f}: look at the result, "
            "strip both skulls, or give --initial or masks"
        )
