import numpy as np
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

from cifl_tf.registration.separable import (
    box_matrix,
    gaussian_matrix,
    linear_matrix,
    resample_blocks,
    separable,
)
from cifl_tf.registration.similarity import average_pool


def test_separable_is_one_matrix_per_axis(rng):
    volume = rng.normal(size=(2, 4, 5, 6, 3))
    first, second, third = (rng.normal(size=(7, size)) for size in (4, 5, 6))
    expected = np.einsum("ai,bj,ck,nijkm->nabcm", first, second, third, volume)
    np.testing.assert_allclose(separable(volume, [first, second, third]), expected, rtol=1e-8)


def test_gaussian_is_that_of_scipy_away_from_the_ends(rng):
    signal = rng.normal(size=60)
    expected = gaussian_filter1d(signal, 1.5, truncate=6)
    np.testing.assert_allclose((gaussian_matrix(60, 1.5) @ signal)[12:-12], expected[12:-12], 1e-4)
    np.testing.assert_array_equal(gaussian_matrix(5, 0), np.eye(5))


def test_box_is_the_mean_of_what_is_in_the_image(rng):
    signal = rng.normal(size=20)
    sums = uniform_filter1d(signal, 5, mode="constant") * 5
    counts = uniform_filter1d(np.ones(20), 5, mode="constant") * 5
    np.testing.assert_allclose(box_matrix(20, 2) @ signal, sums / counts, rtol=1e-4)


def test_linear_interpolates_and_continues_the_ends():
    found = linear_matrix([1, 3, 5], [0, 1, 2.5, 6]) @ [10, 20, 40]
    np.testing.assert_allclose(found, [10, 10, 17.5, 40])


def test_a_linear_field_on_blocks_is_that_on_voxels():
    shape = (11, 8, 9)
    field = np.moveaxis(np.indices(shape), 0, -1)[None].astype(np.float32)
    blocks = average_pool(field, 2)
    found = resample_blocks(blocks, shape, 2).numpy()
    inside = np.s_[:, 1:-1, 1:-1, 1:-1]
    np.testing.assert_allclose(found[inside], field[inside], atol=1e-4)
    np.testing.assert_allclose(resample_blocks(field, shape, 1, 2), blocks, atol=1e-4)
