"""Registration of feature volumes by Gauss-Newton steps: demons of many channels.

Sources: Vercauteren et al., Diffeomorphic demons: efficient non-parametric image registration,
NeuroImage 2009 (symmetric forces, composed updates); Peyrat et al., Registration of 4D cardiac CT
sequences under trajectory constraints with multichannel diffeomorphic demons, IEEE Transactions on
Medical Imaging 2010; Lucas & Kanade, IJCAI 1981 (equations averaged over neighbors); Avants et al.,
Medical Image Analysis 2008 (correlation in windows, squared, for contrasts that differ).
"""

import functools
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from cifl_tf._checks import AT_LEAST_0, POSITIVE, VOXELS, check_fields
from cifl_tf._compat import vxm
from cifl_tf.registration.discrete import masked_features
from cifl_tf.registration.displacements import checked_displacement
from cifl_tf.registration.separable import (
    box_matrix,
    gaussian_matrix,
    resample_blocks,
    separable,
)
from cifl_tf.registration.settings import check_scales
from cifl_tf.registration.similarity import average_pool

FEATURE_VARIANCE, INTENSITY_VARIANCE = 1e-2, 1e-3  # in a window, that noise may have


@dataclass(frozen=True)
class DemonsSettings:
    """How feature volumes are registered; the defaults were chosen on 2 mm brains.

    Attributes:
        scales: voxel sizes at which the features are compared, coarse to fine.
        steps: at each scale.
        radius: of the windows in which each channel is normalized, in voxels of the scale.
        step: the longest step of a voxel, in voxels of the scale.
        neighborhood: standard deviation of the Gaussian mean of the equations of a step, in voxels
            of the scale.
        fluid: of that of each step.
        diffusion: of that of the displacement after each step.
        damping: of the steps, relative to the mean of the equations.
        unsigned_weight: of the channels whose contrast may differ, relative to the others.

    Raises:
        ValueError: a number is negative, not finite or not whole, or the scales and steps do not
            fit each other.
    """

    scales: tuple[int, ...] = (4, 2, 1)
    steps: tuple[int, ...] = (30, 25, 10)
    radius: int = 2
    step: float = 1.0
    neighborhood: float = 1.0
    fluid: float = 1.5
    diffusion: float = 0.7
    damping: float = 0.1
    unsigned_weight: float = 1.0

    def __post_init__(self):
        check_scales(self)
        smooth = ("neighborhood", "fluid", "diffusion", "unsigned_weight")
        check_fields(
            self,
            radius=VOXELS,
            step=POSITIVE,
            damping=POSITIVE,
            **dict.fromkeys(smooth, AT_LEAST_0),
        )


