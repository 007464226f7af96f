"""A network for slices, applied to the slices of volumes."""

from collections.abc import Sequence

import tensorflow as tf

from cifl_tf._compat import keras


@keras.saving.register_keras_serializable(package="cifl_tf")
class Slicewise(keras.layers.Layer):
    """A frozen network for slices, along several axes of volumes.

    Slices go through the network one by one, so that its layers take the memory of one slice.

    Args:
        network: from slices (batch, *spatial, 1) to channels (batch, *spatial, C).
        axes: of the volume across the slices, some of 0, 1, and 2.

    Input and output shape:
        volumes (batch, x, y, z, 1); float32 channels (batch, x, y, z, C len(axes)), those of the
        first axis first
    """

    def __init__(self, network: keras.Model, axes: Sequence[int], **kwargs):
        kwargs["trainable"] = False
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.network = network
        self.axes = tuple(axes)

    def call(self, volumes):
        """Channels of volumes."""
        channels = tf.concat([self._across(volumes, axis + 1) for axis in self.axes], axis=-1)
        return tf.ensure_shape(channels, self.compute_output_shape(volumes.shape))

    def _across(self, volumes, axis):
        """Channels (batch, x, y, z, C) by the slices across one axis of a batch."""
        others = [other for other in range(5) if other != axis]
        slices = tf.transpose(volumes, [axis, *others])
        channels = tf.map_fn(self._of_slices, slices, fn_output_signature=tf.float32)
        back = [1, 2, 3, 4]
        back.insert(axis, 0)
        return tf.transpose(channels, back)

    def _of_slices(self, slices):
        """Channels (batch, *spatial, C) of slices (batch, *spatial, 1)."""
        return tf.cast(self.network(slices, training=False), tf.float32)

    def compute_output_shape(self, input_shape):
        """That of the input, with the channels of all axes."""
        return (*input_shape[:-1], self.network.output_shape[-1] * len(self.axes))

    def get_config(self):
        """Arguments that build this layer again."""
        network = keras.saving.serialize_keras_object(self.network)
        return {**super().get_config(), "network": network, "axes": self.axes}

    @classmethod
    def from_config(cls, config):
        """The layer of a ``get_config``."""
        network = keras.saving.deserialize_keras_object(config["network"])
        return cls(**{**config, "network": network})
