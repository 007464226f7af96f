"""Keras layers of the encoders."""

import tensorflow as tf

from cifl_tf._compat import keras


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
        after = tf.concat([[0], -sizes % self.multiple, [0]], axis=0)
        padded = tf.pad(inputs, tf.stack([tf.zeros_like(after), after], axis=1), "SYMMETRIC")
        known = [size and size + -size % self.multiple for size in inputs.shape[1:-1]]
        return tf.ensure_shape(padded, [inputs.shape[0], *known, inputs.shape[-1]])

    def get_config(self):
        """Arguments that build this layer again."""
        return {**super().get_config(), "multiple": self.multiple}


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
