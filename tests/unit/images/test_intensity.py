import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cifl_tf._compat import keras
from cifl_tf.features.layers import RescaleIntensity
from cifl_tf.images.intensity import (
    BEFORE_0_2,
    IntensityScaling,
    air_mask,
    fill_air,
    find_background,
    is_air,
    is_hounsfield,
    rescale_intensity,
)


def head(rng, ndim=3, size=40):
    """A ball of tissue from 100 to 900, 0 outside, and where it is."""
    shape = (size,) * ndim
    distance = np.linalg.norm(np.indices(shape).T - (size - 1) / 2, axis=-1).T
    tissue = gaussian_filter(rng.normal(size=shape), 1.5)
    tissue = 100 + 800 * (tissue - tissue.min()) / np.ptp(tissue)
    inside = distance < size / 3
    return np.where(inside, tissue, 0).astype(np.float32), inside


def rician(rng, image, std=8):
    real, imaginary = std * rng.normal(size=(2, *image.shape))
    return np.hypot(image + real, imaginary).astype(np.float32)


def ct(image, inside, padding):
    """HU: brain between 0 and 80, a shell of bone, air around, padding in the corners."""
    brain = 80 * image / 900
    shell = gaussian_filter(inside.astype(np.float32), 1.5) > 0.15
    hounsfield = np.where(inside, brain, np.where(shell, 1500, -1000))
    distance = np.linalg.norm(np.indices(image.shape).T - np.array(image.shape) / 2, axis=-1).T
    return np.where(distance > 0.49 * len(image), padding, hounsfield).astype(np.float32)


def images(rng):
    stripped, inside = head(rng)
    patch = gaussian_filter(rng.normal(size=(20, 21, 22)), 2)
    standardized = np.where(inside, (stripped - stripped[inside].mean()) / 200, 0)
    return {
        "stripped": (stripped, ~inside),
        "with the rest of a resampling": (np.where(inside, stripped, 1e-45), ~inside),
        "standardized, background between": (standardized, ~inside),
        "white air": (np.where(inside, stripped, 4000), ~inside),
        "raw head": (rician(rng, stripped), ~inside),
        "patch of tissue": (patch, np.zeros(patch.shape, bool)),
        "thin": (stripped[:, 18:21], ~inside[:, 18:21]),
        "slice": (stripped[:, 20], ~inside[:, 20]),
    }


NAMES = list(images(np.random.default_rng(0)))


@pytest.mark.parametrize("name", NAMES)
def test_air_is_what_surrounds_the_head(rng, name):
    image, air = images(rng)[name]
    found = air_mask(image)
    assert np.mean(found == air) > 0.97
    scaled = rescale_intensity(image)
    assert scaled.min() == 0
    assert scaled.max() == 1
    np.testing.assert_array_equal(scaled[found], 0)
    np.testing.assert_array_equal(is_air(scaled), found if found.any() else scaled <= 1e-3)


@pytest.mark.parametrize("name", ["stripped", "with the rest of a resampling", "raw head", "slice"])
def test_the_scale_does_not_depend_on_how_much_air_there_is(rng, name):
    image, _ = images(rng)[name]
    wide = np.pad(image, 30)
    if name == "raw head":
        wide = rician(rng, np.pad(head(rng)[0], 30))
        wide[(slice(30, -30),) * 3] = image
    inside = (slice(30, -30),) * image.ndim
    ratio = rescale_intensity(wide)[inside][image > 200] / rescale_intensity(image)[image > 200]
    np.testing.assert_allclose(ratio, 1, atol=0.01 if name == "raw head" else 1e-4)


@pytest.mark.parametrize("padding", [-1000, -1024, -2048, -3024])
@pytest.mark.parametrize("noise", [0, 10])
def test_ct_is_scaled_by_the_window_of_brains(rng, padding, noise):
    image, inside = head(rng)
    hounsfield = ct(image, inside, padding)
    hounsfield += noise * rng.normal(size=image.shape) * (hounsfield > -1020)
    assert is_hounsfield(hounsfield)
    expected = np.clip(hounsfield / 80, 0, 1)
    np.testing.assert_allclose(rescale_intensity(hounsfield), expected, atol=1e-6)
    np.testing.assert_allclose(
        rescale_intensity(hounsfield, window=(-100, 300)),
        np.where(air_mask(hounsfield), 0, np.clip((hounsfield + 100) / 400, 0, 1)),
        atol=1e-6,
    )


