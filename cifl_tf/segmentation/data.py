"""Training data of segmenters."""

import itertools
import math
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from cifl_tf._random_keys import WHOLE, Share, key_of
from cifl_tf.augmentation.patches import RandomPatch
from cifl_tf.datasets import Cohort
from cifl_tf.datasets.stored import Rows, batches, kept_rows, reader, training_arrays
from cifl_tf.features.frozen import FrozenFeatures
from cifl_tf.segmentation.config import SegmentationConfig

LARGEST_TILE = 128  # voxels along an axis, of volumes on which a training is validated


def training_data(
    images: Rows,
    labels: Rows,
    batch_size: int,
    augmentation=None,
    intensity=None,
    seed: int = 0,
    render=None,
    patch: int | None = None,
    start: int = 0,
    strip=None,
    share: Share = WHOLE,
) -> tf.data.Dataset:
    """Endless, shuffled, augmented batches for ``fit``.

    A batch depends on its number and the seed only, so that a training can go on anywhere.

    Args:
        images: (n, *spatial, 1), intensities in [0, 1], or features (n, *spatial, C); also on disk.
        labels: integers (n, *spatial, 1).
        batch_size: images per batch.
        augmentation: a ``SpatialAugmentation``, or None.
        intensity: an ``IntensityAugmentation`` after it, or None.
        seed: of order and augmentation.
        render: gives the images from the augmented label maps and a seed in place of those given,
            for training on synthetic images (Billot et al., SynthSeg, Medical Image Analysis 2023);
            such as ``PairSynthesizer.render``.
        patch: size in voxels of random patches in place of whole images, see ``RandomPatch``; only
            patches are deformed then.
        start: number of the first batch, to go on where an earlier run ended.
        strip: a ``RandomStrip``, or None.
        share: which part of each batch to make; ``batch_size`` is that of the part then.

    Returns:
        Elements (images in float32, labels).

    Raises:
        ValueError: the images are smaller than a patch.
    """
    count, shape = len(images), images.shape[1:-1]
    read = reader(images), reader(labels)
    # Each with the number of its stream of random numbers; ``render`` has the one left out.
    changes = [(1, augmentation), (2, intensity), (4, strip)]
    cut = None
    if patch is not None:
        cut = RandomPatch(patch) if augmentation else RandomPatch(patch, margin=0)
        cut.check_fits(shape)
        # The look first: it scales by the highest intensity of the whole image.
        changes = [(1, intensity), (2, cut), (3, augmentation), (5, strip)]

    def choose(index):
        # Every image once before any comes again, in an order of its own each time.
        order = key_of(seed, 0, index // count)
        return tf.random.experimental.stateless_shuffle(tf.range(count), order)[index % count]

    def load(turn, chosen):
        return turn, *(rows(chosen) for rows in read)

    def key(stream, turn):
        step, part = turn
        return share.key(key_of(seed, stream, step), part)

    def changed(change, stream, turn, images, labels):
        return turn, *change(images, labels, seed=key(stream, turn))

    def finished(turn, images, labels):
        if cut is not None:
            images, labels = cut.trimmed(images, labels)
        if render is not None:
            images = render(labels, seed=key(3 if cut is None else 4, turn))
        return tf.cast(images, tf.float32), labels

    chosen = share.examples(start, batch_size).map(choose).batch(batch_size)
    data = tf.data.Dataset.zip((share.turns(start), chosen)).map(load)
    for stream, change in changes:
        if change is not None:
            change = partial(changed, change, stream)
            data = data.map(change, num_parallel_calls=tf.data.AUTOTUNE)
    return data.map(finished).prefetch(2)


def validation_data(
    images: Rows, labels: Rows, batch_size: int, tiled: bool = True
) -> tf.data.Dataset:
    """All images and their labels once; large volumes in tiles, which cover them without overlap.

    Args:
        images, labels: as for ``training_data``.
        batch_size: images per batch.
        tiled: False leaves all volumes whole.

    Returns:
        Elements (images, labels).
    """
    data, shape = batches(images, labels, batch_size), images.shape[1:-1]
    spans = [
        np.array_split(np.arange(size), math.ceil(size / LARGEST_TILE)) if len(shape) == 3 else []
        for size in shape
    ]
    tiles = [*itertools.product(*spans)]
    if len(tiles) < 2 or not tiled:
        return data
    begins, sizes = (
        np.array([[function(span) for span in tile] for tile in tiles]) for function in (min, len)
    )

    def cut(images, labels):
        def tile(begin, size):
            return tuple(
                tf.slice(one, [0, *tf.unstack(begin), 0], [-1, *tf.unstack(size), -1])
                for one in (images, labels)
            )

        return tf.data.Dataset.from_tensor_slices((begins, sizes)).map(tile)

    count = len(tiles) * int(data.cardinality())
    return data.flat_map(cut).apply(tf.data.experimental.assert_cardinality(count)).prefetch(1)


def cache_features(
    extract: FrozenFeatures, data: tf.data.Dataset, count: int, folder: Path, quiet: bool = False
) -> tuple[Rows, np.ndarray]:
    """Features of the first images of a dataset, kept in half precision.

    Args:
        extract: of the segmenter.
        data: batches of one image and its labels, as those of ``training_data``.
        count: how many images.
        folder: for a file of the features, where they would fill the memory.
        quiet: show no progress bar.

    Returns:
        Features (count, *spatial, C), float16, and labels (count, *spatial, 1).
    """
    image, label = data.element_spec
    shape = (count, *image.shape[1:-1], extract.num_features)
    labels = np.empty((count, *label.shape[1:]), label.dtype.as_numpy_dtype)
    encode = tf.function(extract)
    bar = tqdm(data.take(count), "encoding", count, unit="image", disable=quiet or None)

    def features():
        for index, (image, label) in enumerate(bar):
            labels[index] = label[0]
            yield encode(image)[0].numpy()

    return kept_rows(features(), shape, "float16", folder), labels


def cohort_arrays(
    cohort: Cohort, contrast: str, config: SegmentationConfig, folder: Path
) -> tuple[Rows, Rows]:
    """Images (n, *spatial, 1) in [0, 1] and labels (n, *spatial, 1) of a cohort.

    Slices for ``config.ndim`` 2, whole volumes for 3. All subjects have one shape. See
    ``training_arrays``, also for ``folder``.
    """
    images, labels, _ = training_arrays(config.view, cohort, contrast, folder)
    return images, labels


def _coverage(cohort, config):
    return config.view.coverage(cohort, config.contrast)
