import numpy as np
import pytest

from cifl_tf.features.mind import build_mind_ssc, neighbor_pairs


def slow_mind_ssc(image, radius, dilation):
    """The definition, voxel by voxel."""
    ndim = image.ndim
    margin = radius + dilation
    padded = np.pad(image.astype(np.float64), margin, mode="edge")
    steps = [dilation * sign * axis for axis in np.eye(ndim, dtype=int) for sign in (-1, 1)]
    pairs = [
        (first, second)
        for index, first in enumerate(steps)
        for second in steps[index + 1 :]
        if np.isclose(np.linalg.norm(first - second), np.sqrt(2) * dilation)
    ]

    def patch(center):
        return padded[tuple(slice(c - radius, c + radius + 1) for c in center)]

    distances = np.zeros((*image.shape, len(pairs)))
    for voxel in np.ndindex(image.shape):
        for channel, (first, second) in enumerate(pairs):
            center = np.array(voxel) + margin
            difference = patch(center + first) - patch(center + second)
            distances[(*voxel, channel)] = np.mean(difference**2)
    variance = distances.mean(-1, keepdims=True)
    variance = np.clip(variance, 1e-3 * variance.mean(), 1e3 * variance.mean())
    return np.exp(-(distances - distances.min(-1, keepdims=True)) / variance)


@pytest.mark.parametrize(
    ("shape", "channels", "radius", "dilation"),
    [((9, 12), 4, 1, 2), ((7, 8), 4, 0, 1), ((5, 6, 7), 12, 1, 2)],
)
def test_features_are_those_of_the_definition(shape, channels, radius, dilation):
    image = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
    mind = build_mind_ssc(len(shape), radius, dilation)
    assert mind.output_shape == (None, *[None] * len(shape), channels)
    features = mind(image[None, ..., None]).numpy()
    assert features.shape == (1, *shape, channels)
    np.testing.assert_allclose(features[0], slow_mind_ssc(image, radius, dilation), atol=1e-4)


def test_inversion_changes_nothing_and_offset_and_scale_neither():
    image = np.random.default_rng(1).uniform(size=(1, 20, 24, 1)).astype(np.float32)
    mind = build_mind_ssc(2)
    for other in (1 - image, 0.3 + 0.5 * image):
        np.testing.assert_allclose(mind(other), mind(image), atol=1e-3)


def test_a_constant_image_has_features_of_one():
    np.testing.assert_array_equal(build_mind_ssc(3)(np.full((1, 8, 8, 8, 1), 0.5, np.float32)), 1)


def test_neighbors_are_paired_but_not_with_their_opposite():
    assert [len(neighbor_pairs(ndim)) for ndim in (2, 3)] == [4, 12]


def test_what_makes_no_features_is_refused():
    with pytest.raises(ValueError, match="ndim is 4"):
        build_mind_ssc(4)
    with pytest.raises(ValueError, match="dilation 0"):
        build_mind_ssc(2, dilation=0)
