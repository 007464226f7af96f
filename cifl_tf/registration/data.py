"""Pairs of subjects for the training of a registration network."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from nibabel.affines import voxel_sizes

from cifl_tf._notes import note
from cifl_tf._random_keys import WHOLE, Share, key_of, split_key, uniform
from cifl_tf.augmentation.spatial import SpatialAugmentation
from cifl_tf.datasets import Cohort
from cifl_tf.datasets.stored import Rows, reader
from cifl_tf.synthesis.shapes import shape_maps

NUM_SHAPES = 16  # labels of the maps of random shapes


def pair_data(
    images: Rows,
    labels: Rows | None,
    names,
    num_labels: int,
    batch_size: int,
    augmentation=None,
    seed: int = 0,
    start: int = 0,
    share: Share = WHOLE,
) -> tf.data.Dataset:
    """Endless batches of random ordered pairs of different subjects, for ``fit``.

    A batch depends on its number and the seed only, so that a training can go on anywhere.

    Args:
        images: float32 (n, *spatial, 1), intensities in [0, 1], as many of every subject; image i
            of one is paired with image i of another; also on disk.
        labels: integers (n, *spatial, 1), or None.
        names: of the subject of each image, (n,).
        num_labels: labels, the background 0 included.
        batch_size: pairs per batch.
        augmentation: a ``SpatialAugmentation`` for both images of a pair alike, or None.
        seed: of order and augmentation.
        start: number of the first batch, to go on where an earlier run ended.
        share: which part of each batch to make; ``batch_size`` is that of the part then.

    Returns:
        Elements ``((moving, fixed),)``, or with labels, one-hot, ``((moving, fixed),
        (moving_labels, fixed_labels))``.

    Raises:
        ValueError: fewer than two subjects, or not as many images of each.
    """
    positions = _positions(names)
    offsets = range(1, len(positions))
    pairs = tf.constant(np.concatenate([_moved_onto(positions, offset) for offset in offsets]))

    gather = _gather(images, labels, num_labels, augmentation)

    def draw(step, part):
        which, changes = (share.key(key_of(seed, stream, step), part) for stream in (0, 1))
        chosen = uniform([batch_size], which, maxval=len(pairs), dtype=tf.int64)
        return gather(tf.gather(pairs, chosen), changes)

    return share.turns(start).map(draw, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)


def validation_pairs(
    images: Rows, labels: Rows | None, names, num_labels: int, batch_size: int
) -> tf.data.Dataset:
    """Batches of each subject moved onto the next one, the last onto the first.

    Args:
        images, labels, names, num_labels, batch_size: as for ``pair_data``.

    Returns:
        As ``pair_data``, but each pair once.
    """
    data = tf.data.Dataset.from_tensor_slices(_moved_onto(_positions(names), 1)).batch(batch_size)
    return data.map(_gather(images, labels, num_labels, None)).prefetch(2)


def shape_pairs(
    shape: Sequence[int], batch_size: int, seed: int = 0, start: int = 0, share: Share = WHOLE
) -> tf.data.Dataset:
    """Endless batches of pairs of label maps: random shapes, deformed in two ways.

    Args:
        shape: two or three sizes in voxels.
        batch_size: pairs per batch.
        seed: of shapes and deformations.
        start: number of the first batch, to go on where an earlier run ended.
        share: see ``pair_data``.

    Returns:
        Elements as ``pair_data`` with labels, with ``NUM_SHAPES`` of them, and images of zeros.
    """
    deform = SpatialAugmentation()
    maps = shape_maps(shape, NUM_SHAPES, seed=seed, indices=share.examples(start, batch_size))

    def pair(turn, maps):
        step, part = turn
        blank = tf.zeros_like(maps, tf.float32)
        keys = split_key(share.key(key_of(seed, 1, step), part), 2)
        deformed = (deform(blank, maps, seed=key)[1] for key in keys)
        return (blank, blank), tuple(tf.one_hot(one[..., 0], NUM_SHAPES) for one in deformed)

    data = tf.data.Dataset.zip((share.turns(start), maps.batch(batch_size)))
    return data.map(pair, num_parallel_calls=tf.data.AUTOTUNE)


def synthetic_pairs(
    pairs: tf.data.Dataset, paint: Callable, seed: int = 0, start: int = 0, share: Share = WHOLE
) -> tf.data.Dataset:
    """The pairs with images that are made from their label maps, each in a random contrast.

    So a network learns to align what has the same label, whatever the contrast (Hoffmann et al.,
    SynthMorph, IEEE Transactions on Medical Imaging 2022).

    Args:
        pairs: batches as those of ``pair_data`` with labels; their images go.
        paint: see ``label_painter``.
        seed: of the contrasts.
        start: number of the first batch.
        share: that of the pairs.
    """

    def painted(turn, element):
        step, part = turn
        _, labels = element
        maps = [tf.argmax(one, axis=-1, output_type=tf.int32)[..., None] for one in labels]
        keys = split_key(share.key(key_of(seed, 2, step), part), 2)
        images = [paint(one, seed=key) for one, key in zip(maps, keys, strict=True)]
        return tuple(images), labels

    data = tf.data.Dataset.zip((share.turns(start), pairs))
    data = data.map(painted, num_parallel_calls=tf.data.AUTOTUNE)
    return data.prefetch(2)


def warn_of_different_spaces(cohort: Cohort) -> None:
    """Warn where subjects do not lie in one space, as pairs are not aligned before."""
    first = cohort.subjects[0]
    size = voxel_sizes(first.affine).max()
    apart = {subject.name: float(np.abs(subject.affine - first.affine).max()) for subject in cohort}
    far = {name: distance for name, distance in apart.items() if distance > size}
    if far:
        names = list(far)
        note(
            f"{len(far)} subjects, such as {names[0]}, do not lie in the space of {first.name}: "
            f"their affines differ by up to {max(far.values()):.0f} mm. Pairs are taken as they "
            "are, not aligned; bring the images to one space first"
        )


def _positions(names):
    """Positions (subjects, images per subject) of the images of each subject."""
    subjects = list(dict.fromkeys(names))
    found = [np.flatnonzero(np.asarray(names) == subject) for subject in subjects]
    counts = {len(positions) for positions in found}
    if len(subjects) < 2 or len(counts) > 1:
        raise ValueError(
            f"there are {len(subjects)} subjects with {sorted(counts)} images; give at least two, "
            "with as many images each"
        )
    return np.stack(found)


def _moved_onto(positions, offset):
    """Positions (n, 2) of the images of each subject, and of the one that many further on."""
    return np.stack([positions, np.roll(positions, -offset, axis=0)], axis=-1).reshape(-1, 2)


def _gather(images, labels, num_labels, augmentation):
    """The function from positions (batch, 2), and a seed, to an element of a dataset."""
    read = reader(images)
    read_labels = None if labels is None else reader(labels)

    def gather(pairs, seed=None):
        # One beside the other as channels, so that both are deformed alike.
        moving, fixed = tf.unstack(pairs, axis=1)
        both = tf.concat([read(moving), read(fixed)], axis=-1)
        # TensorFlow leaves out what nobody asks for: without labels nothing but images is warped.
        maps = tf.zeros_like(both[..., :2])
        if read_labels is not None:
            maps = tf.concat([read_labels(moving), read_labels(fixed)], axis=-1)
        if augmentation is not None:
            both, maps = augmentation(both, maps, seed=seed)
        moving_and_fixed = tuple(tf.split(both, 2, axis=-1))
        if read_labels is None:
            return (moving_and_fixed,)
        one_hot = tf.one_hot(maps, num_labels)
        return moving_and_fixed, (one_hot[..., 0, :], one_hot[..., 1, :])

    return gather
