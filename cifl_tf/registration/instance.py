"""Instance optimization: the warp of one pair on its features, with no trained network."""

import dataclasses
import functools
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from cifl_tf._checks import AT_LEAST_0, COUNT, POSITIVE, check_fields
from cifl_tf._compat import keras, vxm
from cifl_tf._former_names import accepts_former
from cifl_tf.features.frozen import FrozenFeatures
from cifl_tf.images.intensity import fill_air
from cifl_tf.registration.displacements import checked_displacement, checked_pair, compose, warp
from cifl_tf.registration.separable import linear_matrix, separable
from cifl_tf.registration.settings import check_scales
from cifl_tf.registration.similarity import (
    average_pool,
    block_centers,
    gradient_penalty,
    squared_local_ncc,
    voxel_cosine,
)
from cifl_tf.synthesis.integration import integrate

# From so many pairs of slices on, compiling the optimization by XLA saves more than it takes.
MANY_PAIRS = 32
STEPS_PER_CALL = 10  # of TensorFlow, after each of which the progress bar moves


@dataclasses.dataclass(frozen=True)
class InstanceSettings:
    """How a pair is optimized; the defaults were chosen on 2 mm coronal slices of brains.

    Attributes:
        scales: voxel sizes at which the images are encoded and compared, coarse to fine.
        steps: optimization steps at each scale.
        spacing: distance of the control points of the velocity at scale 1, in voxels; at scale s it
            is s times that.
        smoothness: weight of the mean square gradient of the velocity.
        intensity_weight: of ``squared_local_ncc`` of the intensities beside the features, which
            lets a contrast be inverted from place to place; 0 for features alone.
        learning_rate: of Adam, in voxels of the scale.
        resolution: voxel size of the velocity's own grid, in voxels.
        int_steps: squarings that integrate the velocity.

    Raises:
        ValueError: a number is not positive, finite or whole, or the smoothness is negative.

    Example:
        >>> import cifl_tf as cifl
        >>> quick = cifl.InstanceSettings(scales=(4, 2), steps=(10, 10))
        >>> sum(quick.steps), sum(cifl.InstanceSettings().steps)
        (20, 180)
    """

    scales: tuple[int, ...] = (8, 4, 2, 1)
    steps: tuple[int, ...] = (40, 40, 40, 60)
    spacing: int = 2
    smoothness: float = 0.2
    intensity_weight: float = 1.0
    learning_rate: float = 0.15
    resolution: int = 2
    int_steps: int = 7

    def __post_init__(self):
        check_scales(self)
        counts = ("spacing", "resolution", "int_steps")
        check_fields(
            self,
            learning_rate=POSITIVE,
            **dict.fromkeys(("smoothness", "intensity_weight"), AT_LEAST_0),
            **dict.fromkeys(counts, COUNT),
        )


