"""Keras layers of the encoders."""

from collections.abc import Sequence

import tensorflow as tf

from cifl_tf._compat import keras
from cifl_tf.images.intensity import (
    AIR_TOLERANCE,
    BRAIN_WINDOW_HU,
    DARKEST,
    HIGHEST_AIR_HU,
    LARGEST_SHARE_BELOW,
    LARGEST_SPREAD,
    LEAST_BONE_SHARE,
    LEAST_BORDER,
    LEAST_SOFT_SHARE,
    LOWER,
    LOWEST_BODY_HU,
    LOWEST_BONE_HU,
    OUTER_PERCENTILES,
    SHORTEST_AXIS,
    SPREADS,
    UPPER,
    IntensityScaling,
    is_air,
)


@keras.saving.register_keras_serializable(package="cifl_tf")
class L2Normalize(keras.layers.Layer):
    """L2-normalize every channel over space, scaled to a mean square of one.

    The paper's features lie on a hypersphere: each channel, flattened over its n voxels, is a unit
    vector (Chua & Dalca, section 2). Here it has the length sqrt(n), so that the values of a voxel
    do not depend on the size of the image. A channel that is zero everywhere stays zero. Computed
    in float32 whatever the precision policy.

    Given the image beside the features, the mean is over what is not air, so that the values do not
    depend on the amount of air around a head either; over all voxels where all are air.

    Args:
        epsilon: mean squares below this are not scaled up to one.

    Call arguments:
        inputs: features (batch, *spatial, channels), or a pair of them and the image (batch,
            *spatial, 1) in [0, 1].

    Output shape:
        (batch, *spatial, channels)

    Example:
        >>> import cifl_tf as cifl, numpy as np
        >>> features = cifl.L2Normalize()(np.random.rand(1, 24, 20, 3))
        >>> np.mean(features**2, axis=(1, 2)).round(3)
        array([[1., 1., 1.]], dtype=float32)
    """

    def __init__(self, epsilon: float = 1e-12, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def call(self, inputs):
        """Normalized features."""
        features, image = inputs if isinstance(inputs, list | tuple) else (inputs, None)
        axes = list(range(1, features.shape.rank - 1))
        if image is None:
            mean_square = tf.reduce_mean(tf.square(features), axes, keepdims=True)
        else:
            weight = tf.cast(~is_air(image), tf.float32)
            count = tf.reduce_sum(weight, axes, keepdims=True)
            weight = tf.where(count > 0, weight, 1.0)
            total = tf.reduce_sum(weight, axes, keepdims=True)
            mean_square = tf.reduce_sum(weight * tf.square(features), axes, keepdims=True) / total
        return features * tf.math.rsqrt(tf.maximum(mean_square, self.epsilon))

    def get_config(self):
        """Arguments that build this layer again."""
        return {**super().get_config(), "epsilon": self.epsilon}


@keras.saving.register_keras_serializable(package="cifl_tf")
class PadToMultiple(keras.layers.Layer):
    """Mirror the end of every spatial axis until its size is a multiple of ``multiple``.

    Input and output shape:
        (batch, *spatial, channels), each spatial size rounded up to a multiple
    """

    def __init__(self, multiple: int, **kwargs):
        super().__init__(**kwargs)
        self.multiple = multiple

    def call(self, inputs):
        """Padded inputs."""
        sizes = tf.shape(inputs)[1:-1]
        after = -sizes % self.multiple
        # tf.pad mirrors once: not enough where an axis is thinner than its padding.
        padded = tf.cond(
            tf.reduce_all(after <= sizes),
            lambda: tf.pad(inputs, tf.pad(after[:, None], [[1, 1], [1, 0]]), "SYMMETRIC"),
            lambda: _mirrored(inputs, sizes + after),
        )
        known = [size and size + -size % self.multiple for size in inputs.shape[1:-1]]
        return tf.ensure_shape(padded, [inputs.shape[0], *known, inputs.shape[-1]])

    def get_config(self):
        """Arguments that build this layer again."""
        return {**super().get_config(), "multiple": self.multiple}


def _mirrored(inputs, sizes):
    """Every spatial axis continued to a size, mirrored at its end as often as that takes."""
    for axis, size in enumerate(tf.unstack(sizes), start=1):
        old = tf.shape(inputs)[axis]
        positions = tf.range(size) % (2 * old)
        inputs = tf.gather(inputs, tf.minimum(positions, 2 * old - 1 - positions), axis=axis)
    return inputs


@keras.saving.register_keras_serializable(package="cifl_tf")
class CropTo(keras.layers.Layer):
    """Drop the end of every spatial axis: undoes ``PadToMultiple``.

    Call arguments:
        inputs: a pair of the image to crop and the image whose spatial size it gets.
    """

    def call(self, inputs):
        """The first input in the spatial size of the second."""
        image, reference = inputs
        sizes = tf.concat([[-1], tf.shape(reference)[1:-1], [-1]], axis=0)
        cropped = tf.slice(image, tf.zeros_like(sizes), sizes)
        return tf.ensure_shape(cropped, [*reference.shape[:-1], image.shape[-1]])


@keras.saving.register_keras_serializable(package="cifl_tf")
class RescaleIntensity(keras.layers.Layer):
    """``intensity.rescale_intensity`` of each image of a batch, in the TensorFlow graph.

    Args:
        lower, upper, window, foreground: see ``intensity.IntensityScaling``.

    Input and output shape:
        (batch, *spatial, 1), any intensities; the same in [0, 1]

    Example:
        >>> import cifl_tf as cifl, numpy as np
        >>> scaled = cifl.RescaleIntensity()(1000 * np.random.rand(2, 24, 20, 1))
        >>> float(np.min(scaled)), float(np.max(scaled))
        (0.0, 1.0)
    """

    def __init__(
        self,
        lower: float = LOWER,
        upper: float = UPPER,
        window: Sequence[float] | None = None,
        foreground: bool = True,
        **kwargs,
    ):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        window = None if window is None else (window[0], window[1])
        self.scaling = IntensityScaling(lower, upper, window, foreground)

    def call(self, inputs):
        """Rescaled inputs."""
        flat = tf.reshape(inputs, [tf.shape(inputs)[0], -1])
        air, value, has_background, hounsfield = self._background(inputs, flat)
        inside = ~air
        count = tf.reduce_sum(tf.cast(inside, tf.int32), axis=1)
        ranked = tf.sort(tf.where(inside, flat, flat.dtype.max), axis=1)
        low = _percentile(ranked, count, self.scaling.lower)
        high = _percentile(ranked, count, self.scaling.upper)
        below = tf.reduce_sum(tf.cast(inside & (flat < value[:, None]), tf.int32), axis=1)
        few = tf.cast(below, tf.float32) <= LARGEST_SHARE_BELOW * tf.cast(count, tf.float32)
        near = (value >= 0) | (low - value <= high - low)
        low = tf.where(has_background & few & near, value, low)
        # So few voxels differ that the percentiles miss them: the extremes do not.
        smallest = tf.minimum(low, ranked[:, 0])
        largest = tf.reduce_max(tf.where(inside, flat, flat.dtype.min), axis=1)
        low, high = tf.where(low < high, low, smallest), tf.where(low < high, high, largest)
        windowed = hounsfield | (self.scaling.window is not None)
        if self.scaling.window is not None:
            low, high = (tf.fill(tf.shape(low), limit) for limit in self.scaling.window)
        elif self.scaling.foreground:
            low = tf.where(hounsfield, BRAIN_WINDOW_HU[0], low)
            high = tf.where(hounsfield, BRAIN_WINDOW_HU[1], high)
        darkest = tf.where(has_background & ~windowed, DARKEST, 0.0)[:, None]
        low, high = low[:, None], high[:, None]
        scaled = tf.clip_by_value(tf.math.divide_no_nan(flat - low, high - low), darkest, 1.0)
        # What is not air but all the same, such as a mask.
        scaled = tf.where((low == high) & has_background[:, None], 1.0, scaled)
        return tf.reshape(tf.where(air, 0.0, scaled), tf.shape(inputs))

    def _background(self, image, flat):
        """Air (batch, voxels), and of each image the background, whether it has one, and is HU."""
        none = tf.zeros_like(flat[:, 0], tf.bool)
        if not self.scaling.foreground:
            return tf.zeros_like(flat, tf.bool), tf.zeros_like(flat[:, 0]), none, none
        border = tf.boolean_mask(flat, _border_mask(image), axis=1)
        size = tf.shape(border)[1]
        # Where no axis is long enough for a border, any values will do: they are not used.
        enough = size >= LEAST_BORDER
        border = tf.cond(enough, lambda: border, lambda: flat)
        value = _median(border)
        spread = _median(tf.abs(border - value[:, None]))
        ranked, count = tf.sort(flat, axis=1), tf.fill([tf.shape(flat)[0]], tf.shape(flat)[1])
        low, high = (_percentile(ranked, count, outer) for outer in OUTER_PERCENTILES)
        hounsfield = enough & (value <= HIGHEST_AIR_HU) & _shows_bone_and_soft_tissue(flat)
        same = low == high
        extent = tf.where(same, ranked[:, -1] - ranked[:, 0], high - low)
        found = enough & (extent > 0) & (spread <= LARGEST_SPREAD * extent)
        tolerance = tf.maximum(AIR_TOLERANCE * extent, SPREADS * spread)
        air = found[:, None] & (tf.abs(flat - value[:, None]) <= tolerance[:, None])
        return air, value, found, hounsfield

    def get_config(self):
        """Arguments that build this layer again."""
        return {**super().get_config(), **self.scaling.to_config()}


def _shows_bone_and_soft_tissue(flat):
    """Whether each row of (batch, voxels) is that of a head in HU; see ``is_hounsfield``."""

    def count(found):
        return tf.reduce_sum(tf.cast(found, tf.float32), axis=1)

    body = count(flat > LOWEST_BODY_HU)
    low, high = BRAIN_WINDOW_HU
    soft, bone = count((flat >= low) & (flat <= high)), count(flat > LOWEST_BONE_HU)
    return (body > 0) & (soft >= LEAST_SOFT_SHARE * body) & (bone >= LEAST_BONE_SHARE * body)


def _border_mask(image):
    """The outermost voxels of images (batch, *spatial, 1), flattened; see ``find_background``."""
    sizes = tf.shape(image)[1:-1]
    ndim = image.shape.rank - 2
    border = tf.zeros(sizes, tf.bool)
    for axis in range(ndim):
        position, size = tf.range(sizes[axis]), sizes[axis]
        outside = (size >= SHORTEST_AXIS) & ((position == 0) | (position == size - 1))
        border |= tf.reshape(outside, [-1 if other == axis else 1 for other in range(ndim)])
    return tf.reshape(border, [-1])


def _median(values):
    """Median of each row."""
    count = tf.fill([tf.shape(values)[0]], tf.shape(values)[1])
    return _percentile(tf.sort(values, axis=1), count, 50)


def _percentile(ranked, count, percentile):
    """Percentile of the first ``count`` of ascending values, of each row, linear between ranks."""
    last = tf.maximum(count - 1, 0)
    position = percentile / 100 * tf.cast(last, tf.float64)
    index = tf.cast(tf.floor(position), tf.int32)
    weight = tf.cast(position - tf.floor(position), tf.float32)
    below, above = (
        tf.gather(ranked, tf.minimum(index + step, last), batch_dims=1) for step in (0, 1)
    )
    return below + weight * (above - below)