def register_features(
    moving_features,
    fixed_features,
    num_unsigned: int = 0,
    settings: DemonsSettings | None = None,
    initial=None,
    moving_mask=None,
    fixed_mask=None,
) -> np.ndarray:
    """Displacement between two feature volumes.

    At each scale, both are averaged over blocks. A step warps the moving features, normalizes each
    channel in windows around the voxels to mean 0 and variance 1, solves the least squares of what
    is left of the difference, with the mean gradient of both, smooths the solution and composes the
    displacement with it.

    Args:
        moving_features: (x, y, z, C).
        fixed_features: the same shape.
        num_unsigned: of the last channels, whose contrast may be inverted from place to place, such
            as intensities: they count by their squared correlation.
        settings: None for ``DemonsSettings()``.
        initial: displacement (x, y, z, 3) in voxels to start from; None for none.
        moving_mask: booleans (x, y, z): where the moving features count; None for everywhere. The
            displacement goes on smoothly where they do not.
        fixed_mask: the same of the fixed features.

    Returns:
        float32 (x, y, z, 3) in voxels, on the grid of the fixed features; for ``warp``.

    Raises:
        ValueError: the features are not two volumes of one shape, are not finite, or have fewer
            channels; an axis has fewer than two blocks; or the initial displacement or a mask does
            not fit.

    Example:
        >>> import numpy as np
        >>> from cifl_tf.registration.demons import DemonsSettings, register_features
        >>> fixed = np.random.default_rng(0).normal(size=(12, 12, 12, 2))
        >>> settings = DemonsSettings(scales=(1,), steps=(2,))
        >>> register_features(fixed, fixed, settings=settings).shape
        (12, 12, 12, 3)
    """
    settings = settings or DemonsSettings()
    moving, fixed, *masks = masked_features(
        moving_features, fixed_features, moving_mask, fixed_mask
    )
    shape, num_channels = fixed.shape[:-1], fixed.shape[-1]
    VOXELS.check("num_unsigned", num_unsigned)
    if num_unsigned > num_channels:
        raise ValueError(f"num_unsigned is {num_unsigned}, but there are {num_channels} channels")
    if min(shape) <= max(settings.scales):
        raise ValueError(
            f"the features have shape {fixed.shape}, but scales are {settings.scales}; give scales "
            "that are smaller than every axis"
        )
    if initial is None:
        initial = np.zeros((*shape, 3), np.float32)
    initial = checked_displacement(initial)
    if initial.shape != (*shape, 3):
        raise ValueError(
            f"the initial displacement has shape {initial.shape}, but the features {fixed.shape}; "
            "give one on the same grid"
        )
    field, last = tf.constant(initial[None]), 1
    is_masked = moving_mask is not None or fixed_mask is not None
    for scale, steps in zip(settings.scales, settings.steps, strict=True):
        pair = average_pool(tf.stack([moving, fixed]), scale)
        if is_masked:  # as a last channel
            pair = tf.concat([pair, average_pool(tf.stack(masks)[..., None], scale)], axis=-1)
        start = resample_blocks(field, shape, last, scale)[0] / scale
        descend = _descent(tuple(pair.shape[1:]), num_unsigned, settings, is_masked)
        field, last = scale * descend(pair, start, tf.constant(steps))[None], scale
    return resample_blocks(field, shape, last)[0].numpy()


@functools.lru_cache(maxsize=4)  # all scales of a pair; each takes about 20 MB
def _descent(shape, num_unsigned, settings, is_masked):
    """The steps on features (2, *shape) of moving and fixed, traced once for a shape.

    A function of the features, the displacement so far and the number of steps, in voxels of the
    scale. The last channel is the share of each voxel that counts, where there are masks.
    """
    sizes, num_signed = shape[:-1], shape[-1] - num_unsigned - is_masked
    boxes = [box_matrix(size, settings.radius) for size in sizes]

    def gaussian(volume, sigma):
        matrices = [gaussian_matrix(size, sigma) for size in sizes]
        return separable(volume[None], matrices)[0] if sigma else volume

    noise = tf.constant([FEATURE_VARIANCE] * num_signed + [INTENSITY_VARIANCE] * num_unsigned)

    def window_mean(volume, shown):
        """Means in windows, of what is shown there."""
        if not is_masked:
            return separable(volume[None], boxes)[0]
        sums, share = (separable(one[None], boxes)[0] for one in (shown * volume, shown))
        return tf.math.divide_no_nan(sums, share)

    def normalized(volume, shown):
        """Each channel with mean 0 and variance 1 in windows, and what its gradient is times."""
        mean, square = tf.split(window_mean(tf.concat([volume, volume**2], -1), shown), 2, 3)
        scale = tf.math.rsqrt(tf.maximum(square - mean**2, 0) + noise)
        return (volume - mean) * scale, scale

    @tf.function(
        input_signature=[
            tf.TensorSpec([2, *shape]),
            tf.TensorSpec([*sizes, 3]),
            tf.TensorSpec([], tf.int32),
        ]
    )
    def descend(pair, start, steps):
        moving, fixed = pair[0], pair[1, ..., : num_signed + num_unsigned]
        slopes, alone = gradient(fixed), None if is_masked else normalized(fixed, 1.0)

        def step(index, field):
            warped, shown = vxm.utils.transform(moving, field), 1.0
            if is_masked:
                shown = pair[1, ..., -1:] * warped[..., -1:]
                warped = warped[..., :-1]
            target, target_scale = alone or normalized(fixed, shown)
            image, image_scale = normalized(warped, shown)
            sign, weight = _signs(target, image, num_unsigned, lambda one: window_mean(one, shown))
            residual = sign * target - image
            means = [
                (slope * target_scale * sign + other * image_scale) / 2
                for slope, other in zip(slopes, gradient(warped), strict=True)
            ]
            equations = _equations(
                means, residual, weight, shown, num_signed, settings.unsigned_weight
            )
            update = solve_3x3(gaussian(equations, settings.neighborhood), settings.damping)
            update = gaussian(update, settings.fluid)
            length = tf.norm(update, axis=-1, keepdims=True)
            update *= tf.minimum(1.0, settings.step / (length + 1e-9))
            field = update + vxm.utils.transform(field, update)
            return index + 1, gaussian(field, settings.diffusion)

        return tf.while_loop(
            lambda index, _: index < steps, step, (0, start), parallel_iterations=1
        )[1]

    return descend.get_concrete_function()  # a call of this counts as no retracing


