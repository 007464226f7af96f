"""Intensities: the one place that decides what air is, and the one rule that scales to [0, 1].

Air is what surrounds a head, or what a skull strip left behind. Resampling and float arithmetic
leave values such as 1e-45 there, so air has a tolerance. ``layers.RescaleIntensity`` does the same
inside a TensorFlow graph.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

LOWER, UPPER = 0.5, 99.5
AIR_TOLERANCE = 1e-3  # of the range of intensities
DARKEST = 2e-3  # scaled intensity of what is not air
LARGEST_SPREAD = 0.01  # of the border of an image that shows its background there, of the range
SPREADS = 6.0  # that noisy background lies around its median
SHORTEST_AXIS = 8  # voxels of an axis that has a border
LEAST_BORDER = 16  # voxels
LARGEST_SHARE_BELOW = 0.01  # of a foreground whose background is its lowest intensity
OUTER_PERCENTILES = (0.1, 99.9)
HIGHEST_AIR_HU = -900.0
LOWEST_BODY_HU, LOWEST_BONE_HU = -200.0, 200.0
LEAST_SOFT_SHARE, LEAST_BONE_SHARE = 0.3, 0.005  # of the voxels of a body in CT
BRAIN_WINDOW_HU = (0.0, 80.0)
FILL = 2.0  # voxels, standard deviation of the mean that takes the place of air
LEAST_SHARE = 1e-3  # of what is not air, beside which the mean of all counts little


def is_air(image):
    """Where an image in [0, 1] is air.

    Args:
        image: array or tensor of any shape, such as ``rescale_intensity`` gives.

    Returns:
        Booleans of the same shape.
    """
    return image <= AIR_TOLERANCE


@dataclass(frozen=True)
class Background:
    """Intensity of the air around what an image shows.

    Attributes:
        value: median of the image's border.
        tolerance: how far air may lie from it.
        constant: whether half of the border has exactly this value, as after a skull strip.
    """

    value: float
    tolerance: float
    constant: bool

    def mask(self, image: np.ndarray) -> np.ndarray:
        """Where the image is air."""
        return np.abs(image - self.value) <= self.tolerance


def find_background(image) -> Background | None:
    """Background of an image of any unit, as its border shows it.

    Half of the border at least must lie near its median: within 1 % of the range of intensities.
    The tolerance is six times that distance, for noise, and 0.1 % of the range at least.

    Args:
        image: finite numbers (x, y[, z]). Axes of fewer than 8 voxels have no border.

    Returns:
        None where the border shows no background, as in a patch of tissue.
    """
    image = np.asarray(image, np.float32)
    border = _border(image)
    low, high = np.percentile(image, OUTER_PERCENTILES)
    if low == high:
        low, high = image.min(), image.max()
    extent = high - low
    if len(border) < LEAST_BORDER or extent == 0:
        return None
    value = float(np.median(border))
    spread = float(np.median(np.abs(border - value)))
    if spread > LARGEST_SPREAD * extent:
        return None
    tolerance = max(AIR_TOLERANCE * float(extent), SPREADS * spread)
    return Background(value, tolerance, constant=spread == 0)


def air_mask(image) -> np.ndarray:
    """Where an image of any unit is air; nowhere, where its border shows no background."""
    image = np.asarray(image, np.float32)
    background = find_background(image)
    return np.zeros(image.shape, bool) if background is None else background.mask(image)


def is_hounsfield(image) -> bool:
    """Whether an image is of a CT scanner in HU.

    Its border is air or padding, and of what is denser than -200 HU, a third is soft tissue (0 to
    80 HU) and some bone (more than 200 HU). A brain alone is not found; it needs no window either.
    """
    image = np.asarray(image, np.float32)
    border = _border(image)
    if len(border) < LEAST_BORDER or float(np.median(border)) > HIGHEST_AIR_HU:
        return False
    body = image[image > LOWEST_BODY_HU]
    if body.size == 0:
        return False
    low, high = BRAIN_WINDOW_HU
    soft = np.mean((body >= low) & (body <= high))
    return bool(soft >= LEAST_SOFT_SHARE and np.mean(body > LOWEST_BONE_HU) >= LEAST_BONE_SHARE)


@dataclass(frozen=True)
class IntensityScaling:
    """How intensities become numbers in [0, 1]; a model keeps the one it was trained with.

    Attributes:
        lower: percentile of the foreground that becomes 0, where no background is below it.
        upper: percentile of the foreground that becomes 1.
        window: two intensities that become 0 and 1 in place of percentiles, such as (0, 80) HU.
            None for percentiles, but 0 to 80 HU where the image is a head in HU.
        foreground: whether percentiles leave out air. False is the rule of models that were trained
            before version 0.2: percentiles of all voxels, and no window for HU.

    Raises:
        ValueError: not ``0 <= lower < upper <= 100``, or no ascending finite window.

    Example:
        >>> import cifl_tf as cifl
        >>> scaling = cifl.IntensityScaling(window=(0, 80))
        >>> scaling([-1000, 20, 40, 300])
        array([0.  , 0.25, 0.5 , 1.  ], dtype=float32)
    """

    lower: float = LOWER
    upper: float = UPPER
    window: tuple[float, float] | None = None
    foreground: bool = True

    def __post_init__(self):
        if not 0 <= self.lower < self.upper <= 100:
            raise ValueError(
                f"percentiles are {self.lower} and {self.upper}: give 0 <= lower < upper <= 100, "
                f"as {LOWER} and {UPPER}"
            )
        if self.window is not None:
            window = tuple(float(value) for value in self.window)
            if len(window) != 2 or not np.isfinite(window).all() or not window[0] < window[1]:
                raise ValueError(
                    f"window is {self.window}: give the lowest and highest intensity, as (0, 80)"
                )
            object.__setattr__(self, "window", window)

    def to_config(self) -> dict[str, Any]:
        """The attributes as JSON takes them."""
        return asdict(self)

    def __call__(self, image) -> np.ndarray:
        """Scale an image; see ``rescale_intensity``.

        Raises:
            ValueError: no voxels.
        """
        image = np.asarray(image, np.float32)
        if image.size == 0:
            raise ValueError(
                f"the image has no voxels, its shape is {image.shape}: give one that has"
            )
        background = find_background(image) if self.foreground else None
        air = np.zeros(image.shape, bool) if background is None else background.mask(image)
        inside = image[~air]
        if inside.size == 0:
            return np.zeros_like(image)
        window = self.window
        if window is None and self.foreground and is_hounsfield(image):
            window = BRAIN_WINDOW_HU
        limits = window or self._percentiles(inside, background)
        low, high = (np.float32(limit) for limit in limits)
        if low == high:
            return np.where(air, 0, background is not None).astype(np.float32)
        darkest = DARKEST if background is not None and window is None else 0
        scaled = np.clip((image - low) / (high - low), darkest, 1)
        scaled[air] = 0
        return scaled

    def _percentiles(self, inside, background):
        """The intensities that become 0 and 1, of what is not air."""
        low, high = np.percentile(inside, (self.lower, self.upper))
        if background is not None:
            below = np.mean(inside < background.value)
            # Below 0 may be a value that stands for outside, far from every intensity.
            near = background.value >= 0 or low - background.value <= high - low
            low = background.value if near and below <= LARGEST_SHARE_BELOW else low
        # So few voxels differ that the percentiles miss them: the extremes do not.
        return (low, high) if low < high else (min(low, inside.min()), inside.max())


BEFORE_0_2 = IntensityScaling(0.1, 99.9, foreground=False)


def rescale_intensity(
    image,
    lower: float = LOWER,
    upper: float = UPPER,
    window: tuple[float, float] | None = None,
) -> np.ndarray:
    """Scale intensities to [0, 1] by the same rule for every contrast and every amount of air.

    Air, see ``find_background``, becomes 0. The intensity of air becomes 0 elsewhere too where it
    is the lowest and, where negative, no farther below what is not air than that is wide; otherwise
    the ``lower`` percentile of what is not air does. The ``upper`` percentile becomes 1. Beyond
    these the image is clipped, but what is not air stays above 0, so that ``is_air`` of the result
    tells the two apart. Percentiles interpolate between the two nearest ranks. A constant image
    becomes 0. All in float32.

    A head in computed tomography, see ``is_hounsfield``, is scaled between 0 and 80 HU instead, the
    usual window for brains: padding and bone would decide the percentiles.

    Args:
        image: finite numbers, any shape.
        lower: percentile.
        upper: percentile.
        window: two intensities that become 0 and 1 in place of the percentiles.

    Raises:
        ValueError: no voxels, not ``0 <= lower < upper <= 100``, or no ascending finite window.

    Example:
        >>> import cifl_tf as cifl, numpy as np
        >>> image = np.zeros((40, 40))
        >>> image[10:30, 10:30] = 800
        >>> image[15:25, 15:25] = 400
        >>> np.unique(cifl.rescale_intensity(image)).tolist()
        [0.0, 0.5, 1.0]
    """
    return IntensityScaling(lower, upper, window)(image)


def fill_air(image) -> np.ndarray:
    """The image with air as the mean of what is near, so that the edge to air is no contrast.

    Args:
        image: intensities as ``rescale_intensity`` gives them, any shape.

    Returns:
        float32, the same shape. The mean is over a Gaussian of SD 2 voxels; far away from what is
        not air it becomes the mean of all that is not. An image of air stays as it is.
    """
    image = np.asarray(image, np.float32)
    return fill_outside(image, ~is_air(image))


def fill_outside(image, inside) -> np.ndarray:
    """The image with what is outside as the mean of what is near and inside; see ``fill_air``.

    Args:
        image: any shape.
        inside: booleans of the same shape. Where none is true, the image stays as it is.
    """
    from scipy.ndimage import gaussian_filter  # slow, and the command line fills nothing

    image = np.asarray(image, np.float32)
    if not inside.any():
        return image
    share = gaussian_filter(inside.astype(np.float32), FILL)
    total = gaussian_filter(np.where(inside, image, 0), FILL)
    mean = image[inside].mean()
    filled = (total + LEAST_SHARE * mean) / (share + LEAST_SHARE)
    return np.where(inside, image, filled).astype(np.float32)


def _border(image):
    """The outermost voxels along every axis that is not too short to have a border, (n,)."""
    border = np.zeros(image.shape, bool)
    for axis, size in enumerate(image.shape):
        if size >= SHORTEST_AXIS:
            outside = np.arange(size) % (size - 1) == 0
            border |= np.expand_dims(outside, tuple(set(range(image.ndim)) - {axis}))
    return image[border]
