"""Borders of tissues by the intensities of the scan itself.

A network that has seen all contrasts knows where each tissue may be, and a scan where its
intensities change. So a Gaussian for each tissue is fitted to the intensities of one scan, with the
probabilities of the network as prior (as SPM and SAMSEG do with those of an atlas: Ashburner &
Friston, NeuroImage 26, 2005; Puonti et al., NeuroImage 143, 2016).
"""

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

# So that intensities can overrule a network that is sure. A share of the mean prior of each tissue,
# or a small one, such as the thalamus, would drift to what has its intensity elsewhere.
LEAST_PRIOR = 0.1
PRIOR_WEIGHT = 0.7  # exponent of the prior: the network is surer than it should be
ROUNDS = 30
BIAS_EVERY = 5  # rounds
BIAS_MM = 20.0  # SD of the Gaussian that the bias field is smoothed by
GAINS = 0.2, 5.0  # of a bias field
DEEP_MARGIN = 0.25  # of the difference of white and gray matter
LEAST_VARIANCE = 1e-5  # of intensities in [0, 1]
TAILS = 1, 99  # percentiles; as far beyond them as they lie apart, intensities end


def refine(image: np.ndarray, probabilities: np.ndarray, voxel_size) -> np.ndarray:
    """Probabilities of tissues by those of a network and by the intensities of a scan.

    What the network takes for background stays background, and the rest gets a tissue.

    Args:
        image: float32 (x, y, z), intensities; any scale.
        probabilities: float32 (x, y, z, 1 + tissues), the background first, then those of
            ``TISSUES`` or the first few of them.
        voxel_size: mm along each axis.

    Returns:
        float32 of the same shape.

    Example:
        Two tissues, of which the network knows which is on which side, but not where they end:

        >>> import numpy as np
        >>> image = np.where(np.indices((20, 8, 8))[0] < 13, 0.2, 0.8)
        >>> left = np.linspace(0.9, 0.1, 20)[:, None, None] * np.ones((1, 8, 8))
        >>> known = np.stack([0 * left, left, 1 - left], axis=-1).astype(np.float32)
        >>> found = refine(image, known, (2, 2, 2))
        >>> [int((one.argmax(axis=-1) == 1).sum() / 64) for one in (known, found)]
        [10, 13]
    """
    inside = probabilities.argmax(axis=-1) > 0
    if not inside.any():
        return probabilities
    values = image[inside].astype(np.float64)
    low, high = np.percentile(values, TAILS)
    if low < high:  # a voxel of metal, or where the fit of a map failed, would squeeze all others
        values = values.clip(2 * low - high, 2 * high - low)
    values = (values - values.min()) / max(np.ptp(values), 1e-12)
    smooth = _smoother(np.argwhere(inside) * voxel_size)

    def gain(expected):
        field = smooth(values * expected) / np.maximum(smooth(expected**2), 1e-6)
        return np.clip(field, *GAINS)

    priors = probabilities[inside, 1:].T.astype(np.float64) ** PRIOR_WEIGHT
    refined = np.zeros_like(probabilities)
    refined[..., 0] = 1
    refined[inside, 0] = 0
    refined[inside, 1:] = posterior(values, priors, ROUNDS, True, gain, with_deep_between).T
    return refined


def _smoother(places):
    """A function that smooths values at places (n, axes) in mm, by ``BIAS_MM`` on a coarse grid."""
    spots = (places - places.min(axis=0)) / (BIAS_MM / 4)
    shape = tuple(np.ceil(spots.max(axis=0)).astype(int) + 1)
    cells = np.ravel_multi_index(np.rint(spots).astype(int).T, shape)

    def smooth(values):
        sums = np.bincount(cells, values, minlength=int(np.prod(shape))).reshape(shape)
        return map_coordinates(gaussian_filter(sums, 4, truncate=3), spots.T, order=1)

    return smooth


def with_deep_between(means: np.ndarray) -> np.ndarray:
    """Mean intensities of tissues, those of deep gray matter about between white and gray matter.

    Without this, the thalamus of a brain with large ventricles can become fluid.

    Args:
        means: of ``TISSUES`` in their order.
    """
    low, high = means[:2].min(), means[:2].max()
    margin = DEEP_MARGIN * (high - low)
    return np.concatenate([means[:3], means[3:].clip(low - margin, high + margin)])


def posterior(
    values: np.ndarray,
    priors: np.ndarray,
    rounds: int,
    common_variance: bool = True,
    gain: Callable[[np.ndarray], np.ndarray] | None = None,
    restrict: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Probabilities of classes by a Gaussian of each and by their priors: expectation maximization.

    Args:
        values: (n,) intensities in [0, 1].
        priors: (classes, n), from 0; they need not sum to one.
        rounds: how often the Gaussians are fitted.
        common_variance: of all classes, so that no class spreads over the others.
        gain: from the expected intensities (n,) to a bias field (n,); None for none.
        restrict: from mean intensities (classes,) to such as may be; None for any.

    Returns:
        (classes, n).
    """
    priors = priors / np.maximum(priors.sum(0), 1e-12)
    priors = np.maximum(priors, LEAST_PRIOR * priors.mean(axis=1, keepdims=True))
    priors /= priors.sum(0)
    found, corrected = priors, values
    for index in range(rounds):
        totals = found.sum(1) + 1e-12
        means = (found @ corrected) / totals
        means = means if restrict is None else restrict(means)
        squares = (corrected - means[:, None]) ** 2
        variances = np.einsum("kn,kn->k", found, squares) / totals
        if common_variance:
            variances[:] = (variances @ totals) / totals.sum()
        variances = np.maximum(variances, LEAST_VARIANCE)[:, None]
        found = priors * np.exp(-squares / variances / 2) / np.sqrt(variances) + 1e-12
        found /= found.sum(0)
        if gain is not None and index and index % BIAS_EVERY == 0:
            corrected = values / gain(means @ found)
    return found
