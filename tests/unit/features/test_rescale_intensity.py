import math

import numpy as np
import pytest

from cifl_tf.images.intensity import rescale_intensity


def slow_percentile(values, percent):
    ranked = sorted(float(value) for value in values)
    position = percent / 100 * (len(ranked) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ranked) - 1)
    return ranked[below] + (position - below) * (ranked[above] - ranked[below])


def random_images():
    generator = np.random.default_rng(3)
    yield "normal", generator.normal(50, 10, (9, 10, 11)).astype(np.float32)
    yield "skewed", generator.exponential(300, 1501).astype(np.float32)
    yield "integers", generator.integers(0, 255, (20, 30)).astype(np.uint8)
    yield "negative", generator.normal(-1000, 1, (8, 8)).astype(np.float32)
    yield "two voxels", np.array([4.0, 2.0], np.float32)


IMAGES = dict(random_images())


@pytest.mark.parametrize(("lower", "upper"), [(0.1, 99.9), (0, 100), (2, 98), (10, 60)])
@pytest.mark.parametrize("name", IMAGES)
def test_rescale_against_sorted_list(name, lower, upper):
    image = IMAGES[name]
    low, high = (slow_percentile(image.ravel(), percent) for percent in (lower, upper))
    expected = [min(max((float(x) - low) / (high - low), 0), 1) for x in image.ravel()]
    result = rescale_intensity(image, lower, upper)
    assert result.dtype == np.float32
    assert result.shape == image.shape
    np.testing.assert_allclose(result.ravel(), expected, atol=2e-5)
    assert result.min() == 0
    assert result.max() == 1


@pytest.mark.parametrize(("lower", "upper"), [(0.1, 99.9), (5, 95)])
@pytest.mark.parametrize("name", IMAGES)
def test_rescale_of_an_inverted_image_is_the_inverse(name, lower, upper):
    image = IMAGES[name].astype(np.float32)
    inverted = image.max() + image.min() - image
    expected = 1 - rescale_intensity(image, lower, upper)
    np.testing.assert_allclose(rescale_intensity(inverted, lower, upper), expected, atol=1e-4)


@pytest.mark.parametrize("name", IMAGES)
def test_rescale_ignores_unit_and_offset(name):
    image = IMAGES[name].astype(np.float32)
    expected = rescale_intensity(image)
    np.testing.assert_allclose(rescale_intensity(4 * image + 64), expected, atol=1e-4)


@pytest.mark.parametrize("value", [0, -1024, 1e30])
def test_rescale_constant(value):
    result = rescale_intensity(np.full((3, 4, 5), value))
    np.testing.assert_array_equal(result, np.zeros((3, 4, 5), np.float32))


@pytest.mark.parametrize(("sign", "expected"), [(1, (0.25, 0.5, 1)), (-1, (1, 0.67, 0))])
def test_rescale_sparse_image_between_its_extremes(sign, expected):
    image = np.zeros((20, 20, 20), np.float32)
    image[3, 4, 5:8] = sign * np.array([1, 2, 4])
    scaled = rescale_intensity(image)
    np.testing.assert_allclose(scaled[3, 4, 5:8], expected, atol=0.01)
    assert np.count_nonzero(scaled) == 3  # what is not air is never 0


def test_rescale_errors():
    for lower, upper in [(50, 50), (90, 10), (-1, 99), (1, 101), (math.nan, 99)]:
        with pytest.raises(ValueError, match=r"percentiles are .*give 0 <= lower < upper <= 100"):
            rescale_intensity(np.arange(5), lower, upper)
    with pytest.raises(ValueError, match="the image has no voxels"):
        rescale_intensity(np.zeros((0, 3)))
