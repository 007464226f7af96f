import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from cifl_tf.metrics import folding_fraction
from cifl_tf.registration.demons import DemonsSettings, register_features, solve_3x3

SHAPE = (36, 32, 28)
QUICK = DemonsSettings(scales=(2, 1), steps=(15, 10))


def _warped(image, displacement):
    """By SciPy, cubic: not the interpolation of the code."""
    points = np.moveaxis(np.indices(SHAPE), 0, -1) + displacement
    points = np.moveaxis(points, -1, 0)
    channels = np.moveaxis(image, -1, 0)
    return np.stack([map_coordinates(one, points, mode="nearest") for one in channels], axis=-1)


@pytest.fixture
def displaced(rng):
    """Random blobs, a smooth displacement of up to 3 voxels, and the blobs warped with it."""
    blobs = gaussian_filter(rng.normal(size=(*SHAPE, 3)), (2, 2, 2, 0), mode="nearest")
    moving = (blobs / blobs.std()).astype(np.float32)
    truth = gaussian_filter(rng.normal(size=(*SHAPE, 3)), (6, 6, 6, 0), mode="nearest")
    truth *= 3 / np.abs(truth).max()
    return moving, truth, _warped(moving, truth)


def _relative_error(found, truth):
    inside = (slice(5, -5),) * 3
    return np.abs(found - truth)[inside].mean() / np.abs(truth)[inside].mean()


def test_a_smooth_displacement_is_recovered_without_folds(displaced):
    moving, truth, fixed = displaced
    found = register_features(moving, fixed, settings=QUICK)
    assert found.dtype == np.float32
    assert _relative_error(found, truth) < 0.25
    assert folding_fraction(found) < 1e-3


def test_unsigned_channels_may_be_inverted_from_place_to_place(displaced):
    moving, truth, fixed = displaced
    sign = np.where(np.arange(SHAPE[0]) < SHAPE[0] // 2, 1, -1)[:, None, None, None]
    found = register_features(moving, sign * fixed, num_unsigned=3, settings=QUICK)
    signed = register_features(moving, sign * fixed, settings=QUICK)
    assert _relative_error(found, truth) < 0.6
    assert _relative_error(signed, truth) > 2


def test_it_goes_on_from_an_initial_displacement(displaced):
    moving, truth, fixed = displaced
    short = DemonsSettings(scales=(1,), steps=(1,))
    found = register_features(moving, fixed, settings=short, initial=truth)
    assert _relative_error(found, truth) < 0.25
    assert _relative_error(register_features(moving, fixed, settings=short), truth) > 0.6


@pytest.mark.parametrize("num_unsigned", [0, 1])
def test_what_masks_leave_out_does_not_count(displaced, num_unsigned):
    moving, truth, fixed = displaced
    points = np.moveaxis(np.indices(SHAPE), 0, -1)
    masks = {}
    for name, image, middle in (("moving", moving, (16, 16, 14)), ("fixed", fixed, (20, 16, 14))):
        blob = np.linalg.norm(points - middle, axis=-1) < 5
        image[blob] = 8
        masks[f"{name}_mask"] = ~blob
    found = register_features(moving, fixed, num_unsigned, QUICK, **masks)
    pulled = register_features(moving, fixed, num_unsigned, QUICK)
    assert _relative_error(found, truth) < 0.3
    assert _relative_error(pulled, truth) > 1


def test_the_same_features_stay(displaced):
    found = register_features(displaced[0], displaced[0], settings=QUICK)
    np.testing.assert_allclose(found, 0, atol=1e-4)


def test_solutions_are_those_of_numpy(rng):
    roots = rng.normal(size=(5, 3, 3))
    matrices, right = roots @ roots.transpose(0, 2, 1), rng.normal(size=(5, 3))
    entries = matrices[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]]
    found = solve_3x3(np.concatenate([entries, right], axis=1), 0.1)
    expected = np.linalg.solve(matrices + 0.1 * np.eye(3), right[..., None])[..., 0]
    np.testing.assert_allclose(found, expected, rtol=1e-8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_unsigned": 3}, "there are 2 channels"),
        ({"num_unsigned": -1}, "num_unsigned"),
        ({"initial": np.zeros((8, 8, 7, 3))}, "same grid"),
        ({"settings": DemonsSettings(scales=(8,), steps=(1,))}, "smaller than every axis"),
    ],
)
def test_bad_input_is_told(options, message):
    features = np.zeros((8, 8, 8, 2))
    with pytest.raises(ValueError, match=message):
        register_features(features, features, **options)


@pytest.mark.parametrize(
    "options",
    [{"scales": (1,)}, {"scales": (), "steps": ()}, {"damping": 0.0}, {"fluid": -1.0}],
)
def test_bad_settings_are_told(options):
    with pytest.raises(ValueError, match="give"):
        DemonsSettings(**options)
