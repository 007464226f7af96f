"""What features can tell apart: where the best match of a voxel lies in another image."""

import dataclasses
import itertools

import numpy as np

MOST_VOXELS = 2000  # of a mask, drawn at random, that are matched
VOXELS_AT_ONCE = 200
ROUNDING = 1e-6  # of cosines in float32


@dataclasses.dataclass(frozen=True)
class Matching:
    """Best matches of voxels of one image in another.

    Attributes:
        accuracy: share of the voxels whose match lies within the tolerance, in [0, 1].
        distance: mean distance in voxels between the match and the right place. Of two encoders
            that match as often, the one with the lower number is the smoother, which registration
            needs.
        label_accuracy: share of the voxels whose match has the same label; NaN without labels.
        num_voxels: how many were matched.
        places: of these voxels, (num_voxels, ndim).
        distances: of the match of each, (num_voxels,); ``distance`` is their mean.

    Example:
        >>> import numpy as np
        >>> from cifl_tf.metrics import match_voxels
        >>> features = np.random.default_rng(0).normal(size=(20, 20, 8))
        >>> matching = match_voxels(features, features, np.ones((20, 20), bool))
        >>> matching.distance, matching.num_voxels
        (0.0, 400)
    """

    accuracy: float
    distance: float
    label_accuracy: float
    num_voxels: int
    places: np.ndarray = dataclasses.field(repr=False, compare=False)
    distances: np.ndarray = dataclasses.field(repr=False, compare=False)


def match_voxels(
    features_1,
    features_2,
    mask,
    radius: int = 6,
    tolerance: int = 1,
    labels: tuple[np.ndarray, np.ndarray] | None = None,
    seed: int = 0,
    most_voxels: int = MOST_VOXELS,
) -> Matching:
    """Find for voxels of one image the voxel of another with the most similar features.

    The match of x is the y with the highest cosine of ``features_1(x)`` and ``features_2(y)``,
    after the mean of each channel inside the mask is taken off, among the y within ``radius``
    voxels along every axis. Where both images show the same subject, x itself is right. Where
    several match equally, all count, with equal shares.

    Args:
        features_1: (*spatial, C), of slices or volumes.
        features_2: the same shape, on the same grid.
        mask: booleans (*spatial): the voxels x.
        radius: of the search in voxels.
        tolerance: largest distance in voxels along every axis at which a match counts as right.
        labels: label maps (*spatial) of both images, also of different subjects.
        seed: of the choice of voxels.
        most_voxels: of the mask, chosen at random where there are more.

    Raises:
        ValueError: shapes that differ, an empty mask, or numbers that make no search.

    Example:
        >>> import numpy as np
        >>> features = np.random.default_rng(0).normal(size=(20, 20, 8))
        >>> match_voxels(features, features, np.ones((20, 20), bool)).accuracy
        1.0
    """
    features_1, features_2 = (np.asarray(one, np.float32) for one in (features_1, features_2))
    mask = np.asarray(mask, bool)
    shape = mask.shape
    shapes = {features_1.shape, features_2.shape}
    if len(shapes) > 1 or features_1.shape[:-1] != shape:
        raise ValueError(
            f"features have shapes {features_1.shape} and {features_2.shape}, the mask {shape}; "
            "give two of one shape (*spatial, C) and a mask (*spatial)"
        )
    if not mask.any():
        raise ValueError("the mask holds 0 voxels; give one with at least one")
    if radius < 1 or not 0 <= tolerance < radius:
        raise ValueError(
            f"radius is {radius} and tolerance {tolerance}; give 0 <= tolerance < radius in voxels"
        )
    places = np.argwhere(mask)
    if len(places) > most_voxels:
        chosen = np.random.default_rng(seed).choice(len(places), most_voxels, replace=False)
        places = places[np.sort(chosen)]
    unit_1, unit_2 = _unit(features_1, mask), _unit(features_2, mask)
    offsets = np.array([*itertools.product(range(-radius, radius + 1), repeat=len(shape))])
    right = np.abs(offsets).max(axis=1) <= tolerance
    length = np.linalg.norm(offsets, axis=1)
    accuracy, distance, same = [], [], []
    for start in range(0, len(places), VOXELS_AT_ONCE):
        some = places[start : start + VOXELS_AT_ONCE]
        candidates = some[:, None] + offsets
        inside = ((candidates >= 0) & (candidates < shape)).all(axis=-1)
        reached = np.clip(candidates, 0, np.array(shape) - 1)
        values = unit_2[tuple(np.moveaxis(reached, -1, 0))]
        cosine = np.einsum("nc,nkc->nk", unit_1[tuple(some.T)], values)
        cosine = np.where(inside, cosine, -np.inf)
        # Equal matches share the voxel, or features that are the same everywhere would match best.
        best = cosine >= cosine.max(axis=1, keepdims=True) - ROUNDING
        share = best / best.sum(axis=1, keepdims=True)
        accuracy.append(share @ right)
        distance.append(share @ length)
        if labels is not None:
            own, found = labels[0][tuple(some.T)], labels[1][tuple(np.moveaxis(reached, -1, 0))]
            same.append((share * (own[:, None] == found)).sum(axis=1))
    distances = np.concatenate(distance)
    return Matching(
        accuracy=float(np.concatenate(accuracy).mean()),
        distance=float(distances.mean()),
        label_accuracy=float(np.concatenate(same).mean()) if same else np.nan,
        num_voxels=len(places),
        places=places,
        distances=distances,
    )


def effective_rank(features, mask=None) -> float:
    """How many channels carry something of their own, from 1 to C.

    The exponential of the entropy of the eigenvalues of the covariance of the channels, normalized
    to a sum of one.

    Args:
        features: (*spatial, C).
        mask: booleans (*spatial), the voxels to use; None for all.

    Raises:
        ValueError: fewer than two voxels are in the mask, or no channel varies.

    Source: Roy & Vetterli, The effective rank: a measure of effective dimensionality, EUSIPCO 2007.

    Example:
        >>> import numpy as np
        >>> from cifl_tf.metrics import effective_rank
        >>> channel = np.random.rand(24, 20)
        >>> round(effective_rank(np.stack([channel, -channel], axis=-1)), 3)
        1.0
    """
    features = np.asarray(features, np.float64)
    values = features.reshape(-1, features.shape[-1]) if mask is None else features[mask]
    if len(values) < 2:
        raise ValueError(f"the mask holds {len(values)} voxels; give at least two")
    spectrum = np.linalg.eigvalsh(np.cov(values, rowvar=False).reshape(values.shape[1], -1))
    spectrum = np.maximum(spectrum, 0)
    if spectrum.sum() == 0:
        raise ValueError("no channel varies inside the mask; give features of an image")
    share = spectrum / spectrum.sum()
    share = share[share > 0]
    return float(np.exp(-np.sum(share * np.log(share))))


def _unit(features, mask):
    """Features without the mean of each channel inside the mask, of length one at each voxel."""
    centered = features - features[mask].mean(axis=0)
    length = np.linalg.norm(centered, axis=-1, keepdims=True)
    return np.divide(centered, length, out=np.zeros_like(centered), where=length > 1e-9)
