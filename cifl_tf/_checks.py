"""Checks of the numbers that options and constructors take."""

import dataclasses
import math
import numbers
from collections.abc import Sequence

MAX_ZOOMS = 10  # each is one more pass of a network, or two with mirror images


@dataclasses.dataclass(frozen=True)
class Number:
    """Which numbers are accepted; NaN and infinite ones never are.

    Attributes:
        words: what to give, for the error.
        lowest: the lowest number that is accepted.
        highest: the highest.
        above: the lowest number itself is refused.
        whole: only integers are accepted.
    """

    words: str
    lowest: float = -math.inf
    highest: float = math.inf
    above: bool = False
    whole: bool = False

    def check(self, name: str, value) -> None:
        """Refuse another value.

        Raises:
            ValueError: says the name, the value and what to give.
        """
        if self.whole and not isinstance(value, numbers.Integral):
            raise ValueError(f"{name} is {value!r}; give a whole number")
        if not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise ValueError(f"{name} is {value}; give {self.words}")
        number = float(value)
        too_low = number <= self.lowest if self.above else number < self.lowest
        if too_low or number > self.highest:
            raise ValueError(f"{name} is {value}; give {self.words}")


POSITIVE = Number("a positive number", 0, above=True)
AT_LEAST_0 = Number("a number of at least 0", 0)
SHARE = Number("a share of at least 0, at most 1", 0, 1)
BORDER_MM = Number("a number of mm from -20 to 20", -20, 20)
COUNT = Number("a positive number", 1, whole=True)
VOXELS = Number("a number of voxels from 0", 0, whole=True)
NDIM = Number("2 for slices or 3 for volumes", 2, 3, whole=True)
# What NumPy takes, which shares its seed with TensorFlow.
SEED = Number(f"a whole number from 0 to {2**32 - 1}", 0, 2**32 - 1, whole=True)


def check_fields(owner, **expected: Number) -> None:
    """Refuse an object of which a number is not as expected.

    Args:
        owner: any object.
        expected: by the name of the attribute.

    Raises:
        ValueError: as ``Number.check``, for the first one that is not.
    """
    for name, number in expected.items():
        number.check(name, getattr(owner, name))


def check_given(owner, **expected: Number) -> None:
    """``check_fields`` of the attributes that are not None."""
    given = {name: number for name, number in expected.items() if getattr(owner, name) is not None}
    check_fields(owner, **given)


def check_choice(name: str, value, choices: Sequence) -> None:
    """Refuse a value that is not among the choices.

    Raises:
        ValueError: says the name, the value and the choices.
    """
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; choose from {tuple(choices)}")


def check_contrasts(random_contrast: float, synthetic: bool | str | None) -> None:
    """Refuse random contrasts of images that are made from labels.

    Raises:
        ValueError: there are both.
    """
    if random_contrast and synthetic:
        raise ValueError(
            "random_contrast changes images, and synthetic makes them in random contrasts from "
            "labels; leave one out"
        )


def checked_range(name: str, pair: Sequence[float], highest: float = math.inf):
    """Lowest and highest of something drawn at random, as floats.

    Args:
        name: for the error.
        pair: (lowest, highest).
        highest: that may be given.

    Raises:
        ValueError: the pair is no range, is negative, not finite or reaches too high.
    """
    numbers_given = tuple(float(number) for number in pair)
    low, high = numbers_given if len(numbers_given) == 2 else (math.nan, math.nan)
    if not 0 <= low <= high <= highest or not math.isfinite(high):
        limit = f" <= {highest:g}" if math.isfinite(highest) else ""
        raise ValueError(
            f"{name} is {tuple(pair)}; give (lowest, highest) with 0 <= lowest <= highest{limit}, "
            "both finite"
        )
    return low, high


def checked_zoom_factors(zoom_factors: Sequence[float]) -> tuple[float, ...]:
    """Factors by which copies of an image are zoomed.

    Raises:
        ValueError: one is 1, there twice, below 0.5 or above 2, or there are more than ten.
    """
    factors = tuple(float(zoom) for zoom in zoom_factors)
    distinct = len({1.0, *factors}) > len(factors)
    if not distinct or len(factors) > MAX_ZOOMS or not all(0.5 <= zoom <= 2 for zoom in factors):
        raise ValueError(
            f"zoom_factors are {factors[:MAX_ZOOMS]}; give factors from 0.5 to 2 other than "
            f"1, at most {MAX_ZOOMS}, each once: the image itself is always there"
        )
    return factors
