"""Random changes of intensities in training images."""

import dataclasses
from typing import NamedTuple

import tensorflow as tf

from cifl_tf._checks import AT_LEAST_0, POSITIVE, SHARE, check_fields
from cifl_tf._former_names import accepts_former
from cifl_tf._random_keys import normal, split_key, uniform
from cifl_tf.images.intensity import is_air
from cifl_tf.synthesis.smooth_fields import channels_last, coarse_shape, gaussian_blur, interpolate
from cifl_tf.synthesis.thickness import draw_thickness

NUM_LEVELS = 7  # of a random remapping of intensities


class IntensityChange(NamedTuple):
    """What an ``IntensityAugmentation`` draws, for a batch of images.

    Attributes:
        random_contrast: whether each image gets a random contrast; booleans (batch, 1, ...).
        levels: of that contrast; (batch, ``NUM_LEVELS``).
        exponent: of the intensities; (batch, 1, ...).
        bias: field that multiplies them; (batch, *spatial, 1).
        thickness: SD (batch, ndim) in voxels of the blur.
        noise: added last; (batch, *spatial, 1).
    """

    random_contrast: tf.Tensor
    levels: tf.Tensor
    exponent: tf.Tensor
    bias: tf.Tensor
    thickness: tf.Tensor
    noise: tf.Tensor


@accepts_former()
@dataclasses.dataclass(frozen=True)
class IntensityAugmentation:
    """Random remapping, gamma, bias field, thick slices and noise, drawn anew for every image.

    What is 0, air or what a skull strip took away, stays 0, and the highest intensity becomes 1.

    Attributes:
        gamma_std: SD of the logarithm of the exponent applied to the intensities.
        bias_std: highest SD of the logarithm of the bias field.
        bias_scale: distance in voxels between the independent points of the bias field.
        thickness_std: highest SD in voxels of a blur along one axis, in half of the images.
        noise_std: highest SD of the noise, of an image in [0, 1].
        random_contrast: share of the images that get a random contrast: random levels at equal
            distances of the intensity, linear between, so mostly not monotone.
    """

    gamma_std: float = 0.2
    bias_std: float = 0.2
    bias_scale: float = 40.0
    thickness_std: float = 1.5
    noise_std: float = 0.03
    random_contrast: float = 0.0

    def __post_init__(self):
        check_fields(self, bias_scale=POSITIVE, random_contrast=SHARE)
        for name in ("gamma_std", "bias_std", "thickness_std", "noise_std"):
            check_fields(self, **{name: AT_LEAST_0})

    def __call__(self, images: tf.Tensor, labels, seed=None):
        """Draw changes of the images and apply them; pass the labels on.

        Args:
            images: as for ``apply``.
            labels: anything.
            seed: see ``as_key``.
        """
        drawn = self.draw(tf.shape(images)[0], images.shape[1:-1], seed)
        return self.apply(images, drawn), labels

    def draw(self, batch_size, shape, seed=None) -> IntensityChange:
        """Random changes of images of a spatial shape.

        Args:
            batch_size: how many.
            shape: two or three sizes in voxels.
            seed: see ``as_key``.
        """
        keys = iter(split_key(seed, 8))

        def level(shape, highest=1.0):
            return uniform(shape, next(keys), maxval=highest)

        def noise(shape, std=1.0):
            return normal(shape, next(keys), std)

        single = [batch_size] + [1] * (len(shape) + 1)
        coarse = noise([batch_size, 1, *coarse_shape(shape, self.bias_scale)])
        bias = level(single, self.bias_std) * channels_last(interpolate(coarse, shape))
        return IntensityChange(
            random_contrast=level(single) < self.random_contrast,
            levels=level([batch_size, NUM_LEVELS]),
            exponent=tf.exp(noise(single, self.gamma_std)),
            bias=tf.exp(bias),
            thickness=draw_thickness(batch_size, len(shape), self.thickness_std, next(keys)),
            noise=level(single, self.noise_std) * noise([batch_size, *shape, 1]),
        )

    def apply(self, images: tf.Tensor, drawn: IntensityChange) -> tf.Tensor:
        """Change images.

        Args:
            images: float32 (batch, *spatial, 1) in [0, 1], of known spatial shape.
            drawn: of ``draw``.
        """
        inside = tf.cast(~is_air(images), tf.float32)
        if self.random_contrast > 0:
            images = tf.where(drawn.random_contrast, remap(images, drawn.levels) * inside, images)
        images = images**drawn.exponent * drawn.bias
        if self.thickness_std > 0:
            images = gaussian_blur(images, drawn.thickness, self.thickness_std)
        images = tf.maximum((images + drawn.noise) * inside, 0)
        axes = list(range(1, images.shape.rank))
        highest = tf.reduce_max(images, axes, keepdims=True)
        return tf.math.divide_no_nan(images, highest)


def make_intensity_augmentation(vary: bool, random_contrast: float) -> IntensityAugmentation | None:
    """What a training is asked for; None where intensities stay as they are.

    Args:
        vary: gamma, bias field, thick slices and noise.
        random_contrast: share of the images that get a random contrast, with these changes or
            alone.

    Raises:
        ValueError: ``random_contrast`` is no share.
    """
    if vary:
        return IntensityAugmentation(random_contrast=random_contrast)
    alone = IntensityAugmentation(
        gamma_std=0, bias_std=0, thickness_std=0, noise_std=0, random_contrast=random_contrast
    )
    return alone if random_contrast > 0 else None


def remap(images: tf.Tensor, levels: tf.Tensor) -> tf.Tensor:
    """Intensities at given levels, linear between.

    Args:
        images: (batch, *spatial, 1) in [0, 1].
        levels: (batch, n), the new intensities of 0, 1 / (n - 1) and so on to 1 of each image.
    """
    last = levels.shape[-1] - 1
    position = tf.reshape(images, [tf.shape(images)[0], -1]) * last
    below = tf.clip_by_value(tf.floor(position), 0, last - 1)
    index = tf.cast(below, tf.int32)
    low, high = (tf.gather(levels, index + step, batch_dims=1) for step in (0, 1))
    return tf.reshape(low + (position - below) * (high - low), tf.shape(images))
