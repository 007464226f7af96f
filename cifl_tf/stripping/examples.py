"""Training images of a stripper: heads of random shape, contrast, thickness and field of view."""

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import tensorflow as tf
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from cifl_tf._random_keys import key_of
from cifl_tf.augmentation.intensity import IntensityAugmentation
from cifl_tf.datasets.virtual_fields import resize
from cifl_tf.stripping.heads import FLUID, INSIDE, NUM_REGIONS, OUTSIDE, Head
from cifl_tf.synthesis.appearance import Appearance
from cifl_tf.synthesis.pairs import label_painter

# Voxels are large in training, so that blur in voxels is less than elsewhere.
APPEARANCE = Appearance(
    noise_std=(0.0, 25.0),
    zero_background=0.6,
    blur_std=(0.0, 0.8),
    thickness_std=1.5,
    bias_scale=25,
)
SCAN_CHANGES = IntensityAugmentation(
    bias_std=0.3, bias_scale=25, thickness_std=1.2, noise_std=0.05, random_contrast=0.8
)
PIECE_SCALE = 10.0  # voxels between the independent points of what splits a region in two
RENDERING = 30  # a stream of random numbers


@dataclasses.dataclass(frozen=True)
class HeadVariation:
    """What makes many heads out of a few; every range is uniform.

    Attributes:
        shape: of an example, three sizes in voxels.
        voxel_size: mm.
        degrees: highest angle of the rotation.
        shift: highest distance in mm of the brain from the middle, along each axis.
        log_size: lowest and highest logarithm of the size.
        log_stretch: SD of the logarithm of a further change of each axis.
        bend_std: highest SD in mm of a smooth displacement.
        bend_scale: distance in mm between its independent points.
        cut: share of the examples whose field of view ends within the head.
        stripped: share of the examples that show the brain alone.
        neck: share of the examples with a long neck.
        scans: share of the examples that keep the structure of the scan itself.
        atrophy: most mm of tissue that becomes fluid where it borders on fluid, where tissues are
            known, in examples that do not keep the structure of the scan.
    """

    shape: tuple[int, int, int] = (64, 80, 72)
    voxel_size: float = 3.0
    degrees: float = 25.0
    shift: float = 30.0
    log_size: tuple[float, float] = (-0.25, 0.15)
    log_stretch: float = 0.07
    bend_std: float = 5.0
    bend_scale: float = 36.0
    cut: float = 0.4
    stripped: float = 0.12
    neck: float = 0.6
    scans: float = 0.4
    atrophy: float = 0.0

    @classmethod
    def of_voxel_size(cls, voxel_size: float) -> "HeadVariation":
        """The same field of view in voxels of another size in mm."""
        shape = np.round(np.multiply(cls.shape, cls.voxel_size / voxel_size)).astype(int)
        return cls(tuple(shape.tolist()), voxel_size)


def head_examples(
    heads: Sequence[Head], variation: HeadVariation, seed: int = 0, start: int = 0
) -> tf.data.Dataset:
    """Pairs without an end of an image (1, x, y, z, 1) in [0, 1] and its signed distance in mm.

    Args:
        heads: one is drawn for every example.
        variation: what changes them.
        seed: the same seed gives the same examples.
        start: number of the first example.
    """
    return rendered(partial(variants, vary_head, heads, variation, seed, start), variation, seed)


def rendered(made, variation: HeadVariation, seed: int) -> tf.data.Dataset:
    """Images of random contrast with their targets.

    Args:
        made: gives an iterator of dictionaries as those of ``vary_head``.
        variation: theirs.
        seed: of the contrasts.
    """
    shape = (*variation.shape, 1)
    paint = label_painter(variation.shape, 2 * NUM_REGIONS, APPEARANCE)
    spec = {
        "regions": tf.TensorSpec(shape, tf.int32),
        "scan": tf.TensorSpec(shape, tf.float32),
        "target": tf.TensorSpec(shape, tf.float32),
        "seen": tf.TensorSpec(shape, tf.float32),
        "is_scan": tf.TensorSpec((), tf.bool),
        "index": tf.TensorSpec((), tf.int64),
    }

    def render(example):
        key = key_of(seed, RENDERING, example["index"])
        if_scan, if_regions = example["scan"][None], example["regions"][None]
        image = tf.cond(
            example["is_scan"],
            lambda: SCAN_CHANGES(if_scan, None, key)[0],
            lambda: paint(if_regions, key),
        )
        return image * example["seen"], example["target"][None]

    data = tf.data.Dataset.from_generator(made, output_signature=spec)
    return data.map(render, num_parallel_calls=1).prefetch(2)


