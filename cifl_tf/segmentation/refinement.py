"""Borders of labels by the intensities of the scan itself.

A network for all contrasts knows where each tissue may be, and a scan where its intensities change.
So a Gaussian for each label is fitted to the intensities of one scan, with the probabilities of the
network as prior (as SPM and SAMSEG do with those of an atlas: Ashburner & Friston, NeuroImage 26,
2005; Puonti et al., NeuroImage 143, 2016).
"""

from collections.abc import Callable

import nibabel
import numpy as np
from nibabel.affines import voxel_sizes
from scipy.ndimage import gaussian_filter, map_coordinates

from cifl_tf.images.grid import grid_of

# So that intensities can overrule a network that is sure. A share of the mean prior of each tissue,
# or a small one, such as the thalamus, would drift to what has its intensity elsewhere.
LEAST_PRIOR = 0.1
ROUNDS = 30
BIAS_EVERY = 5  # rounds
BIAS_MM = 20.0  # SD of the Gaussian that the bias field is smoothed by
GAINS = 0.2, 5.0  # of a bias field
LEAST_VARIANCE = 1e-5  # of intensities in [0, 1]
TAILS = 1, 99  # percentiles; as far beyond them as they lie apart, intensities end


def refine(
    image: np.ndarray,
    probabilities: np.ndarray,
    voxel_size,
    prior_weight: float = 1.0,
    restrict: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Probabilities of labels by those of a network and by the intensities of a scan.

    What the network takes for background stays background, and the rest gets a label.

    Args:
        image: float32 (*spatial), intensities; any scale.
        probabilities: float32 (*spatial, labels), the background first.
        voxel_size: mm along each axis.
        prior_weight: exponent of the probabilities; below 1, where the network is surer than it
            should be.
        restrict: from mean intensities (labels - 1,) to such as may be; None for any.

    Returns:
        float32 of the same shape.

    Example:
        Two tissues, of which the network knows which is on which side, but not where they end:

        >>> import numpy as np
        >>> from cifl_tf.segmentation.refinement import refine
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
    values = image[inside].astype(np.float32)
    low, high = np.percentile(values, TAILS)
    if low < high:  # a voxel of metal, or where the fit of a map failed, would squeeze all others
        values = values.clip(2 * low - high, 2 * high - low)
    values = (values - values.min()) / max(np.ptp(values), 1e-12)
    smooth = _smoother(np.argwhere(inside) * voxel_size)

    def gain(expected):
        field = smooth(values * expected) / np.maximum(smooth(expected**2), 1e-6)
        return np.clip(field, *GAINS)

    priors = np.ascontiguousarray(probabilities[inside, 1:].T, np.float32) ** prior_weight
    found = posterior(values, priors, ROUNDS, True, gain, restrict)
    refined = np.zeros_like(probabilities)
    refined[..., 0] = 1
    refined[inside, 0] = 0
    refined[inside, 1:] = found.T
    return refined


def refine_image(
    image, probabilities, window: tuple[float, float] | None = None, **options
) -> nibabel.Nifti1Image:
    """``refine`` on nibabel images on one grid.

    Args:
        image: intensities.
        probabilities: of all labels, the last axis; the background first.
        window: two intensities beyond which all are equal; None for any.
        options: ``prior_weight`` and ``restrict`` of ``refine``.
    """
    grid = grid_of(image, image.shape, "the image")
    known = np.asarray(probabilities.dataobj)
    sizes = voxel_sizes(grid.affine)[: len(image.shape)]
    known = known.reshape(*image.shape, known.shape[-1])
    values = np.asarray(image.dataobj)
    values = values if window is None else values.clip(min(window), max(window))
    return grid.image(refine(values, known, sizes, **options))


def _smoother(places):
    """A function that smooths values at places (n, axes) in mm, by ``BIAS_MM`` on a coarse grid."""
    spots = (places - places.min(axis=0)) / (BIAS_MM / 4)
    shape = tuple(np.ceil(spots.max(axis=0)).astype(int) + 1)
    cells = np.ravel_multi_index(np.rint(spots).astype(int).T, shape)

    def smooth(values):
        sums = np.bincount(cells, values, minlength=int(np.prod(shape))).reshape(shape)
        return map_coordinates(gaussian_filter(sums, 4, truncate=3), spots.T, order=1)

    return smooth


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
        values: float32 (n,) intensities in [0, 1].
        priors: float32 (classes, n), from 0; they need not sum to one.
        rounds: how often the Gaussians are fitted.
        common_variance: of all classes, so that no class spreads over the others.
        gain: from the expected intensities (n,) to a bias field (n,); None for none.
        restrict: from mean intensities (classes,) to such as may be; None for any.

    Returns:
        float32 (classes, n).
    """
    priors = priors / np.maximum(priors.sum(0), 1e-12)
    priors = np.maximum(priors, LEAST_PRIOR * priors.mean(axis=1, keepdims=True))
    priors /= priors.sum(0)
    found, corrected = priors, values
    for index in range(rounds):
        totals = found.sum(1) + 1e-12
        means = (found @ corrected) / totals
        means = means if restrict is None else restrict(means)
        squares = np.square(corrected - means[:, None].astype(np.float32))
        variances = np.einsum("kn,kn->k", found, squares) / totals
        if common_variance:
            variances[:] = (variances @ totals) / totals.sum()
        variances = np.maximum(variances, LEAST_VARIANCE)[:, None]
        # In place: of a head at 1 mm, each array of all classes takes a tenth of a gigabyte.
        squares /= -2 * variances
        found = np.exp(squares, out=squares)
        found *= priors
        found /= np.sqrt(variances)
        found += 1e-12
        found /= found.sum(0)
        if gain is not None and index and index % BIAS_EVERY == 0:
            corrected = (values / gain(means @ found)).astype(np.float32)
    return found
