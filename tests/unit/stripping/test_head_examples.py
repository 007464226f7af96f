import dataclasses

import numpy as np
import pytest

from balls import RADIUS, ball_head
from cifl_tf.stripping.examples import HeadVariation, head_examples, vary_head
from cifl_tf.stripping.heads import NUM_REGIONS, OUTSIDE, read_head

SMALL = HeadVariation(shape=(24, 26, 28), voxel_size=6.0)
STILL = HeadVariation(
    (24, 26, 28), 6.0, 0, 0, (0, 0), log_stretch=0, bend_std=0, cut=0, stripped=0, neck=0
)


@pytest.fixture(scope="module")
def heads():
    return [read_head("ball", *ball_head())]


def varied(heads, variation, seed=0):
    return vary_head(heads, variation, np.random.default_rng(seed))


def test_without_variation_the_head_stays(heads):
    found = varied(heads, STILL)
    places = np.moveaxis(np.indices(STILL.shape), 0, -1) - (np.array(STILL.shape) - 1) / 2
    expected = 6 * np.linalg.norm(places, axis=-1) - RADIUS
    inner = expected < 20
    np.testing.assert_allclose(found["target"][..., 0][inner], expected[inner], atol=2.5)
    brain = found["regions"][..., 0] % NUM_REGIONS > OUTSIDE
    np.testing.assert_array_equal(brain, found["target"][..., 0] < 0)
    assert found["seen"].all()


def test_distances_grow_with_the_head(heads):
    size = dataclasses.replace(STILL, log_size=(np.log(1.3), np.log(1.3)))
    grown, as_it_is = (varied(heads, one)["target"] for one in (size, STILL))
    assert (grown < 0).sum() / (as_it_is < 0).sum() == pytest.approx(1.3**3, rel=0.1)
    assert grown.min() == pytest.approx(1.3 * as_it_is.min(), rel=0.1)


def test_what_is_not_seen_is_no_brain(heads):
    cut = dataclasses.replace(STILL, cut=1.0)
    found = [varied(heads, cut, seed) for seed in range(12)]
    assert any((one["seen"] == 0).any() for one in found)
    for one in found:
        assert (one["target"][one["seen"] == 0] > 0).all()
        assert (one["target"] < 0).any()


def test_a_neck_goes_on_below_and_is_no_brain(heads):
    low = dataclasses.replace(STILL, shape=(24, 26, 50))
    long = dataclasses.replace(low, neck=1.0)
    without, with_neck = (varied(heads, one) for one in (low, long))
    # The ball ends above the lowest slice, so only the sides of a deeper cut show.
    np.testing.assert_array_equal(without["target"], with_neck["target"])
    assert (with_neck["target"][:, :, :5] > 0).all()


def test_a_seed_gives_the_same_examples_also_from_the_middle(heads):
    first = [one for one in head_examples(heads, SMALL, seed=3).take(3)]
    (last,) = head_examples(heads, SMALL, seed=3, start=2).take(1)
    for ours, theirs in zip(first[2], last, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    image, distance = first[0]
    assert image.shape == distance.shape == (1, *SMALL.shape, 1)
    assert np.isfinite(image).all()
    assert 0 <= np.min(image) < np.max(image) <= 1
    assert np.abs(first[0][0] - first[1][0]).max() > 0.1
