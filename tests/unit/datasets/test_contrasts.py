import numpy as np
import pytest
import tensorflow as tf

from cifl_tf.datasets import REMAPPINGS, remap_contrast, remapping

X = np.linspace(0, 1, 501)


@pytest.mark.parametrize("seed", range(20))
def test_monotone_remappings_rise_from_0_to_1(seed):
    y = remapping(f"monotone-{seed}")(X)
    assert (np.diff(y) > 0).all()
    np.testing.assert_allclose(y[[0, -1]], [0, 1], atol=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_nonmonotone_remappings_rise_and_fall(seed):
    steps = np.diff(remapping(f"nonmonotone-{seed}")(X))
    assert steps[steps > 0].sum() >= 0.3
    assert -steps[steps < 0].sum() >= 0.3
    # Smooth: no step of the 500 takes more than 2.5 times what two linear knots would.
    assert np.abs(steps).max() < 2.5 * 6 / 500


@pytest.mark.parametrize("kind", ["monotone", "nonmonotone"])
def test_the_seed_decides(kind):
    np.testing.assert_array_equal(remapping(f"{kind}-3")(X), remapping(f"{kind}-3")(X))
    assert not np.allclose(remapping(f"{kind}-3")(X), remapping(f"{kind}-4")(X))


def test_all_remappings_stay_in_range_and_keep_the_shape():
    for name in (*REMAPPINGS, "gamma", "monotone-1", "nonmonotone-1"):
        y = remap_contrast(X.reshape(3, 167), np.ones((3, 167), bool), name)
        assert y.dtype == np.float32
        assert y.shape == (3, 167)
        assert 0 <= y.min() <= y.max() <= 1


def test_gamma_is_short_for_gamma_04():
    np.testing.assert_allclose(remapping("gamma")(X), X**0.4)


@pytest.mark.parametrize("name", REMAPPINGS)
def test_named_remappings_take_tensors(name):
    function = REMAPPINGS[name]
    expected = function(X)
    assert isinstance(expected, np.ndarray)
    np.testing.assert_allclose(tf.function(function)(tf.constant(X)), expected, atol=1e-12)


@pytest.mark.parametrize("name", ["", "monotone", "monotone-", "monotone--1", "nonmonotone-1.5"])
def test_unknown_remappings(name):
    with pytest.raises(ValueError, match=r"there is no contrast .*; choose from .*monotone-SEED"):
        remapping(name)
