"""Values of options that are refused, in one line that names the option."""

import math

import numpy as np
import pytest

from cifl_tf import (
    ContrastiveLoss,
    InstanceSettings,
    RegistrationConfig,
    RegistrationNetwork,
    SegmentationConfig,
    shape_maps,
)
from cifl_tf._checks import COUNT, POSITIVE, SHARE, Number, checked_range
from cifl_tf.augmentation.intensity import IntensityAugmentation
from cifl_tf.augmentation.patches import RandomPatch
from cifl_tf.augmentation.spatial import SpatialAugmentation
from cifl_tf.features.config import TrainingConfig
from cifl_tf.images.memory import require_memory
from cifl_tf.synthesis.appearance import Appearance

NAN, INF = math.nan, math.inf
NO_POSITIVE = [0, -1, NAN, INF, -INF, "3", None]
NO_COUNT = [*NO_POSITIVE, 2.5]
NO_WEIGHT = [-1, -1e-9, NAN, INF]
NO_SEED = [-1, 2**32, 0.5, NAN]
NO_NDIM = [0, 1, 4, -2, 2.5, NAN]
SHARED = {
    "ndim": NO_NDIM,
    "seed": NO_SEED,
    "steps": NO_COUNT,
    "learning_rate": NO_POSITIVE,
    "num_filters": NO_COUNT,
}
TRAINED_ON_COHORTS = {
    **SHARED,
    "batch_size": [-1, NAN, 2.5],
    "voxel_size": [0, -1, NAN, INF],
    "num_slices": [each for each in NO_COUNT if each is not None],
    "plane": ["", "oblique", None],
    "random_contrast": [-0.1, 1.1, NAN, INF],
    "remappings": [("t2",), ("gamma", "gamma")],
}
REFUSED = {
    TrainingConfig: {
        **SHARED,
        "batch_size": NO_COUNT,
        "num_features": [1, 0, NAN, 2.5],
        "architecture": ["", None],
        "shape": [(96,), (96, NAN), (96.5, 96), (8, 8), (-96, 96)],
        "scales": [(), (NAN,), (INF,), (1,), (4, 1000)],
        "window": [-1, NAN, 0.5],
        "crop": [-1, NAN, 0.5, 1000],
        "noise_std": [(0, NAN), (0, INF), (2, 1), (1,), (0, 1, 2)],
        "blur_std": [(0, NAN), (0, 1e6), (-1, 0)],
        "bias_std": [(NAN, 1), (0, INF)],
        "thickness_std": [-1, NAN, 1000],
        "precision": ["float8"],
        **dict.fromkeys(("tau_alpha", "tau_beta", "tau_gamma"), NO_POSITIVE),
    },
    SegmentationConfig: {
        **TRAINED_ON_COHORTS,
        "patience": NO_COUNT,
        "cached_copies": [0, -1, 2.5, NAN],
        "patch": [0, -8, 2.5, NAN],
        "flip_axis": [2, -1, NAN],
        "zoom_factors": [(1,), (NAN,), (INF,), (0.1,), (1.2, 1.2)],
    },
    RegistrationConfig: {
        **TRAINED_ON_COHORTS,
        "similarity": ["labels", None],
        "loss": ["mae", None],
        "smoothness": NO_WEIGHT,
        "label_weight": NO_WEIGHT,
        "int_steps": [-1, 0.5, NAN],
        "int_resolution": NO_COUNT,
        "num_cascades": NO_COUNT,
    },
    RegistrationNetwork: {
        "smoothness": NO_WEIGHT,
        "label_weight": NO_WEIGHT,
        "num_cascades": NO_COUNT,
        "similarity": ["labels"],
    },
    InstanceSettings: {
        "scales": [(), (1,), (8, 4, 2, 0), (8, 4, 2, NAN)],
        "steps": [(), (1, 1, 1, 0), (1, 1, 1, 2.5)],
        "spacing": NO_COUNT,
        "smoothness": NO_WEIGHT,
        "learning_rate": NO_POSITIVE,
        "resolution": NO_COUNT,
        "int_steps": NO_COUNT,
    },
    ContrastiveLoss: {
        "crop": [-1, 0.5, NAN],
        "window": [0, -1, NAN],
        **dict.fromkeys(("tau_alpha", "tau_beta", "tau_gamma"), NO_POSITIVE),
    },
    Appearance: {"gamma_std": NO_WEIGHT, "bias_scale": NO_POSITIVE, "mean": [(0, INF)]},
    SpatialAugmentation: {
        "smooth_std": NO_WEIGHT,
        "affine_std": NO_WEIGHT,
        "smooth_scales": [(0,)],
    },
    IntensityAugmentation: dict.fromkeys(
        ("gamma_std", "bias_std", "thickness_std", "noise_std"), NO_WEIGHT
    ),
    shape_maps: {"scales": [(NAN,), (INF,)], "warp_std": [NAN, INF], "seed": NO_SEED},
}
NEEDED = {
    SegmentationConfig: {"encoder": "intensity"},
    RegistrationConfig: {"encoder": "intensity"},
    RegistrationNetwork: {"encoder": None, "shape": (16, 16)},
    shape_maps: {"shape": (16, 16)},
}
CASES = [
    (owner, option, value)
    for owner, options in REFUSED.items()
    for option, values in options.items()
    for value in values
]


@pytest.mark.parametrize(("owner", "option", "value"), CASES)
def test_refused(owner, option, value):
    with pytest.raises(ValueError, match=option) as error:
        owner(**NEEDED.get(owner, {}), **{option: value})
    message = str(error.value)
    assert "\n" not in message
    assert "in user code" not in message
    assert any(word in message for word in ("give", "choose"))


@pytest.mark.parametrize("size", [0, -8, NAN])
def test_refused_patches(size):
    with pytest.raises(ValueError, match=f"patch is {size}; give"):
        RandomPatch(size)


def test_accepted_numbers():
    for number, values in (
        (COUNT, [1, np.int64(3), 10**6]),
        (POSITIVE, [1, 1e-9, np.float32(0.1)]),
        (SHARE, [0, 1, 0.5]),
        (Number("whole", -2, 2, whole=True), [-2, 2]),
    ):
        for value in values:
            number.check("number", value)
    assert checked_range("range", (0, np.float32(1))) == (0.0, 1.0)


def test_images_too_large_for_memory_are_refused_with_the_numbers(monkeypatch):
    monkeypatch.setattr("cifl_tf.images.memory.available_memory", lambda: 4 * 10**9)
    require_memory(2, (1000, 1000), 500)  # exactly as much as there is
    with pytest.raises(ValueError, match=r"need at least 4\.0 GB, but 4\.0 GB of memory"):
        require_memory(2, (1000, 1000), 501)
    with pytest.raises(ValueError, match=r"at least 16000\.0 TB"):
        require_memory(2, (1000000, 1000000), 2000)