@accepts_former()
def optimize_instance(
    moving,
    fixed,
    encoder: keras.Model | None,
    remappings: Sequence[str] = ("inverted",),
    settings: InstanceSettings | None = None,
    initial=None,
    progress: bool = False,
) -> np.ndarray:
    """Register one pair, or each pair of a batch, by optimizing its own warp.

    Pairs of slices are optimized side by side, one on each processor.

    At each scale both images are averaged over blocks and encoded, and a stationary velocity, cubic
    B-splines on a grid of control points, is optimized by Adam; the next scale adds a finer one to
    it. The objective is one minus ``voxel_cosine`` of the features, plus one minus
    ``squared_local_ncc`` of the intensities, plus the smoothness; without an encoder, the mean
    square difference of the intensities relative to the variance of the fixed image takes the place
    of the first two. Encoding averaged images beats averaging features: their signs cancel.

    Args:
        moving: (*shape) or (n, *shape, 1), intensities in [0, 1].
        fixed: the same shape.
        encoder: see ``build_encoder``; None compares the intensities, for images of one contrast.
        remappings: see ``FrozenFeatures``.
        settings: None for ``InstanceSettings()``.
        initial: a displacement to refine, as ``register`` gives it: the moving image is warped with
            it first, and the result composed with it. The smoothness then is that of the rest.
        progress: show a bar of the optimization steps in a terminal.

    Returns:
        float32 (*shape, ndim), or (n, *shape, ndim) for batches, in voxels; for ``warp``.

    Raises:
        ValueError: images, encoder or initial displacement do not fit each other, or unknown
            remappings.

    Example:
        >>> import cifl_tf as cifl, numpy as np
        >>> moving = cifl.mni152_slice()[0][::5, ::5]
        >>> fixed = np.roll(moving, 1, axis=0)
        >>> settings = cifl.InstanceSettings(scales=(2, 1), steps=(10, 10))
        >>> displacement = cifl.optimize_instance(moving, fixed, None, settings=settings)
        >>> error = np.abs(cifl.warp(moving, displacement) - fixed).mean()
        >>> bool(error < 0.5 * np.abs(moving - fixed).mean())
        True
    """
    settings = settings or InstanceSettings()
    moving, fixed, single = checked_pair(moving, fixed)
    ndim = moving.ndim - 2
    if encoder is not None and len(encoder.input_shape) - 2 != ndim:
        raise ValueError(
            f"the encoder is for {len(encoder.input_shape) - 2}D images, but the images are "
            f"{ndim}D; give an encoder of the same dimensions"
        )
    if initial is not None:
        initial = checked_displacement(initial)
        initial = initial[None] if initial.ndim == ndim + 1 else initial
        if initial.shape != (*moving.shape[:-1], ndim):
            raise ValueError(
                f"the initial displacement has shape {initial.shape}, but the images "
                f"{moving.shape}; give one from a pair on the same grid"
            )
        moving = warp(moving, initial)
    if encoder is None:
        settings = dataclasses.replace(settings, intensity_weight=0.0)
    extract, shape = FrozenFeatures(encoder, remappings), moving.shape[1:-1]
    num_channels = extract.num_features + (settings.intensity_weight > 0)
    compiled = ndim == 2 and len(moving) >= MANY_PAIRS
    optimizers = [
        _optimizer(settings, shape, scale, steps, num_channels, compiled)
        for scale, steps in zip(settings.scales, settings.steps, strict=True)
    ]
    total = len(moving) * sum(settings.steps)
    hidden = None if progress else True  # None: where there is no terminal
    bar = tqdm(total=total, desc="optimization", unit="step", disable=hidden, leave=False)

    def advance(steps):
        with bar.get_lock():
            bar.update(steps)

    def optimize(pair):
        features = [features_at_scale(tf.stack(pair), extract, scale) for scale in settings.scales]
        if settings.intensity_weight:
            filled = tf.stack([fill_air(image) for image in pair])
            features = [
                tf.concat([one, average_pool(filled, scale)], axis=-1)
                for one, scale in zip(features, settings.scales, strict=True)
            ]
        return _optimize(features, shape, settings, optimizers, advance)

    # The operations on slices are too small to occupy more than one processor.
    pool = ThreadPoolExecutor(os.cpu_count() if ndim == 2 else 1)
    with bar:
        try:
            displacement = np.stack([*pool.map(optimize, zip(moving, fixed, strict=True))])
        finally:
            pool.shutdown(cancel_futures=True)
    if initial is not None:
        displacement = compose(initial, displacement)
    return displacement[0] if single else displacement


def features_at_scale(images: tf.Tensor, extract: FrozenFeatures, scale: int) -> tf.Tensor:
    """Features of images (batch, *spatial, 1) whose voxels are averaged over ``scale`` of them."""
    # Remapped before averaging: after it, the edge of the brain, part air, would count as tissue.
    return extract.mean_features([average_pool(copy, scale) for copy in extract.copies(images)])


def _optimize(features, shape, settings, optimizers, advance):
    """Displacement (*shape, ndim) from features (2, *pooled shape, C) of moving and fixed.

    Intensities are the last channel, if they have a weight.
    """
    velocity = tf.zeros([1, *(math.ceil(size / settings.resolution) for size in shape), len(shape)])
    for pair, optimizer in zip(features, optimizers, strict=True):
        velocity = optimizer(velocity, pair, advance)
    field = _sampled(_integrate(velocity, settings), shape, 1, settings.resolution)
    return field[0].numpy()


