import numpy as np
import pytest

from cifl_tf.metrics import (
    between_channel_correlation,
    channel_correlation,
    same_channel_correlation,
)


def test_correlation_is_numpys(rng):
    features_1, features_2 = rng.normal(size=(2, 7, 9, 3))
    mask = rng.random((7, 9)) > 0.4
    measured = channel_correlation(features_1, features_2, mask)
    for c in range(3):
        for d in range(3):
            expected = np.corrcoef(features_1[mask][:, c], features_2[mask][:, d])[0, 1]
            assert measured[c, d] == pytest.approx(expected, abs=1e-12)
    np.testing.assert_array_equal(
        same_channel_correlation(features_1, features_2, mask), np.diag(measured)
    )


def test_scale_and_offset_do_not_matter(rng):
    features = rng.normal(size=(5, 6, 7, 2))
    np.testing.assert_allclose(same_channel_correlation(features, 3 * features + 100), 1)
    np.testing.assert_allclose(same_channel_correlation(features, -features), -1)


def test_constant_channel_correlates_with_nothing(rng):
    features = rng.normal(size=(30, 30, 2)).astype(np.float32)
    features[..., 1] = 0.1
    assert channel_correlation(features, features)[1].tolist() == [0, 0]


def test_between_channels_leaves_out_the_diagonal():
    one = np.tile([1.0, -1.0], 8).reshape(4, 4)
    other = one.T * [[1], [1], [-1], [-1]]
    opposite = np.stack([one, -one], axis=-1)
    assert between_channel_correlation(opposite) == pytest.approx(1)
    orthogonal = np.stack([one, other], axis=-1)
    assert between_channel_correlation(orthogonal) == pytest.approx(0, abs=1e-12)


def test_errors(rng):
    features = rng.normal(size=(4, 4, 2))
    with pytest.raises(ValueError, match="different grids"):
        channel_correlation(features, features[:3])
    with pytest.raises(ValueError, match="different grids"):
        channel_correlation(features, features, np.ones((4, 3), bool))
    with pytest.raises(ValueError, match="holds 0 voxels"):
        channel_correlation(features, features, np.zeros((4, 4), bool))
