"""Random shapes, and pairs of contrasts of them: the training data of CIFL.

The images follow SynthMorph (Hoffmann et al., IEEE TMI 41(3), 2022): label maps are the argmax of
smooth noise, images are neurite's label-to-image model applied to them. Random numbers are drawn
in one place of each class; the functions that use them are deterministic.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from cifl_tf._compat import keras, ne, vxm
from cifl_tf.smooth_fields import (
    channels_first,
    channels_last,
    coarse_shape,
    gaussian_blur,
    interpolate,
)

Range = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Appearance:
    """Ranges of everything that gives a label map its contrast, each drawn anew per image.

    Attributes:
        mean: lowest and highest mean intensity of a label, of 255.
        noise_std: lowest and highest SD of the noise within a label, of 255.
        zero_background: probability that label 0 is black.
        blur_std: lowest and highest SD of the Gaussian blur, in voxels.
        thickness_std: highest SD in voxels of a further blur along one axis, as of thick slices, in
            half of the images.
        bias_std: lowest and highest SD of the logarithm of the bias field.
        bias_scale: distance between the independent points of the bias field, in voxels.
        gamma_std: SD of the logarithm of the exponent applied to intensities in [0, 1].
    """

    mean: Range = (0.0, 255.0)
    noise_std: Range = (0.0, 20.0)
    zero_background: float = 0.2
    blur_std: Range = (0.0, 1.5)
    thickness_std: float = 3.0
    bias_std: Range = (0.0, 0.3)
    bias_scale: float = 40.0
    gamma_std: float = 0.25

    def __post_init__(self):
        for name in ("mean", "noise_std", "blur_std", "bias_std"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ValueError(
                    f"{name} is ({low}, {high}); give (lowest, highest) with 0 <= lowest <= highest"
                )
            object.__setattr__(self, name, (float(low), float(high)))
        if not 0 <= self.zero_background <= 1:
            raise ValueError(f"zero_background is {self.zero_background}; give a probability")
        if self.bias_scale <= 0 or min(self.gamma_std, self.thickness_std) < 0:
            raise ValueError(
                f"bias_scale is {self.bias_scale}, gamma_std {self.gamma_std} and thickness_std "
                f"{self.thickness_std}; give a positive scale in voxels and SDs of at least 0"
            )


def draw_thickness(batch_size, ndim: int, highest: float) -> tf.Tensor:
    """SD (batch, ndim) in voxels of a blur along one axis at random, or along none in a half."""
    std = tf.random.uniform([batch_size], 0, highest)
    std *= tf.cast(tf.random.uniform([batch_size]) < 0.5, tf.float32)
    axis = tf.random.uniform([batch_size], 0, ndim, tf.int32)
    return std[:, None] * tf.one_hot(axis, ndim)


def _checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
    shape = tuple(int(size) for size in shape)
    if len(shape) not in (2, 3) or min(shape) < 8:
        raise ValueError(f"shape is {shape}; give two or three sizes of at least 8 voxels")
    return shape


def _checked_num_labels(num_labels: int) -> int:
    if num_labels < 2:
        raise ValueError(f"num_labels is {num_labels}; give at least 2")
    return int(num_labels)


def shape_maps(
    shape: Sequence[int],
    num_labels: int = 16,
    scales: Sequence[float] = (4, 8, 16, 32),
    warp_std: float = 3.0,
    seed: int = 0,
    start: int = 0,
) -> tf.data.Dataset:
    """Endless dataset of label maps of random shapes.

    For every label, smooth noise is drawn at each of the scales and summed; the noise images are
    warped by one smooth displacement, and each voxel takes the label whose noise is highest there
    (SynthMorph, Hoffmann et al., 2022, section III-B1; there each label has its own warp).

    Args:
        shape: two or three sizes in voxels.
        num_labels: number of labels; not every one is in every map.
        scales: typical sizes of the shapes in voxels.
        warp_std: SD of the displacement in voxels, 0 for none.
        seed: the same seed gives the same maps, element by element.
        start: index of the first map, to go on where an earlier run ended.

    Returns:
        Dataset of int32 tensors (*shape, 1) with values in 0..num_labels-1.

    Raises:
        ValueError: a size, scale or number of labels that is too small.
    """
    shape, num_labels = _checked_shape(shape), _checked_num_labels(num_labels)
    if not scales or min(scales) < 2 or warp_std < 0:
        raise ValueError(
            f"scales is {tuple(scales)} and warp_std {warp_std}; give at least one scale of at "
            "least 2 voxels and an SD of at least 0 voxels"
        )
    # Noise and warp are smooth, so half the resolution carries them.
    half = tuple((size + 1) // 2 for size in shape)

    def draw_map(index):
        seeds = tf.random.split(
            tf.random.fold_in(tf.constant([seed, 0], tf.int64), index), len(scales) + 1
        )
        noise = tf.add_n(
            interpolate(
                tf.random.stateless_normal((1, num_labels, *coarse_shape(shape, scale)), key), half
            )
            for scale, key in zip(scales, tf.unstack(seeds)[1:], strict=True)
        )
        if warp_std:
            coarse = coarse_shape(shape, min(scales))
            warp = tf.random.stateless_normal((1, len(shape), *coarse), seeds[0])
            warp = interpolate(warp * warp_std / 2, half)
            moved = vxm.utils.transform(channels_last(noise)[0], channels_last(warp)[0])
            noise = channels_first(moved[None])
        return tf.argmax(channels_last(interpolate(noise, shape)), -1, tf.int32)[0, ..., None]

    indices = tf.data.Dataset.counter(start)
    return indices.map(draw_map, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


@keras.saving.register_keras_serializable(package="cifl_tf")
class PairSynthesizer(keras.layers.Layer):
    """Two images of independent contrast from each label map, in the same warped shapes.

    The label maps are warped once by a random diffeomorphism and rendered twice by neurite's
    ``labels_to_image``. One neurite call renders both views, as separate samples of its batch: its
    ``num_chan=2`` would give both views the same noise. Blur and bias field are drawn here, because
    neurite 0.2 draws one blur per batch and always the strongest bias.

    Args:
        shape: two or three sizes of the label maps in voxels.
        num_labels: number of labels; the maps hold 0..num_labels-1.
        warp_std: lowest and highest SD of the velocity field in voxels.
        warp_scale: distance between the independent points of the velocity field, in voxels.
        appearance: an ``Appearance``, or its fields as a dictionary.

    Call arguments:
        label_maps: integers (batch, *shape, 1).

    Returns:
        view_1, view_2: float32 (batch, *shape, 1) in [0, 1].

    Raises:
        ValueError: a range that is not one, or label maps of another shape.
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
        self.warp_std = tuple(float(std) for std in warp_std)
        self.warp_scale = float(warp_scale)
        if not 0 <= self.warp_std[0] <= self.warp_std[1] or self.warp_scale <= 0:
            raise ValueError(
                f"warp_std is {warp_std} and warp_scale {warp_scale}; give (lowest, highest) "
                "with 0 <= lowest <= highest, and a positive scale in voxels"
            )
        if not isinstance(appearance, Appearance):
            appearance = Appearance(**(appearance or {}))
        self.appearance = appearance
        self._integrate = vxm.layers.VecInt(int_steps=5, dtype="float32")
        self._transform = vxm.layers.SpatialTransformer(interp_method="nearest", dtype="float32")
        # As a function: saving a layer that holds it as a model warns of neurite's lambdas.
        self._paint = self._build_painter().__call__

    def _build_painter(self):
        """neurite's model of means, noise and background, with a batch of both views."""
        policy = keras.mixed_precision.global_policy()
        keras.mixed_precision.set_global_policy("float32")
        try:
            return ne.models.labels_to_image(
                self.shape,
                np.arange(self.num_labels),
                mean_min=[self.appearance.mean[0]] * self.num_labels,
                mean_max=[self.appearance.mean[1]] * self.num_labels,
                std_min=[self.appearance.noise_std[0]] * self.num_labels,
                std_max=[self.appearance.noise_std[1]] * self.num_labels,
                zero_background=self.appearance.zero_background,
                warp_std=0,
                blur_std=0,
                bias_std=0,
                normalize=False,
                gamma_std=0,
                one_hot=False,
            )
        finally:
            keras.mixed_precision.set_global_policy(policy)

    def _smooth_field(self, batch_size, channels, scale, std_range, shape):
        """Random smooth fields (batch, *shape, channels), each with its own SD from the range."""
        std = tf.random.uniform([batch_size] + [1] * (len(shape) + 1), *std_range)
        coarse = coarse_shape(self.shape, scale)
        noise = std * tf.random.normal([batch_size, channels, *coarse])
        return interpolate(noise, shape)

    def warp(self, label_maps: tf.Tensor) -> tf.Tensor:
        """Label maps moved by a random diffeomorphism each; edges continue outwards."""
        if self.warp_std[1] == 0:
            return label_maps
        ndim = len(self.shape)
        half = tuple((size + 1) // 2 for size in self.shape)
        velocity = self._smooth_field(
            tf.shape(label_maps)[0], ndim, self.warp_scale, self.warp_std, half
        )
        displacement = self._integrate(channels_last(velocity / 2))
        displacement = 2 * interpolate(channels_first(displacement), self.shape)
        moved = self._transform([tf.cast(label_maps, tf.float32), channels_last(displacement)])
        return tf.cast(moved, tf.int32)

    def render(self, label_maps: tf.Tensor) -> tf.Tensor:
        """One image (batch, *shape, 1) in [0, 1] per label map, each with its own contrast."""
        look = self.appearance
        batch_size = tf.shape(label_maps)[0]
        image, _ = self._paint(label_maps)
        strongest = math.hypot(look.blur_std[1], look.thickness_std)
        if strongest > 0:
            # One Gaussian after another is one whose variance is the sum of theirs.
            blur = tf.random.uniform([batch_size, 1], *look.blur_std)
            thickness = draw_thickness(batch_size, len(self.shape), look.thickness_std)
            image = gaussian_blur(image, tf.sqrt(blur**2 + thickness**2), strongest)
        if look.bias_std[1] > 0:
            bias = self._smooth_field(batch_size, 1, look.bias_scale, look.bias_std, self.shape)
            image *= tf.exp(channels_last(bias))
        axes = list(range(1, image.shape.rank))
        image -= tf.reduce_min(image, axes, keepdims=True)
        image = tf.math.divide_no_nan(image, tf.reduce_max(image, axes, keepdims=True))
        if look.gamma_std > 0:
            exponent = tf.random.normal([batch_size] + [1] * len(axes), stddev=look.gamma_std)
            image = tf.pow(image, tf.exp(exponent))
        return image

    def call(self, label_maps):
        """Two views of each label map; see the class."""
        expected = (None, *self.shape, 1)
        if not label_maps.shape.is_compatible_with(expected):
            raise ValueError(
                f"label maps have shape {tuple(label_maps.shape)}, but this synthesizer was built "
                f"for (batch, {', '.join(map(str, self.shape))}, 1)"
            )
        warped = self.warp(tf.ensure_shape(label_maps, expected))
        return tf.split(self.render(tf.concat([warped, warped], axis=0)), 2)

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
