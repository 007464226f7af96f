"""Random shapes, and pairs of contrasts of them: the training data of CIFL.

The images follow SynthMorph (Hoffmann et al., IEEE TMI 41(3), 2022): label maps are the argmax of
smooth noise, images are neurite's label-to-image model applied to them. Random numbers are drawn
in one place of each class; the functions that use them are deterministic.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from cifl_tf._checks import POSITIVE, check_fields, checked_range
from cifl_tf._compat import keras, ne, vxm
from cifl_tf._random_keys import as_key, grouped, normal, split_key, uniform
from cifl_tf.synthesis.appearance import Appearance, Range
from cifl_tf.synthesis.integration import IntegrateVelocity
from cifl_tf.synthesis.shapes import _checked_num_labels, _checked_shape
from cifl_tf.synthesis.smooth_fields import (
    channels_first,
    channels_last,
    coarse_shape,
    gaussian_blur,
    interpolate,
)
from cifl_tf.synthesis.thickness import draw_thickness


@keras.saving.register_keras_serializable(package="cifl_tf")
class PairSynthesizer(keras.layers.Layer):
    """Two images of independent contrast from each label map, in the same warped shapes.

    The label maps are warped once by a random diffeomorphism and rendered twice by neurite's
    ``labels_to_image``. One neurite call renders both views, as separate samples of its batch: its
    ``num_chan=2`` would give both views the same noise. Its random numbers are drawn here, without
    a state, so that a seed gives the same views again. Blur and bias field are added here, because
    neurite 0.2 draws one blur per batch and always the strongest bias.

    Args:
        shape: two or three sizes of the label maps in voxels.
        num_labels: number of labels; the maps hold 0..num_labels-1.
        warp_std: lowest and highest SD of the velocity field in voxels.
        warp_scale: distance between the independent points of the velocity field, in voxels.
        appearance: an ``Appearance``, or its fields as a dictionary.

    Call arguments:
        label_maps: integers (batch, *shape, 1).
        seed: see ``as_key``; None draws anew in every call.

    Returns:
        view_1, view_2: float32 (batch, *shape, 1) in [0, 1].

    Raises:
        ValueError: a range that is not one, or label maps of another shape.

    Example:
        >>> import cifl_tf as cifl
        >>> maps = next(iter(cifl.shape_maps((24, 20), num_labels=4).batch(2)))
        >>> view_1, view_2 = cifl.PairSynthesizer((24, 20), num_labels=4)(maps, seed=0)
        >>> view_1.shape, view_2.shape
        (TensorShape([2, 24, 20, 1]), TensorShape([2, 24, 20, 1]))
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_labels: int = 16,
        warp_std: Range = (0.0, 3.0),
        warp_scale: float = 16.0,
        appearance: Appearance | dict | None = None,
        **kwargs,
    ):
        super().__init__(dtype="float32", **{k: v for k, v in kwargs.items() if k != "dtype"})
        self.shape = _checked_shape(shape)
        self.num_labels = _checked_num_labels(num_labels)
        self.warp_std = checked_range("warp_std", warp_std)
        self.warp_scale = float(warp_scale)
        check_fields(self, warp_scale=POSITIVE)
        if not isinstance(appearance, Appearance):
            appearance = Appearance(**(appearance or {}))
        self.appearance = appearance
        self._integrate = IntegrateVelocity(5, dtype="float32")
        self._transform = vxm.layers.SpatialTransformer(interp_method="nearest", dtype="float32")
        # As a function: saving a layer that holds it as a model warns of neurite's lambdas.
        self._paint = self._build_painter().__call__

    def _build_painter(self):
        """neurite's model of means, noise and background, with a batch of both views.

        From label maps, means and SDs (batch, 1, num_labels), standard normal noise, and, where
        the background may be black, a uniform number per image that decides.
        """
        look, labels = self.appearance, self.num_labels
        draws = {"mean": 0, "std": 1, "noise": 2, "background": 3}
        policy = keras.mixed_precision.global_policy()
        keras.mixed_precision.set_global_policy("float32")
        try:
            model = ne.models.labels_to_image(
                self.shape,
                np.arange(labels),
                mean_min=[look.mean[0]] * labels,
                mean_max=[look.mean[1]] * labels,
                std_min=[look.noise_std[0]] * labels,
                std_max=[look.noise_std[1]] * labels,
                zero_background=look.zero_background,
                warp_std=0,
                blur_std=0,
                bias_std=0,
                normalize=False,
                gamma_std=0,
                one_hot=False,
                seeds=draws,
            )
            # neurite draws with a state. Its draws, known by their seeds, become inputs instead.
            calls = {
                layer.inbound_nodes[0].call_kwargs.get("seed"): layer.output
                for layer in model.layers
            }
            inputs = [calls[seed] for seed in draws.values() if seed in calls]
            return keras.Model([model.input, *inputs], model.outputs[0])
        finally:
            keras.mixed_precision.set_global_policy(policy)

    def _smooth_field(self, batch_size, channels, scale, std_range, shape, key):
        """Random smooth fields (batch, *shape, channels), each with its own SD from the range."""
        std_key, noise_key = split_key(key, 2)
        single = [batch_size] + [1] * (len(shape) + 1)
        std = uniform(single, std_key, *std_range)
        coarse = [batch_size, channels, *coarse_shape(self.shape, scale)]
        return interpolate(std * normal(coarse, noise_key), shape)

    def warp(self, label_maps: tf.Tensor, seed=None) -> tf.Tensor:
        """Label maps moved by a random diffeomorphism each; edges continue outwards.

        Args:
            label_maps: integers (batch, *shape, 1).
            seed: see ``as_key``.
        """
        if self.warp_std[1] == 0:
            return label_maps
        ndim = len(self.shape)
        half = tuple((size + 1) // 2 for size in self.shape)
        velocity = self._smooth_field(
            tf.shape(label_maps)[0], ndim, self.warp_scale, self.warp_std, half, as_key(seed)
        )
        displacement = self._integrate(channels_last(velocity / 2))
        displacement = 2 * interpolate(channels_first(displacement), self.shape)
        moved = self._transform([tf.cast(label_maps, tf.float32), channels_last(displacement)])
        return tf.cast(moved, tf.int32)

    def render(self, label_maps: tf.Tensor, seed=None) -> tf.Tensor:
        """One image (batch, *shape, 1) in [0, 1] per label map, each with its own contrast.

        Args:
            label_maps: integers (batch, *shape, 1).
            seed: see ``as_key``.
        """
        look, batch_size = self.appearance, tf.shape(label_maps)[0]
        paint_key, blur_key, thickness_key, bias_key, gamma_key = split_key(seed, 5)
        image = self._paint([label_maps, *self._draw_paint(batch_size, paint_key)])
        strongest = math.hypot(look.blur_std[1], look.thickness_std)
        if strongest > 0:
            # One Gaussian after another is one whose variance is the sum of theirs.
            blur = uniform([batch_size, 1], blur_key, *look.blur_std)
            thickness = draw_thickness(
                batch_size, len(self.shape), look.thickness_std, thickness_key
            )
            image = gaussian_blur(image, tf.sqrt(blur**2 + thickness**2), strongest)
        if look.bias_std[1] > 0:
            bias = self._smooth_field(
                batch_size, 1, look.bias_scale, look.bias_std, self.shape, bias_key
            )
            image *= tf.exp(channels_last(bias))
        axes = list(range(1, image.shape.rank))
        image -= tf.reduce_min(image, axes, keepdims=True)
        image = tf.math.divide_no_nan(image, tf.reduce_max(image, axes, keepdims=True))
        if look.gamma_std > 0:
            exponent = normal([batch_size] + [1] * len(axes), gamma_key, look.gamma_std)
            image = tf.pow(image, tf.exp(exponent))
        return image

    def _draw_paint(self, batch_size, key):
        """What the painter takes besides label maps."""
        look, ones = self.appearance, [1] * len(self.shape)
        keys = split_key(key, 4)
        means, stds = (
            uniform([batch_size, 1, self.num_labels], key, *values)
            for key, values in zip(keys[:2], (look.mean, look.noise_std), strict=True)
        )
        noise = normal([batch_size, *self.shape, 1], keys[2])
        background = uniform([batch_size, *ones, 1], keys[3])
        return [means, stds, noise, background][: 4 if look.zero_background > 0 else 3]

    def call(self, label_maps, seed=None):
        """Two views of each label map; see the class."""
        expected = (None, *self.shape, 1)
        if not label_maps.shape.is_compatible_with(expected):
            raise ValueError(
                f"label maps have shape {tuple(label_maps.shape)}, but this synthesizer was built "
                f"for (batch, {', '.join(map(str, self.shape))}, 1)"
            )
        warp_key, render_key = split_key(seed, 2)
        warped = self.warp(tf.ensure_shape(label_maps, expected), warp_key)
        both = tf.concat([warped, warped], axis=0)
        return tf.split(self.render(both, grouped(render_key, 2)), 2)

    def get_config(self):
        """Arguments that build this layer again."""
        return {
            **super().get_config(),
            "shape": self.shape,
            "num_labels": self.num_labels,
            "warp_std": self.warp_std,
            "warp_scale": self.warp_scale,
            "appearance": dataclasses.asdict(self.appearance),
        }


# More noise than shapes need, for the tissue that labels leave out, and air as black as in a
# skull-stripped image.
BRAIN_APPEARANCE = Appearance(noise_std=(0.0, 35.0), zero_background=1.0)


def label_painter(
    shape: Sequence[int], num_labels: int, appearance: Appearance = BRAIN_APPEARANCE
) -> Callable:
    """The function from label maps to images of random contrasts, ``PairSynthesizer.render``.

    For training on images that are made from the label maps of brains (Billot et al., SynthSeg,
    Medical Image Analysis 2023; Hoffmann et al., SynthMorph, IEEE TMI 2022).

    Args:
        shape: of the label maps, two or three sizes in voxels.
        num_labels: labels, the background 0 included.
        appearance: of the images.
    """
    return PairSynthesizer(shape, num_labels, appearance=appearance).render
