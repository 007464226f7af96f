"""Fixtures for all tests. cifl_tf comes first: it selects legacy Keras before TensorFlow loads."""

import gc
import os
from dataclasses import dataclass

import numpy as np
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Of more threads than cores, some wait for others.
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

import cifl_tf  # isort: skip
import tensorflow as tf  # isort: skip
from cifl_tf._compat import keras
from cifl_tf.features.cifl import CIFL
from cifl_tf.registration import affine_registration
from cifl_tf.registration.affine_registration import AffineSettings
from cifl_tf.registration.pair_model import PairModel

# A search for garbage looks at a million objects of TensorFlow's: not among those of the import,
# and not as often.
gc.freeze()
gc.set_threshold(10_000, 10, 10)

# AutoGraph reads all code that a step calls, which takes a fifth of a short training. No code of
# the package needs its conversion; code that did would fail here.
for model in (keras.Model, CIFL, PairModel):
    for step in ("train_step", "test_step"):
        setattr(model, step, tf.autograph.experimental.do_not_convert(getattr(model, step)))


@pytest.fixture(autouse=True)
def _same_random_numbers():
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """The folder of what is made once for all processes of a run; each part needs a lock."""
    root = tmp_path_factory.getbasetemp()
    return root.parent if "PYTEST_XDIST_WORKER" in os.environ else root


@pytest.fixture
def tiny_encoder():
    """A plain 2D encoder: eight convolutions with four filters, four features."""
    return cifl_tf.build_encoder(ndim=2, num_features=4, num_filters=4)


@pytest.fixture
def quick_alignment(monkeypatch):
    """Rigid and affine registrations look at coarse levels only, from where the headers lead."""
    monkeypatch.setattr(affine_registration, "AffineSettings", QuickAffineSettings)


@dataclass(frozen=True)
class QuickAffineSettings(AffineSettings):
    """A tenth of the work of the default."""

    voxel_sizes: tuple[float, ...] = (8.0, 4.0)
    iterations: tuple[int, ...] = (2, 1)
    radii: tuple[int, ...] = (3, 2)
    angles: tuple[float, ...] = (0.0,)


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
