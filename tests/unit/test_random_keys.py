"""The parts of a batch that several machines make are the batch that one makes."""

import numpy as np
import pytest
import tensorflow as tf

from cifl_tf._random_keys import WHOLE, Share, as_key, key_of, normal, split_key, uniform
from cifl_tf.augmentation.intensity import IntensityAugmentation
from cifl_tf.augmentation.spatial import SpatialAugmentation
from cifl_tf.augmentation.stripping import RandomStrip
from cifl_tf.registration.data import pair_data, shape_pairs, synthetic_pairs
from cifl_tf.segmentation.data import training_data
from cifl_tf.synthesis.pairs import PairSynthesizer, label_painter
from cifl_tf.synthesis.shapes import shape_maps

# Two machines with two replicas each.
PARTS = [Share(pipeline, 2, 2) for pipeline in range(2)]
START, STEPS, SIZE = 3, 2, 6
SHAPE = (24, 20)


def batches(data, count):
    return [tf.nest.flatten(element) for element in data.take(count)]


def assert_parts_are_the_whole(make):
    """``make(batch_size, share)`` gives the same arrays in parts as in one piece."""
    whole = batches(make(4 * SIZE, WHOLE), STEPS)
    parts = [batches(make(SIZE, share), 2 * STEPS) for share in PARTS]
    for step, expected in enumerate(whole):
        # The replicas of a machine take turns.
        turns = [part[2 * step + replica] for part in parts for replica in range(2)]
        for found, value in zip(zip(*turns, strict=True), expected, strict=True):
            np.testing.assert_allclose(np.concatenate(found), value, atol=1e-5)
        assert all(np.ptp(np.asarray(value)) > 0 for value in expected)


@pytest.fixture
def images(rng):
    labels = np.kron(rng.integers(0, 4, (10, 6, 5, 1)), np.ones((1, 4, 4, 1), int))
    return rng.uniform(0.1, 1, labels.shape).astype(np.float32), labels


def test_draws():
    key = key_of(5, 1, 2)
    for draw in (normal, uniform):
        expected = draw([6, 3], key).numpy()
        parts = [draw([2, 3], Share(num_pipelines=3).key(key, part)).numpy() for part in range(3)]
        np.testing.assert_array_equal(np.concatenate(parts), expected)
        assert len(np.unique(expected)) == 18
    assert as_key(3).shape == (2,)
    first, second = split_key(Share(num_pipelines=3).key(key, 1), 2)
    assert np.array_equal(first[:2], split_key(key, 2)[0])
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(("patch", "synthetic"), [(None, False), (12, True)])
def test_training_images(images, patch, synthetic):
    shape = SHAPE if patch is None else (patch, patch)

    def make(batch_size, share):
        return training_data(
            *images,
            batch_size,
            SpatialAugmentation(flip_axis=0),
            IntensityAugmentation(random_contrast=0.5),
            seed=7,
            render=label_painter(shape, 4) if synthetic else None,
            patch=patch,
            start=START,
            strip=RandomStrip(0.5),
            share=share,
        )

    assert_parts_are_the_whole(make)


def test_pairs_of_subjects(images):
    names = [*"aabbccddee"]

    def make(batch_size, share):
        return pair_data(*images, names, 4, batch_size, SpatialAugmentation(), 7, START, share)

    assert_parts_are_the_whole(make)


def test_synthetic_pairs_of_shapes():
    paint = label_painter(SHAPE, 16)

    def make(batch_size, share):
        pairs = shape_pairs(SHAPE, batch_size, 7, START, share)
        return synthetic_pairs(pairs, paint, 7, START, share)

    assert_parts_are_the_whole(make)


def test_pairs_of_contrasts():
    synthesizer = PairSynthesizer(SHAPE, 5)

    def make(batch_size, share):
        maps = shape_maps(SHAPE, 5, seed=7, indices=share.examples(START, batch_size))
        keys = share.turns(START).map(lambda step, part: share.key(key_of(7, 1, step), part))
        return tf.data.Dataset.zip((maps.batch(batch_size), keys)).map(synthesizer)

    assert_parts_are_the_whole(make)