def variants(vary, heads, variation, seed: int, start: int) -> Iterator[dict]:
    """What a function such as ``vary_head`` gives for one number after the other."""
    index = start
    while True:
        yield vary(heads, variation, np.random.default_rng([seed, index]), index)
        index += 1


def vary_head(
    heads: Sequence[Head], variation: HeadVariation, rng: np.random.Generator, index: int = 0
) -> dict[str, np.ndarray]:
    """One head of random shape and place, before it has a contrast; see ``head_examples``."""
    head = heads[int(rng.integers(len(heads)))]
    points, size = _places(head, variation, rng)
    distance = map_coordinates(head.distance, points, order=1, mode="nearest")
    # Scans of heads end at different heights of the neck: below the lowest slice there is either
    # nothing, or this slice over and over.
    below = -head.voxel_size * points[2]
    distance = size * np.maximum(distance, below)
    if rng.random() < variation.neck:
        points[2] = np.maximum(points[2], 0)
    regions = map_coordinates(head.regions, points, order=0)
    scan = map_coordinates(head.image, points, order=1)
    is_scan = rng.random() < variation.scans
    if variation.atrophy > 0 and not is_scan and head.depth is not None:
        lost = rng.uniform(0, variation.atrophy) * _around_1(rng, variation.shape)
        depth = size * map_coordinates(head.depth, points, order=1, mode="nearest")
        regions[(regions > OUTSIDE) & (depth < lost)] = FLUID
    if rng.random() < variation.stripped:
        regions[regions <= OUTSIDE] = 0
        scan[distance > 0] = 0
    # Every region is one of two pieces from place to place, with contrasts of their own.
    split = np.concatenate([[False], rng.random(OUTSIDE + INSIDE) < 0.5])
    piece = (smooth_field(rng, variation.shape, PIECE_SCALE) > 0) & split[regions]
    seen = np.ones(variation.shape, np.float32)
    if rng.random() < variation.cut:
        seen, beyond = _field_of_view(variation, rng)
        # What is not seen is no brain, so that the network does not learn to see brain in air.
        distance = np.maximum(distance, beyond)
    return {
        "regions": (regions + NUM_REGIONS * piece).astype(np.int32)[..., None],
        "scan": scan.astype(np.float32)[..., None],
        "target": distance.astype(np.float32)[..., None],
        "seen": seen[..., None],
        "is_scan": np.bool_(is_scan),
        "index": np.int64(index),
    }


def _field_of_view(variation, rng):
    """A random box, 1 inside, and the distance in mm to its border, negative inside."""
    ends = []
    for axis, length in enumerate(variation.shape):
        first, last = (min(int(rng.exponential(0.08) * length), length // 3) for _ in range(2))
        place = np.arange(length).reshape([-1 if each == axis else 1 for each in range(3)])
        ends.append(np.maximum(first - 0.5 - place, place - (length - last - 0.5)))
    beyond = variation.voxel_size * np.maximum(np.maximum(ends[0], ends[1]), ends[2])
    return (beyond < 0).astype(np.float32), beyond


def _places(head, variation, rng):
    """Voxels (3, x, y, z) of a head for those of an example, and by how much distances grow."""
    size = np.exp(rng.uniform(*variation.log_size))
    stretch = size * np.exp(rng.normal(0, variation.log_stretch, 3))
    angles = rng.uniform(-variation.degrees, variation.degrees, 3)
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    middle = (np.array(variation.shape) - 1) / 2
    shift = rng.uniform(-variation.shift, variation.shift, 3)
    places = np.moveaxis(np.indices(variation.shape), 0, -1) - middle
    places = places * variation.voxel_size - shift
    # Mirrored heads are heads.
    flip = np.diag([rng.choice([-1.0, 1.0]), 1, 1])
    places = (places @ turn @ flip) / stretch
    spread = rng.uniform(0, variation.bend_std)
    scale = variation.bend_scale / variation.voxel_size
    places += np.stack(
        [spread * smooth_field(rng, variation.shape, scale) for _ in range(3)], axis=-1
    )
    center = np.argwhere(head.distance < 0).mean(axis=0)
    return np.moveaxis(places / head.voxel_size + center, -1, 0), size


def _around_1(rng, shape):
    """A smooth field between 0 and 2."""
    return np.clip(1 + 0.5 * smooth_field(rng, shape, PIECE_SCALE), 0, 2)


def smooth_field(rng, shape, scale):
    """A smooth field of SD about 1, with independent points this many voxels apart."""
    coarse = rng.normal(size=[int(np.ceil(length / scale)) + 3 for length in shape])
    return resize(coarse[None].astype(np.float32), shape, 1 / scale)[0]
