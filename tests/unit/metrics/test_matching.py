import numpy as np
import pytest

from cifl_tf.metrics import effective_rank, match_voxels


def slow_match(features_1, features_2, mask, place, radius):
    """Best match of one voxel by loops."""
    ndim = mask.ndim
    mean_1, mean_2 = (one[mask].mean(axis=0) for one in (features_1, features_2))
    own = features_1[place] - mean_1
    best, found = -2.0, None
    for offset in np.ndindex(*[2 * radius + 1] * ndim):
        other = tuple(np.array(place) + offset - radius)
        if all(0 <= index < size for index, size in zip(other, mask.shape, strict=True)):
            value = features_2[other] - mean_2
            cosine = own @ value / np.linalg.norm(own) / np.linalg.norm(value)
            if cosine > best:
                best, found = cosine, other
    return found


@pytest.mark.parametrize("shape", [(9, 11), (6, 7, 8)])
def test_matches_are_those_of_slow_loops(rng, shape):
    features_1 = rng.normal(size=(*shape, 3))
    features_2 = features_1 + 0.7 * rng.normal(size=(*shape, 3))
    mask = rng.random(shape) > 0.7
    places = [tuple(place) for place in np.argwhere(mask)]
    slow = np.array([slow_match(features_1, features_2, mask, place, 3) for place in places])
    found = match_voxels(features_1, features_2, mask, radius=3, tolerance=1)
    apart = slow - np.array(places)
    assert found.num_voxels == len(places)
    assert 0 < found.accuracy < 1
    assert found.accuracy == pytest.approx(np.mean(np.abs(apart).max(axis=1) <= 1))
    assert found.distance == pytest.approx(np.linalg.norm(apart, axis=1).mean(), rel=1e-6)
    labels = rng.integers(0, 3, (2, *shape))
    found = match_voxels(features_1, features_2, mask, radius=3, labels=tuple(labels))
    expected = [labels[0][a] == labels[1][tuple(b)] for a, b in zip(places, slow, strict=True)]
    assert found.label_accuracy == pytest.approx(np.mean(expected))


def test_the_same_and_the_moved_image(rng):
    features = rng.normal(size=(40, 40, 8))
    mask = np.zeros((40, 40), bool)
    mask[10:30, 10:30] = True
    same = match_voxels(features, 5 * features + 3, mask)
    assert (same.accuracy, same.distance) == (1, 0)
    assert np.isnan(same.label_accuracy)
    moved = match_voxels(features, np.roll(features, (3, 4), (0, 1)), mask)
    assert (moved.accuracy, moved.distance) == (0, 5)
    beyond = match_voxels(features, np.roll(features, 9, 0), mask)
    assert beyond.accuracy < 0.2


def test_features_that_tell_nothing_match_by_chance():
    constant = np.ones((20, 20, 4))
    mask = np.zeros((20, 20), bool)
    mask[6:-6, 6:-6] = True  # the search ends at no border
    labels = np.zeros((20, 20), int), np.arange(20)[:, None].repeat(20, axis=1) % 2
    found = match_voxels(constant, constant, mask, labels=labels)
    assert found.accuracy == pytest.approx(9 / 13**2)
    steps = range(-6, 7)
    mean = np.mean([np.hypot(x, y) for x in steps for y in steps])
    assert found.distance == pytest.approx(mean)
    # Of 13 rows 7 have label 0 around an even row, 6 around an odd one; as many are even as odd.
    assert found.label_accuracy == pytest.approx((7 / 13 + 6 / 13) / 2)


def test_a_single_channel_tells_two_sides_apart_and_no_more():
    sides = np.where(np.arange(20) < 10, 1.0, 2.0)[:, None, None].repeat(20, axis=1)
    mask = np.zeros((20, 20), bool)
    mask[9:11, 9:11] = True
    found = match_voxels(sides, sides, mask)
    # Of a voxel beside the edge, 7 rows of 13 voxels are on its side; 2 x 3 of these are right.
    assert found.accuracy == pytest.approx(6 / (7 * 13))


def test_effective_rank(rng):
    independent = rng.normal(size=(200, 200, 4))
    assert effective_rank(independent) == pytest.approx(4, abs=0.01)
    assert effective_rank(independent[..., [0, 0, 0, 0]]) == pytest.approx(1, abs=1e-6)
    two = np.concatenate([independent[..., :1]] * 2 + [independent[..., 1:2]] * 2, axis=-1)
    assert effective_rank(two) == pytest.approx(2, abs=0.01)
    mask = rng.random((200, 200)) > 0.5
    assert effective_rank(independent, mask) == pytest.approx(4, abs=0.01)


def test_refuses(rng):
    features, mask = rng.normal(size=(9, 9, 3)), np.ones((9, 9), bool)
    with pytest.raises(ValueError, match="give two of one shape"):
        match_voxels(features, features[:8], mask)
    with pytest.raises(ValueError, match="the mask holds 0 voxels"):
        match_voxels(features, features, ~mask)
    with pytest.raises(ValueError, match="radius is 2 and tolerance 2"):
        match_voxels(features, features, mask, radius=2, tolerance=2)
    with pytest.raises(ValueError, match="no channel varies"):
        effective_rank(np.ones((5, 5, 3)))
    with pytest.raises(ValueError, match="holds 0 voxels"):
        effective_rank(features, ~mask)
