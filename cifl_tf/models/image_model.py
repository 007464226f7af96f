"""Keras models that carry what applying them to an image file needs."""

from collections.abc import Mapping

from cifl_tf._compat import keras
from cifl_tf.images.preprocessing import Preprocessing, as_preprocessing
from cifl_tf.models.config import register_classes
from cifl_tf.models.fitting import TracedOnce


def preprocessing_of(model) -> Preprocessing:
    """What a model says of its images; the defaults for one that says nothing."""
    return getattr(model, "preprocessing", None) or Preprocessing()


@keras.saving.register_keras_serializable(package="cifl_tf")
class ImageModel(TracedOnce, keras.Model):
    """A network and the preprocessing of the images that it takes.

    Args:
        network: from images (batch, *spatial, 1) in [0, 1]; its weights are shared.
        preprocessing: or its ``to_config``; None for the defaults.

    Input and output shape:
        those of the network.
    """

    def __init__(
        self,
        network: keras.Model,
        preprocessing: Preprocessing | Mapping | None = None,
        **kwargs,
    ):
        image = keras.Input(network.input_shape[1:], name="image")
        kwargs.setdefault("name", network.name)
        super().__init__(image, network(image), **kwargs)
        self.network = network
        self.preprocessing = as_preprocessing(preprocessing)

    def get_config(self):
        """Arguments that build this model again."""
        return {
            "name": self.name,
            "network": keras.saving.serialize_keras_object(self.network),
            "preprocessing": self.preprocessing.to_config(),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The model of a ``get_config``."""
        register_classes()
        network = keras.saving.deserialize_keras_object(
            config["network"], custom_objects=custom_objects
        )
        return cls(**{**config, "network": network})
