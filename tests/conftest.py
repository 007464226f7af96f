"""Fixtures for all tests. cifl_tf comes first: it selects legacy Keras before TensorFlow loads."""

import numpy as np
import pytest

import cifl_tf
from cifl_tf._compat import keras


@pytest.fixture(autouse=True)
def _same_random_numbers():
    keras.utils.set_random_seed(0)


@pytest.fixture
def tiny_encoder():
    """A plain 2D encoder: eight convolutions with four filters, four features."""
    return cifl_tf.build_encoder(ndim=2, num_features=4, num_filters=4)


@pytest.fixture
def mixed_bfloat16():
    """The global precision policy mixed_bfloat16, float32 again afterwards."""
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    yield
    keras.mixed_precision.set_global_policy("float32")


@pytest.fixture
def rng():
    """Random numbers that are the same in every run."""
    return np.random.default_rng(0)
