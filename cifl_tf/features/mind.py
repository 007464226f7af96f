"""MIND-SSC: hand-crafted features that contrast changes little, to compare learned ones with."""

import itertools

import numpy as np
import tensorflow as tf

from cifl_tf._compat import keras


@keras.saving.register_keras_serializable(package="cifl_tf")
class MindSSC(keras.layers.Layer):
    """Self-similarity context of every voxel.

    The neighbors of a voxel are those one step (``dilation`` voxels) away along an axis, 2 ndim of
    them. For every pair of neighbors that are not opposite, ``D`` is the mean square difference of
    the patches around them, and the channel ``exp(-(D - min D) / V)``; the minimum is over the
    channels of the voxel, as is the mean of D that estimates the local variance V, kept between
    0.001 and 1000 times its mean over the image. Beyond the border the image continues as its edge.
    12 channels for volumes, 4 for slices.

    Source: Heinrich et al., Towards realtime multimodal fusion for image-guided interventions using
    self-similarities, MICCAI 2013; the normalization is that of MIND, Medical Image Analysis 2012.

    Args:
        radius: of the cubic patches in voxels.
        dilation: distance of the neighbors in voxels.

    Input and output shape:
        image (batch, *spatial, 1), intensities in [0, 1]; float32 features (batch, *spatial, C)
    """

    def __init__(self, radius: int = 1, dilation: int = 2, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        if radius < 0 or dilation < 1:
            raise ValueError(
                f"radius is {radius} and dilation {dilation}; give a radius of at least 0 and a "
                "dilation of at least 1 voxel"
            )
        self.radius = radius
        self.dilation = dilation

    def call(self, image):
        """Features of an image."""
        margin = self.dilation + self.radius
        padded = _continued(image, margin)
        spatial = list(range(1, image.shape.rank - 1))
        sizes = tf.shape(image)[1:-1] + 2 * self.radius

        def moved(offset):
            begin = tf.constant([0, *(self.dilation * (1 + offset)), 0])
            return tf.slice(padded, begin, tf.concat([[-1], sizes, [-1]], axis=0))

        pairs = neighbor_pairs(len(spatial))
        distances = tf.concat(
            [
                _patch_mean((moved(first) - moved(second)) ** 2, 2 * self.radius + 1)
                for first, second in pairs
            ],
            axis=-1,
        )
        variance = tf.reduce_mean(distances, axis=-1, keepdims=True)
        typical = tf.reduce_mean(variance, spatial, keepdims=True)
        variance = tf.clip_by_value(variance, 1e-3 * typical, 1e3 * typical)
        excess = distances - tf.reduce_min(distances, axis=-1, keepdims=True)
        # A constant image has no differences at all: its features are all one.
        features = tf.exp(-tf.math.divide_no_nan(excess, variance))
        return tf.ensure_shape(features, [*image.shape[:-1], len(pairs)])

    def get_config(self):
        """Arguments that build this layer again."""
        return {**super().get_config(), "radius": self.radius, "dilation": self.dilation}


def build_mind_ssc(ndim: int = 2, radius: int = 1, dilation: int = 2) -> keras.Model:
    """Build a model of ``MindSSC`` that serves wherever an encoder does.

    Args:
        ndim: 2 for slices, 3 for volumes.
        radius: see ``MindSSC``.
        dilation: see ``MindSSC``.

    Input and output shape:
        image (batch, *spatial, 1), intensities in [0, 1]; features (batch, *spatial, C) with C 4 in
        2D and 12 in 3D

    Raises:
        ValueError: another number of dimensions, or a size that is too small.
    """
    if ndim not in (2, 3):
        raise ValueError(f"ndim is {ndim}; give 2 for slices or 3 for volumes")
    image = keras.Input((*[None] * ndim, 1), name="image")
    features = MindSSC(radius, dilation, name="mind_ssc")(image)
    return keras.Model(image, features, name="mind_ssc")


def neighbor_pairs(ndim: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of unit steps along the axes that are not opposite: 4 in 2D, 12 in 3D."""
    steps = [sign * np.eye(ndim, dtype=int)[axis] for axis in range(ndim) for sign in (-1, 1)]
    return [
        (first, second)
        for first, second in itertools.combinations(steps, 2)
        if np.any(first + second)
    ]


def _continued(image, margin):
    """The image with ``margin`` more voxels at every border, as its edge."""
    for axis in range(1, image.shape.rank - 1):
        size = tf.shape(image)[axis]
        image = tf.gather(
            image, tf.clip_by_value(tf.range(-margin, size + margin), 0, size - 1), axis=axis
        )
    return image


def _patch_mean(image, size):
    """Mean over windows that lie in the image."""
    return tf.nn.avg_pool(image, size, 1, "VALID")
