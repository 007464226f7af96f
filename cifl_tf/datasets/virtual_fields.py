"""Random smooth deformations without folds: stationary velocity fields, integrated."""

import numpy as np
from scipy.interpolate import make_interp_spline
from scipy.ndimage import gaussian_filter, map_coordinates

NUM_SQUARINGS = 7


def smooth_noise(shape, sd, random) -> np.ndarray:
    """Gaussian noise, smoothed and scaled to mean 0 and standard deviation 1 over the array.

    Args:
        shape: sizes in voxels.
        sd: of the Gaussian, in voxels.
        random: a NumPy generator.
    """
    noise = gaussian_filter(random.standard_normal(shape).astype(np.float32), sd, mode="reflect")
    return (noise - noise.mean()) / noise.std()


def random_velocity(shape, scales, random) -> np.ndarray:
    """Draw a smooth velocity field, the sum of several scales.

    Args:
        shape: sizes in voxels.
        scales: pairs (SD of the Gaussian that smoothes, SD of the velocity), both in voxels.
        random: a NumPy generator.

    Returns:
        float32 (dims, *shape), voxels per unit of time.
    """
    return np.stack(
        [
            sum(strength * smooth_noise(shape, width, random) for width, strength in scales)
            for _ in shape
        ]
    )


def integrate(velocity: np.ndarray, num_squarings: int = NUM_SQUARINGS) -> np.ndarray:
    """Displacement after unit time in a stationary velocity field, by scaling and squaring.

    phi = exp(v): the displacement u of a short time is v / 2^n, which is too small to fold, and
    doubling the time is composing it with itself, u(x) + u(x + u(x)), n times. A composition of
    maps that do not fold does not fold.

    Args:
        velocity: (dims, *shape), voxels per unit of time.
        num_squarings: n.

    Returns:
        Displacement (dims, *shape), in voxels: x moves to x + u(x).

    Source: Arsigny et al., A log-Euclidean framework for statistics on diffeomorphisms, MICCAI
    2006.
    """
    displacement = velocity / 2**num_squarings
    identity = np.indices(velocity.shape[1:], dtype=np.float32)
    for _ in range(num_squarings):
        moved = identity + displacement
        displacement = displacement + np.stack([sample(axis, moved) for axis in displacement])
    return displacement


def resize(field: np.ndarray, shape, step: float) -> np.ndarray:
    """Sample a field on a finer grid, cubic, one axis after the other.

    Args:
        field: (channels, *coarse shape).
        shape: sizes of the finer grid, whose first voxel is the first of the coarse grid.
        step: distance of its voxels, in voxels of the coarse grid.
    """
    for axis, size in enumerate(shape, start=1):
        knots = np.arange(field.shape[axis])
        # The spline is linear in the field: as a matrix it is ten times faster than as a spline.
        weights = make_interp_spline(knots, np.eye(len(knots)), k=3)(np.arange(size) * step)
        resized = np.tensordot(field, weights.astype(np.float32), axes=(axis, 1))
        field = np.moveaxis(resized, -1, axis)
    return np.ascontiguousarray(field)


def warp(image: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """Image at x + u(x) for every voxel x, linear; outside it continues as at its border.

    Args:
        image: (*shape).
        displacement: u, (dims, *shape), in voxels.
    """
    return sample(image, np.indices(image.shape, dtype=np.float32) + displacement)


def sample(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Image at some places, linear; outside it continues as at its border.

    Args:
        image: (*shape).
        places: (dims, ...), in voxels.
    """
    return map_coordinates(image, places, order=1, mode="nearest")
