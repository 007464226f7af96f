"""Contrasts made from a contrast: intensities in [0, 1] to intensities in [0, 1]."""

import re

import numpy as np

from cifl_tf.datasets.remappings import ALIASES, REMAPPINGS, Remapping

NUM_KNOTS = 6
LEAST_SLOPE = 0.2  # of a random monotone remapping, before interpolation; the identity has 1
LEAST_FALL = 0.3  # of a random non-monotone remapping: its falls together, and its rises together

RANDOM = re.compile(r"(monotone|nonmonotone)-([0-9]+)")


def remapping(name: str) -> Remapping:
    """Return the function that remaps intensities in [0, 1] to [0, 1].

    Args:
        name: a key of ``REMAPPINGS``; "gamma", short for "gamma 0.4"; or "monotone-3" or
            "nonmonotone-7", a random smooth remapping where the number is the seed.

    Raises:
        ValueError: there is no such remapping.
    """
    name = ALIASES.get(name, name)
    if name in REMAPPINGS:
        return REMAPPINGS[name]
    random = RANDOM.fullmatch(name)
    if random is None:
        raise ValueError(
            f"there is no contrast {name!r}; choose from {[*REMAPPINGS, *ALIASES]}, or "
            "'monotone-SEED' or 'nonmonotone-SEED' with a whole number"
        )
    kind, seed = random.groups()
    return random_monotone(int(seed)) if kind == "monotone" else random_nonmonotone(int(seed))


def random_monotone(seed: int) -> Remapping:
    """Random smooth increasing remapping that keeps 0 and 1; the same seed gives the same one.

    Six random rises, each at least a fifth of the identity's, joined by the cubic interpolation
    that stays monotone (Fritsch and Carlson 1980, in SciPy's ``PchipInterpolator``).
    """
    random = np.random.default_rng((seed, 0))
    rises = LEAST_SLOPE / NUM_KNOTS + (1 - LEAST_SLOPE) * random.dirichlet(np.ones(NUM_KNOTS))
    return _interpolated(np.append(0, np.cumsum(rises)))


def random_nonmonotone(seed: int) -> Remapping:
    """Random smooth remapping onto [0, 1] that rises and falls; the same seed gives the same one.

    Seven random levels at equal distances, stretched to [0, 1], and joined as in
    ``random_monotone``, so without overshoot. Drawn again until all rises together, and all falls
    together, come to 0.3 or more.
    """
    random = np.random.default_rng((seed, 1))
    while True:
        levels = random.random(NUM_KNOTS + 1)
        levels = (levels - levels.min()) / np.ptp(levels)
        steps = np.diff(levels)
        if min(-steps[steps < 0].sum(), steps[steps > 0].sum()) >= LEAST_FALL:
            return _interpolated(levels)


def remap_contrast(image: np.ndarray, mask: np.ndarray, name: str) -> np.ndarray:
    """Another contrast of an image: its intensities remapped inside the mask, zero outside.

    Args:
        image: intensities in [0, 1], any shape.
        mask: booleans of the same shape.
        name: what ``remapping`` takes: "inverted" is 1 - x, "folded" is not monotone, |2x - 1|.

    Returns:
        float32 intensities in [0, 1].

    Raises:
        ValueError: there is no such contrast.
    """
    return np.where(mask, remapping(name)(image), 0).astype(np.float32)


def _interpolated(levels):
    """Return the remapping through these levels at equal distances over [0, 1]."""
    from scipy.interpolate import PchipInterpolator  # slow, and the command line needs no curve

    curve = PchipInterpolator(np.linspace(0, 1, len(levels)), levels)
    return lambda x: np.clip(curve(x), 0, 1)