@functools.lru_cache(maxsize=64)
def _optimizer(settings, shape, scale, steps, num_channels, compiled):
    """The optimization at one scale, traced once for all pairs of one shape.

    A function of the velocity so far, the features, and what to call with the number of steps after
    some of them; it gives the new velocity.
    """
    ndim, resolution = len(shape), settings.resolution
    spacing = max(1.0, settings.spacing * scale / resolution)
    grid = [math.ceil(size / resolution) for size in shape]
    basis = [bspline_basis(size, spacing) for size in grid]
    # Adam moves a control point by about this much per step, in voxels of the velocity's grid.
    rate = settings.learning_rate * settings.spacing * scale / (2 * resolution)

    def objective(coefficients, start, moving, fixed):
        velocity = start + separable(coefficients, basis)
        sampled = _sampled(_integrate(velocity, settings), shape, scale, resolution)
        warped = vxm.utils.transform(moving, sampled[0] / scale)[None]
        # In voxels of the image, whatever the resolution of the velocity.
        penalty = gradient_penalty(velocity)[0] * ndim * (resolution / 2) ** 2
        difference = _dissimilarity(fixed[None], warped, settings.intensity_weight)
        return difference + settings.smoothness * penalty

    @tf.function(jit_compile=compiled or None)
    def run(start, features, first, last, *state):
        moving, fixed = features[0], features[1]

        # Adam written out: a Keras optimizer would be traced anew for every variable.
        def step(index, coefficients, mean, square):
            with tf.GradientTape() as tape:
                tape.watch(coefficients)
                value = objective(coefficients, start, moving, fixed)
            gradient = tape.gradient(value, coefficients)
            mean = 0.9 * mean + 0.1 * gradient
            square = 0.99 * square + 0.01 * gradient**2
            count = tf.cast(index + 1, tf.float32)
            change = (mean / (1 - 0.9**count)) / (tf.sqrt(square / (1 - 0.99**count)) + 1e-8)
            decay = 0.5 + 0.5 * tf.cos(math.pi * count / steps)
            return index + 1, coefficients - rate * decay * change, mean, square

        return tf.while_loop(lambda index, *_: index < last, step, (first, *state))[1:]

    pooled = [math.ceil(size / scale) for size in shape]
    control_points = tf.TensorSpec([1, *(matrix.shape[1] for matrix in basis), ndim])
    # Concrete, as TensorFlow warns of the tracing when many are made of the same lines.
    traced = run.get_concrete_function(
        tf.TensorSpec([1, *grid, ndim]),
        tf.TensorSpec([2, *pooled, num_channels]),
        *[tf.TensorSpec([], tf.int32)] * 2,
        *[control_points] * 3,
    )

    def optimize(start, features, advance):
        state = [tf.zeros(control_points.shape)] * 3
        for first in range(0, steps, STEPS_PER_CALL):
            last = min(first + STEPS_PER_CALL, steps)
            state = traced(start, features, tf.constant(first), tf.constant(last), *state)
            advance(last - first)
        return start + separable(state[0], basis)

    return optimize


def _dissimilarity(fixed, warped, intensity_weight):
    if fixed.shape[-1] == 1:
        return tf.reduce_mean((fixed - warped) ** 2) / (tf.math.reduce_variance(fixed) + 1e-6)
    if not intensity_weight:
        return 1 - voxel_cosine(fixed, warped)[0]
    cosine = voxel_cosine(fixed[..., :-1], warped[..., :-1])[0]
    correlation = squared_local_ncc(fixed[..., -1:], warped[..., -1:])[0]
    return 1 - cosine + intensity_weight * (1 - correlation)


def _integrate(velocity, settings):
    return integrate(velocity[0], settings.int_steps)[None]


def _sampled(field, shape, scale, resolution):
    """Field on the grid of ``resolution``, in its voxels, at the blocks of ``scale``, in voxels."""
    matrices = []
    for size in shape:
        grid = math.ceil(size / resolution)
        centers = block_centers(size, scale)
        position = (centers - (resolution - 1) / 2) / resolution
        matrices.append(linear_matrix(np.arange(grid), position))
    return resolution * separable(field, matrices)


def bspline_basis(size: int, spacing: float) -> np.ndarray:
    """Cubic B-splines at ``size`` points, centered every ``spacing`` of them; (size, splines)."""
    num_splines = math.ceil((size - 1) / spacing) + 3
    distance = np.abs(np.arange(size)[:, None] / spacing - (np.arange(num_splines) - 1))
    inner = 2 / 3 - distance**2 + distance**3 / 2
    outer = np.maximum(0, 2 - distance) ** 3 / 6
    return np.where(distance < 1, inner, outer).astype(np.float32)
