"""Test-time augmentation: the mean over a network's outputs for copies of an image."""

from collections.abc import Callable, Sequence

import tensorflow as tf

from cifl_tf._checks import checked_zoom_factors
from cifl_tf._compat import keras
from cifl_tf.synthesis.smooth_fields import channels_first, channels_last, interpolate


@keras.saving.register_keras_serializable(package="cifl_tf")
class AverageOverCopies(keras.layers.Layer):
    """Mean over a network's outputs for an image, its mirror image, and zoomed copies of both.

    Outputs are brought back to the grid of the image before. One more pass per copy (Wang et al.,
    Automatic brain tumor segmentation using convolutional neural networks with test-time
    augmentation, BrainLes 2018).

    Args:
        network: from (batch, *spatial, 1) to (batch, *spatial, C), for images of any size.
        flip_axis: spatial axis that is mirrored, or None. Not for labels that tell left from right.
        zoom_factors: see ``checked_zoom_factors``; linear interpolation.

    Input and output shape:
        those of the network.

    Raises:
        ValueError: the network has no such axis, or factors that ``checked_zoom_factors`` refuses.
    """

    def __init__(
        self,
        network: keras.Model,
        flip_axis: int | None = None,
        zoom_factors: Sequence[float] = (),
        **kwargs,
    ):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        ndim = len(network.input_shape) - 2
        if flip_axis not in (None, *range(ndim)):
            raise ValueError(f"flip_axis is {flip_axis}; give one of 0 to {ndim - 1}, or None")
        self.network = network
        self.flip_axis = flip_axis
        self.zoom_factors = checked_zoom_factors(zoom_factors)

    def call(self, image):
        """Mean output."""
        return self.mean(image, self.network)

    def mean(self, image, network: Callable):
        """Mean output of a function that stands for the network, as in windows.

        Args:
            image: (batch, *spatial, 1).
            network: from images of any size to outputs.
        """
        shape = tf.shape(image)[1:-1]
        total, count = 0.0, 0
        for zoom in (1.0, *self.zoom_factors):
            copy = image
            if zoom != 1:
                sizes = tf.round(zoom * tf.cast(shape, tf.float32))
                copy = _resize(image, tf.maximum(1, tf.cast(sizes, tf.int32)))
            found = [network(copy)]
            if self.flip_axis is not None:
                axis = [self.flip_axis + 1]
                found.append(tf.reverse(network(tf.reverse(copy, axis)), axis))
            for output in found:
                total += _resize(output, shape) if zoom != 1 else output
                count += 1
        return total / count

    def get_config(self):
        """Arguments that build this layer again."""
        network = keras.saving.serialize_keras_object(self.network)
        own = {"network": network, "flip_axis": self.flip_axis, "zoom_factors": self.zoom_factors}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config):
        """The layer of a ``get_config``."""
        network = keras.saving.deserialize_keras_object(config["network"])
        return cls(**{**config, "network": network})


def average_over_copies(
    network: keras.Model, flip_axis: int | None = None, zoom_factors: Sequence[float] = ()
) -> keras.Model:
    """A network with test-time augmentation; itself where there are no copies.

    Args:
        network: keeps its weights, which the result shares.
        flip_axis, zoom_factors: see ``AverageOverCopies``.
    """
    if flip_axis is None and not zoom_factors:
        return network
    average = AverageOverCopies(network, flip_axis, zoom_factors, name="average_over_copies")
    image = keras.Input(network.input_shape[1:], name="image")
    return keras.Model(image, average(image), name=f"averaged_{network.name}")


def _resize(image, shape):
    """(batch, *spatial, channels) in another spatial shape, linear; the corners stay."""
    sizes = [shape[axis] for axis in range(image.shape.rank - 2)]
    resized = channels_last(interpolate(channels_first(image), sizes))
    return tf.ensure_shape(resized, [image.shape[0], *[None] * len(sizes), image.shape[-1]])
