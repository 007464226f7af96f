import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates, uniform_filter

from cifl_tf.metrics import folding_fraction
from cifl_tf.registration.discrete import cost_volume, discrete_displacement, displacements


def _blobs(rng, shape, channels=4, sigma=2.0):
    noise = rng.normal(size=(*shape, channels))
    blobs = gaussian_filter(noise, (sigma, sigma, sigma, 0), mode="nearest")
    return (blobs / blobs.std()).astype(np.float32)


def test_cost_volume_is_that_of_a_slow_loop(rng):
    moving, fixed = rng.normal(size=(2, 6, 5, 4, 3)).astype(np.float32)
    found = cost_volume(moving, fixed, 1, np.ones((6, 5, 4, 1), np.float32)).numpy()
    padded = np.pad(moving, [(1, 1)] * 3 + [(0, 0)], mode="edge")
    inside = uniform_filter(np.ones((6, 5, 4)), 3, mode="constant")
    for one, (i, j, k) in zip(found, displacements(1), strict=True):
        square = np.zeros((6, 5, 4))
        for x, y, z in np.ndindex(6, 5, 4):
            difference = fixed[x, y, z] - padded[x + 1 + i, y + 1 + j, z + 1 + k]
            square[x, y, z] = np.mean(difference**2)
        expected = uniform_filter(square, 3, mode="constant") / inside
        np.testing.assert_allclose(one, expected / fixed.var(axis=(0, 1, 2)).mean(), rtol=1e-4)


def test_a_shift_is_found(rng):
    features = _blobs(rng, (40, 36, 32))
    moving, fixed = features[:, 4:], features[:, :-4]  # moving(x + u) = fixed(x) with u = -4
    found = discrete_displacement(moving, fixed, grid_spacing=2, half_width=2)
    assert found.shape == (40, 32, 32, 3)
    assert found.dtype == np.float32
    inside = found[8:-8, 8:-8, 8:-8]
    assert np.abs(inside - [0, -4, 0]).mean() < 0.3


def test_a_smooth_displacement_is_recovered_without_folds(rng):
    shape = (48, 44, 40)
    truth = gaussian_filter(rng.normal(size=(*shape, 3)), (9, 9, 9, 0))
    truth *= 6 / np.abs(truth).max()
    moving = _blobs(rng, shape)
    points = np.moveaxis(np.indices(shape), 0, -1) + truth
    fixed = np.stack(
        [
            map_coordinates(moving[..., channel], np.moveaxis(points, -1, 0), mode="nearest")
            for channel in range(moving.shape[-1])
        ],
        axis=-1,
    )
    found = discrete_displacement(moving, fixed, grid_spacing=2, half_width=3)
    inside = (slice(6, -6),) * 3
    assert np.abs(found - truth)[inside].mean() < 0.3 * np.abs(truth)[inside].mean()
    assert folding_fraction(found) < 1e-3


@pytest.mark.parametrize("masked", [("moving",), ("fixed",), ("moving", "fixed")])
def test_what_a_mask_leaves_out_does_not_count(rng, masked):
    features = _blobs(rng, (40, 36, 32))
    pair = {"moving": features[:, 4:].copy(), "fixed": features[:, :-4].copy()}
    options = {}
    for name in masked:  # blobs that are 8 voxels apart
        middle = {"moving": (20, 12, 16), "fixed": (20, 20, 16)}[name]
        points = np.moveaxis(np.indices(pair[name].shape[:-1]), 0, -1)
        blob = np.linalg.norm(points - middle, axis=-1) < 6
        pair[name][blob] = 6
        options[f"{name}_mask"] = ~blob

    def error(**options):
        found = discrete_displacement(*pair.values(), grid_spacing=2, half_width=2, **options)
        return np.abs(found - [0, -4, 0])[8:-8, 8:-8, 8:-8].mean()

    assert error(**options) < 0.05
    assert error() > 0.1


def test_the_same_features_stay(rng):
    features = _blobs(rng, (24, 20, 16))
    np.testing.assert_allclose(discrete_displacement(features, features, 4, 2), 0, atol=1e-5)


@pytest.mark.parametrize(
    ("moving", "fixed", "options", "message"),
    [
        ((8, 8, 8, 2), (8, 8, 8, 3), {}, "two of one shape"),
        ((8, 8, 8), (8, 8, 8), {}, "two of one shape"),
        ((8, 8, 4, 2), (8, 8, 4, 2), {}, "smaller than every axis"),
        ((8, 8, 8, 2), (8, 8, 8, 2), {"half_width": 0}, "half_width"),
        ((8, 8, 8, 2), (8, 8, 8, 2), {"grid_spacing": 1.5}, "grid_spacing"),
        ((8, 8, 8, 2), (8, 8, 8, 2), {"fixed_mask": np.zeros((8, 8, 8))}, "0 voxels inside"),
        ((8, 8, 8, 2), (8, 8, 8, 2), {"moving_mask": np.ones((8, 8, 7))}, "moving mask has shape"),
    ],
)
def test_bad_input_is_told(moving, fixed, options, message):
    with pytest.raises(ValueError, match=message):
        discrete_displacement(np.zeros(moving), np.zeros(fixed), **options)


def test_features_that_are_not_finite_are_told():
    features = np.zeros((8, 8, 8, 2))
    with pytest.raises(ValueError, match="moving features hold 256 values"):
        discrete_displacement(np.where(np.indices(features.shape)[0] < 2, np.nan, 0), features)
