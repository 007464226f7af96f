import nibabel
import numpy as np
import pytest
from scipy.stats import norm
from sklearn.mixture import GaussianMixture

from cifl_tf.segmentation.refinement import posterior, refine, refine_image

SHAPE = (30, 28, 26)


@pytest.fixture
def brain(rng):
    """Three tissues in shells, with noise, and what a network that sees no borders says of them."""
    distance = np.linalg.norm(
        np.indices(SHAPE) - np.array([14, 14, 13])[:, None, None, None], axis=0
    )
    truth = np.select([distance < 6, distance < 9, distance < 12], [1, 2, 3])
    image = np.select([truth == 1, truth == 2, truth == 3], [0.8, 0.5, 0.2])
    image = np.where(truth > 0, image + 0.05 * rng.normal(size=SHAPE), 0)
    centers = np.array([5.5, 8.5, 11.5])[:, None, None, None]
    known = np.exp(-((distance - centers) ** 2) / 6) * (truth > 0)
    known = np.concatenate([(truth == 0)[None], known / np.maximum(known.sum(0), 1e-9)])
    return image, truth, np.moveaxis(known, 0, -1).astype(np.float32)


def wrong(probabilities, truth):
    return np.mean(probabilities.argmax(axis=-1)[truth > 0] != truth[truth > 0])


def test_borders_follow_the_intensities(brain):
    image, truth, known = brain
    found = refine(image, known, (2, 2, 2))
    assert wrong(known, truth) > 0.05
    assert wrong(found, truth) < 0.01
    np.testing.assert_allclose(found.sum(axis=-1), 1, rtol=1e-5)


def test_contrast_and_scale_of_intensities_do_not_matter(brain):
    image, truth, known = brain
    first = refine(image, known, (2, 2, 2)).argmax(axis=-1)
    other = refine(np.where(truth > 0, 900 - 700 * image, 0), known, (2, 2, 2)).argmax(axis=-1)
    np.testing.assert_array_equal(first, other)


def test_a_few_extreme_voxels_do_not_matter(brain):
    """As of metal, or of a quantitative map where its fit failed."""
    image, truth, known = brain
    first = refine(image, known, (2, 2, 2)).argmax(axis=-1)
    places = np.argwhere(truth > 0)[::400]
    for extreme in (1e4, -1e4):
        spiked = image.copy()
        spiked[tuple(places.T)] = extreme
        found = refine(spiked, known, (2, 2, 2)).argmax(axis=-1)
        assert np.mean(found[truth > 0] != first[truth > 0]) < 0.03


def test_a_window_makes_all_beyond_it_equal(brain):
    """As a CT, in which much of a tissue may be calcified."""
    image, _, known = brain
    image = image.astype(np.float32)
    plain = refine(image.clip(0, 0.65), known, (1, 1, 1))
    far = np.where(image > 0.65, 50 + 900 * image, image)
    grid = np.diag([1.0, 1, 1, 1])
    images = [nibabel.Nifti1Image(array, grid) for array in (far, known)]
    found = refine_image(*images, window=(0, 0.65))
    np.testing.assert_allclose(found.get_fdata(), plain, atol=1e-5)
    assert np.abs(refine_image(*images).get_fdata() - plain).max() > 0.3


def test_most_of_a_bias_field_is_taken_away(brain, monkeypatch):
    image, truth, known = brain
    bias = np.exp(np.linspace(-0.7, 0.7, SHAPE[0]))[:, None, None]
    found = refine(image * bias, known, (5, 5, 5))
    monkeypatch.setattr("cifl_tf.segmentation.refinement.BIAS_EVERY", 1000)
    without = refine(image * bias, known, (5, 5, 5))
    assert wrong(found, truth) < 0.5 * wrong(without, truth)


def test_background_of_the_network_stays(brain):
    image, truth, known = brain
    found = refine(image + 0.3, known, (2, 2, 2))
    np.testing.assert_array_equal(found.argmax(axis=-1) == 0, truth == 0)
    nothing = np.zeros_like(known)
    nothing[..., 0] = 1
    np.testing.assert_array_equal(refine(image, nothing, (2, 2, 2)), nothing)


def test_equal_priors_give_the_mixture_of_scikit_learn(rng):
    values = np.concatenate([rng.normal(0.2, 0.05, 4000), rng.normal(0.7, 0.05, 2000)])
    start = np.stack([values < 0.5, values >= 0.5]).astype(float)
    other = GaussianMixture(2, covariance_type="tied", random_state=0).fit(values[:, None])
    order = np.argsort(other.means_[:, 0])
    # With a prior of one half each, as mixing weights of scikit-learn would be.
    density = [
        norm.pdf(values, other.means_[one, 0], other.covariances_[0, 0] ** 0.5) for one in order
    ]
    expected = np.stack(density) / np.sum(density, axis=0)
    found = posterior(values, 0.5 + 0.01 * start, rounds=200)
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_a_small_tissue_does_not_drift_to_what_has_its_intensity(brain):
    """A fourth tissue, of few voxels, has the intensity of a large one."""
    image, _truth, known = brain
    place = np.zeros(SHAPE, bool)
    place[13:16, 13:16, 12:15] = True
    image = np.where(place, 0.5, image)
    share = np.where(place, 0.9, 0.0)[..., None]
    five = np.concatenate([known * (1 - share), share], axis=-1).astype(np.float32)
    found = refine(image, five, (2, 2, 2)).argmax(axis=-1)
    np.testing.assert_array_equal(found == 4, place)
