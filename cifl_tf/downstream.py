"""What segmentation and registration share: frozen features in place of intensities."""

import tensorflow as tf

from cifl_tf._compat import keras
from cifl_tf.inference import load_encoder

INTENSITY = "intensity"


def load_features(model: str) -> keras.Model | None:
    """The encoder of a training folder or .keras file; None for "intensity", the baseline.

    Raises:
        ValueError: there is none, or the file is damaged.
    """
    return None if model == INTENSITY else load_encoder(model)


@keras.saving.register_keras_serializable(package="cifl_tf")
class FrozenFeatures(keras.layers.Layer):
    """Features of a frozen encoder, or the intensities themselves as the paper's baseline.

    Args:
        encoder: see ``build_encoder``; None passes intensities on.
        average_inverted: mean of the features of the image and of its inversion (1 - x where the
            image is above zero), at twice the cost. Contrasts then differ less.

    Input and output shape:
        image (batch, *spatial, 1), intensities in [0, 1]; float32 features (batch, *spatial, C).
        An image that has its features as further channels, (batch, *spatial, 1 + C), gives these:
        training that computed them once.
    """

    def __init__(self, encoder: keras.Model | None, average_inverted: bool = False, **kwargs):
        kwargs["trainable"] = False
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.encoder = encoder
        self.average_inverted = average_inverted
        if encoder is not None:
            encoder.trainable = False

    @property
    def num_features(self) -> int:
        """Channels of the output."""
        return 1 if self.encoder is None else self.encoder.output_shape[-1]

    def call(self, image):
        """Features of an image."""
        if image.shape[-1] > 1:
            return image[..., 1:]
        if self.encoder is None:
            return image
        features = self.encoder(image, training=False)
        if self.average_inverted:
            inverted = tf.where(image > 0, 1 - image, tf.zeros_like(image))
            features = (features + self.encoder(inverted, training=False)) / 2
        return tf.stop_gradient(tf.cast(features, tf.float32))

    def get_config(self):
        """Arguments that build this layer again."""
        encoder = self.encoder and keras.saving.serialize_keras_object(self.encoder)
        return {
            **super().get_config(),
            "encoder": encoder,
            "average_inverted": self.average_inverted,
        }

    @classmethod
    def from_config(cls, config):
        """The layer of a ``get_config``."""
        config = dict(config)
        if config["encoder"] is not None:
            config["encoder"] = keras.saving.deserialize_keras_object(config["encoder"])
        return cls(**config)