def _signs(target, image, num_unsigned, window_mean):
    """Sign and weight of each channel in each voxel: of its correlation, where it is unsigned."""
    if not num_unsigned:
        return 1.0, 1.0
    correlation = window_mean((target * image)[..., -num_unsigned:])
    ones = tf.ones_like(target[..., :-num_unsigned])
    return (
        tf.concat([ones, tf.sign(correlation)], axis=-1),
        tf.concat([ones, tf.abs(correlation)], axis=-1),
    )


def _equations(slopes, residual, weight, shown, num_signed, unsigned_weight):
    """Normal equations (x, y, z, 9) of a step: six of the matrix, three of the right side.

    Voxels count by ``shown``, (x, y, z, 1) or a number.
    """
    total = 0.0
    for channels, factor in (
        (slice(None, num_signed), 1.0),
        (slice(num_signed, None), unsigned_weight),
    ):
        part = [slope[..., channels] for slope in slopes]
        if not part[0].shape[-1] or not factor:
            continue
        weights = weight if isinstance(weight, float) else weight[..., channels]
        weighted = [slope * weights for slope in part]
        products = [
            tf.reduce_sum(weighted[i] * part[j], axis=-1) for i in range(3) for j in range(i, 3)
        ]
        products += [tf.reduce_sum(slope * residual[..., channels], -1) for slope in weighted]
        equations = shown * tf.stack(products, axis=-1)
        mean = tf.reduce_mean(equations[..., 0] + equations[..., 3] + equations[..., 5])
        total += factor * tf.math.divide_no_nan(equations, mean)
    return total


def solve_3x3(equations: tf.Tensor, damping: float) -> tf.Tensor:
    """Solutions of symmetric systems of three equations, by Cramer's rule.

    Args:
        equations: (..., 9): the entries 11, 12, 13, 22, 23, 33 of the matrix, and the right side.
        damping: added to the diagonal, so that there is a solution.

    Returns:
        (..., 3).
    """
    a, b, c, d, e, f, *right = tf.unstack(equations, axis=-1)
    a, d, f = a + damping, d + damping, f + damping
    adjugate = [
        [d * f - e * e, c * e - b * f, b * e - c * d],
        [c * e - b * f, a * f - c * c, b * c - a * e],
        [b * e - c * d, b * c - a * e, a * d - b * b],
    ]
    determinant = a * adjugate[0][0] + b * adjugate[0][1] + c * adjugate[0][2]
    rows = [tf.add_n([w * r for w, r in zip(row, right, strict=True)]) for row in adjugate]
    return tf.stack(rows, axis=-1) / determinant[..., None]


def gradient(volume: tf.Tensor) -> list[tf.Tensor]:
    """Central differences of (x, y, z, C) along each axis; zero across the border's edge voxel."""
    slopes = []
    for axis, size in enumerate(volume.shape[:3]):
        after = tf.gather(volume, np.minimum(np.arange(size) + 1, size - 1), axis=axis)
        before = tf.gather(volume, np.maximum(np.arange(size) - 1, 0), axis=axis)
        slopes.append((after - before) / 2)
    return slopes
