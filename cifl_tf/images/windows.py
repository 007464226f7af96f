"""Boxes of voxels, also such as reach beyond an image."""

import numpy as np

from cifl_tf.images.intensity import air_mask


def foreground_window(image: np.ndarray, margin: int) -> tuple[slice, ...]:
    """The smallest box with all that is no air, and so many voxels more on every side.

    Args:
        image: (x, y, z), not constant.
        margin: voxels.

    Returns:
        Slices that may begin below 0 and end beyond the image.
    """
    shown = ~air_mask(image)
    window = []
    for axis in range(image.ndim):
        places = np.flatnonzero(shown.any(axis=tuple({*range(image.ndim)} - {axis})))
        window.append(slice(int(places[0]) - margin, int(places[-1]) + 1 + margin))
    return tuple(window)


def take(image: np.ndarray, window: tuple[slice, ...]) -> np.ndarray:
    """The voxels of a window, 0 beyond the image."""
    found = np.zeros([one.stop - one.start for one in window], image.dtype)
    inner, outer = _common(image.shape, window)
    found[inner] = image[outer]
    return found


def put(values: np.ndarray, window: tuple[slice, ...], image: np.ndarray) -> None:
    """Write the values of a window into an image, in place; both may have channels."""
    inner, outer = _common(image.shape[: len(window)], window)
    image[outer] = values[inner]


def _common(shape, window):
    """What a window and an image share: slices of the window, and of the image."""
    begins = [max(0, one.start) for one in window]
    ends = [min(size, one.stop) for size, one in zip(shape, window, strict=True)]
    outer = tuple(slice(*pair) for pair in zip(begins, ends, strict=True))
    inner = tuple(
        slice(begin - one.start, end - one.start)
        for begin, end, one in zip(begins, ends, window, strict=True)
    )
    return inner, outer
