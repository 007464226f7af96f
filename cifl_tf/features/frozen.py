"""Frozen features in place of intensities, averaged over contrasts made from the image."""

from collections.abc import Sequence

import tensorflow as tf

from cifl_tf._compat import keras
from cifl_tf._former_names import accepts_former, with_present_names
from cifl_tf.datasets.remappings import REMAPPINGS, checked_remappings
from cifl_tf.images.intensity import is_air


@accepts_former()
@keras.saving.register_keras_serializable(package="cifl_tf")
class FrozenFeatures(keras.layers.Layer):
    """Features of a frozen encoder, or the intensities themselves as the paper's baseline.

    With remappings, the mean over the features of the image and of remapped copies of it, at the
    cost of one more encoder pass per copy. Contrasts then differ less.

    Args:
        encoder: see ``build_encoder``; None passes intensities on. It stays as trainable as it is,
            but no model with this layer trains it.
        remappings: names of the copies, such as ("inverted", "gamma"); see ``checked_remappings``.
            Without an encoder there are none.
        with_image: the image itself is the last channel, beside the features.

    Input and output shape:
        image (batch, *spatial, 1), intensities in [0, 1]; float32 features (batch, *spatial, C).

    Raises:
        ValueError: there is no remapping of a name, or it is there twice; or there is no encoder
            whose features the image could be beside.
    """

    def __init__(
        self,
        encoder: keras.Model | None,
        remappings: Sequence[str] = (),
        with_image: bool = False,
        **kwargs,
    ):
        kwargs["trainable"] = False
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        names = checked_remappings(remappings)
        self.encoder = encoder
        self.remappings = () if encoder is None else names
        if with_image and encoder is None:
            raise ValueError(
                "with_image is True, but there is no encoder: give one, or leave with_image out, "
                "as intensities are the image already"
            )
        self.with_image = with_image

    @property
    def num_features(self) -> int:
        """Channels of the output."""
        if self.encoder is None:
            return 1
        return self.encoder.output_shape[-1] + self.with_image

    def copies(self, image: tf.Tensor) -> list[tf.Tensor]:
        """The image (batch, *spatial, 1) and its remapped copies, which are 0 where it is air."""
        air, black = is_air(image), tf.zeros_like(image)
        remapped = (REMAPPINGS[name](image) for name in self.remappings)
        return [image, *(tf.where(air, black, copy) for copy in remapped)]

    def mean_features(self, copies: Sequence[tf.Tensor]) -> tf.Tensor:
        """Mean over the features of several images (batch, *spatial, 1), such as ``copies``.

        The first is the image that may be beside it.
        """
        if self.encoder is None:
            return tf.add_n(copies) / len(copies)
        features = [tf.cast(self.encoder(copy, training=False), tf.float32) for copy in copies]
        mean = tf.add_n(features) / len(features)
        if self.with_image:
            mean = tf.concat([mean, tf.cast(copies[0], tf.float32)], axis=-1)
        return tf.stop_gradient(mean)

    def call(self, image):
        """Features of an image."""
        return self.mean_features(self.copies(image))

    def get_config(self):
        """Arguments that build this layer again."""
        encoder = self.encoder and keras.saving.serialize_keras_object(self.encoder)
        return {
            **super().get_config(),
            "encoder": encoder,
            "remappings": self.remappings,
            "with_image": self.with_image,
        }

    @classmethod
    def from_config(cls, config):
        """The layer of a ``get_config``."""
        config = with_present_names(config)
        if config["encoder"] is not None:
            config["encoder"] = keras.saving.deserialize_keras_object(config["encoder"])
        return cls(**config)
