"""Keras layers of the encoders."""

import tensorflow as tf

from cifl_tf._compat import keras
from cifl_tf.volumes import LOWER, UPPER


@keras.saving.register_keras_serializable(package="cifl_tf")
class L2Normalize(keras.layers.Layer):
    """L2-normalise every channel over space, scaled to a mean square of one.

    The paper's features lie on a hypersphere: each channel, flattened over its n voxels, is a unit
    vector (Chua & Dalca, section 2). Here it has the length sqrt(n), so that the values of a voxel
    do not depend on the size of the image. A channel that is zero everywhere stays zero. Computed
    in float32 whatever the precision policy.

    Args:
        epsilon: mean squares below this are not scaled up to one.

    Input and output shape:
        (batch, *spatial, channels)
    """

    def __init__(self, epsilon: float = 1e-12, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def call(self, inputs):
        """Normalised inputs."""
        axes = list(range(1, inputs.shape.rank - 1))
        mean_square = tf.reduce_mean(tf.square(inputs), axes, keepdims=True)
        return inputs * tf.math.rsqrt(tf.maximum(mean_square, self.epsilon))

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
    """``volumes.rescale_intensity`` of each image of a batch, in the TensorFlow graph.

    Args:
        lower: percentile of the voxels of an image that becomes 0.
        upper: percentile that becomes 1.

    Input and output shape:
        (batch, *spatial, 1), any intensities; the same in [0, 1]
    """

    def __init__(self, lower: float = LOWER, upper: float = UPPER, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.lower = lower
        self.upper = upper

    def call(self, inputs):
        """Rescaled inputs."""
        ranked = tf.sort(tf.reshape(inputs, [tf.shape(inputs)[0], -1]), axis=1)
        low, high = self._percentile(ranked, self.lower), self._percentile(ranked, self.upper)
        # So few voxels differ that the percentiles miss them: the extremes do not.
        same = high == low
        low, high = tf.where(same, ranked[:, 0], low), tf.where(same, ranked[:, -1], high)
        ones = [1] * (inputs.shape.rank - 1)
        low, high = tf.reshape(low, [-1, *ones]), tf.reshape(high, [-1, *ones])
        return tf.clip_by_value(tf.math.divide_no_nan(inputs - low, high - low), 0.0, 1.0)

    @staticmethod
    def _percentile(ranked, percentile):
        last = tf.cast(tf.shape(ranked)[1] - 1, tf.float64)
        position = percentile / 100 * last
        index = tf.cast(tf.floor(position), tf.int32)
        following = tf.minimum(index + 1, tf.shape(ranked)[1] - 1)
        weight = tf.cast(position - tf.floor(position), tf.float32)
        below, above = ranked[:, index], ranked[:, following]
        return below + weight * (above - below)

    def get_config(self):
        """Arguments that build this layer again."""
        return {**super().get_config(), "lower": self.lower, "upper": self.upper}