def test_what_is_not_in_hounsfield_units(rng):
    phase = rng.uniform(-4096, 4095, (20, 20, 20))
    assert not is_hounsfield(phase)
    assert not is_hounsfield(head(rng)[0])
    assert not is_hounsfield(rng.normal(-1000, 1, (20, 20, 20)))  # no water in it
    image, inside = head(rng)
    for scale in (0.1, 1):  # MRI with such a background: its percentiles are right
        odd = np.where(inside, scale * image, -1000)
        assert not is_hounsfield(odd)
        assert np.ptp(rescale_intensity(odd)[inside]) > 0.99


def test_outliers_do_not_move_the_scale(rng):
    image, inside = head(rng)
    expected = rescale_intensity(image)
    places = rng.choice(np.flatnonzero(inside), inside.sum() // 400, replace=False)
    image.flat[places] = 1e6
    kept = np.ones(image.size, bool)
    kept[places] = False
    found = rescale_intensity(image)
    np.testing.assert_allclose(found.flat[kept], expected.flat[kept], atol=0.08)


@pytest.mark.parametrize("scaling", [IntensityScaling(), IntensityScaling(2, 90), BEFORE_0_2])
@pytest.mark.parametrize("name", [*NAMES, "ct", "mask", "constant"])
def test_the_layer_does_the_same_in_a_graph(rng, name, scaling):
    image, inside = head(rng)
    more = {
        "ct": ct(image, inside, -1024),
        "mask": inside.astype(np.float32),
        "constant": np.full((9, 10, 11), 7.0, np.float32),
    }
    image = more[name] if name in more else images(rng)[name][0].astype(np.float32)
    layer = RescaleIntensity(**scaling.to_config())
    restored = keras.saving.deserialize_keras_object(
        json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    )
    batch = np.stack([image, image[::-1] * 3])[..., None]
    found = restored(batch).numpy()[..., 0]
    for one, scaled in zip(batch[..., 0], found, strict=True):
        np.testing.assert_allclose(scaled, scaling(one), atol=2e-5)


def test_a_window_in_the_graph(rng):
    image, _ = head(rng, 2)
    scaled = RescaleIntensity(window=(200, 600))(image[None, ..., None])[0, ..., 0]
    np.testing.assert_allclose(scaled, np.clip((image - 200) / 400, 0, 1), atol=1e-5)


def test_models_of_before_keep_their_rule(rng):
    image, _ = head(rng)
    low, high = np.percentile(image, (0.1, 99.9))
    expected = np.clip((image - low) / (high - low), 0, 1)
    np.testing.assert_allclose(BEFORE_0_2(image), expected, atol=1e-6)


def test_no_border_no_background():
    assert find_background(np.zeros((7, 7, 7))) is None
    assert find_background(np.arange(5.0)) is None


@pytest.mark.parametrize("window", [(1, 1), (3, 2), (0, np.nan), (-np.inf, 0), (1, 2, 3)], ids=str)
def test_refuses_windows(window):
    with pytest.raises(ValueError, match=r"window is .*give the lowest and highest intensity"):
        IntensityScaling(window=window)


@pytest.mark.parametrize("ndim", [2, 3])
def test_filled_air_is_the_mean_of_what_is_near(rng, ndim):
    image = np.zeros((24,) * ndim, np.float32)
    image[4:12], image[12:20] = 0.2, 0.8
    filled = fill_air(image)
    np.testing.assert_array_equal(filled[4:20], image[4:20])
    np.testing.assert_allclose(filled[2], 0.2, atol=0.02)
    np.testing.assert_allclose(filled[-3], 0.8, atol=0.02)
    far = np.zeros((60,) * ndim, np.float32)
    far[20:24], far[24:28] = 0.2, 0.8
    np.testing.assert_allclose(fill_air(far)[59], 0.5, atol=0.01)
    # What inverts tissue, inverts what takes the place of air.
    inverted = np.where(image > 0, 1 - image, 0)
    np.testing.assert_allclose(fill_air(inverted), 1 - filled, atol=1e-5)
    np.testing.assert_array_equal(fill_air(np.zeros(image.shape)), 0)
