"""Training images of a tissue network: brains of random shape and contrast, without skull."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import tensorflow as tf

from cifl_tf.stripping.examples import HeadVariation, rendered, smooth_field, variants, vary_head
from cifl_tf.stripping.heads import NUM_REGIONS, OUTSIDE, Head

EXACT = 0.5  # share of the examples whose border is that of the brain
BORDER_MEAN = -4.0, 2.0  # mm by which that of the others lies farther out: masks without fluid
BORDER_STD = 1.5  # mm, of the place from point to point
BORDER_SCALE = 8.0  # voxels between its independent points

# Brains fill the field of view, as those do that are cut out of a scan.
VARIATION = HeadVariation(
    shape=(72, 88, 72),
    voxel_size=2.0,
    degrees=20,
    shift=6,
    bend_std=4,
    bend_scale=30,
    cut=0.15,
    stripped=0,
    neck=0,
    scans=0.3,
    atrophy=3.0,
)


def brain_examples(
    brains: Sequence[Head], variation: HeadVariation = VARIATION, seed: int = 0, start: int = 0
) -> tf.data.Dataset:
    """Pairs without an end of an image (1, x, y, z, 1) in [0, 1] and its tissues, as float32.

    Args:
        brains: of ``read_head`` with labels; one is drawn for every example.
        variation: what changes them.
        seed: the same seed gives the same examples.
        start: number of the first example.
    """
    made = partial(variants, vary_brain, brains, variation, seed, start)
    return rendered(made, variation, seed)


def vary_brain(
    brains: Sequence[Head], variation: HeadVariation, rng: np.random.Generator, index: int = 0
) -> dict[str, np.ndarray]:
    """One brain of random shape and place, before it has a contrast; see ``vary_head``.

    Its border is now and then where a brain extractor may see it: a rim of the brain is missing,
    or something of its surroundings is left.
    """
    example = vary_head(brains, variation, rng, index)
    border = np.zeros(variation.shape, np.float32)
    if rng.random() > EXACT:
        border += rng.uniform(*BORDER_MEAN)
        border += rng.uniform(0, BORDER_STD) * smooth_field(rng, variation.shape, BORDER_SCALE)
    seen = example["seen"] * (example["target"] < border[..., None])
    tissues = np.maximum(example["regions"] % NUM_REGIONS - OUTSIDE, 0)
    return {
        **example,
        "seen": seen.astype(np.float32),
        "target": (tissues * (seen > 0)).astype(np.float32),
    }
