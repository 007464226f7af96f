"""Random changes of training images: deformations with labels, and intensities."""

import dataclasses
from typing import NamedTuple

import tensorflow as tf

from cifl_tf._compat import vxm
from cifl_tf.appearance import draw_thickness
from cifl_tf.checks import AT_LEAST_0, POSITIVE, SHARE, check_fields
from cifl_tf.intensity import is_air
from cifl_tf.random_keys import split_key
from cifl_tf.smooth_fields import channels_last, coarse_shape, gaussian_blur, interpolate

NUM_LEVELS = 7  # of a random remapping of intensities


class Deformation(NamedTuple):
    """What a ``SpatialAugmentation`` draws.

    Attributes:
        mirrored: whether each image is mirrored, before it is deformed; booleans (batch,).
        displacement: (batch, *spatial, ndim) in voxels.
    """

    mirrored: tf.Tensor
    displacement: tf.Tensor


@dataclasses.dataclass(frozen=True)
class SpatialAugmentation:
    """Random affine and smooth deformations, and flips, drawn anew for every image.

    Attributes:
        smooth_std: SD in voxels of each of two smooth displacements.
        smooth_scales: distance in voxels between the independent points of each.
        affine_std: SD of the entries that are added to the identity matrix: rotation, scaling and
            shearing about the centre.
        flip_axis: spatial axis that is mirrored in half of the images, or None. Not for labels that
            tell left from right.

    Raises:
        ValueError: a number is negative or not finite, or a scale is not positive.
    """

    smooth_std: float = 2.5
    smooth_scales: tuple[float, ...] = (16.0, 32.0)
    affine_std: float = 0.05
    flip_axis: int | None = None

    def __post_init__(self):
        check_fields(self, smooth_std=AT_LEAST_0, affine_std=AT_LEAST_0)
        for scale in self.smooth_scales:
            POSITIVE.check("smooth_scales", scale)

    def __call__(self, images: tf.Tensor, labels: tf.Tensor, seed=None):
        """Draw deformations and apply them.

        Args:
            images, labels: as for ``apply``.
            seed: see ``as_key``.
        """
        drawn = self.draw(tf.shape(images)[0], images.shape[1:-1], seed)
        return self.apply(images, labels, drawn)

    def draw(self, batch_size, shape, seed=None) -> Deformation:
        """Random deformations of images of a spatial shape.

        Args:
            batch_size: how many.
            shape: two or three sizes in voxels.
            seed: see ``as_key``.
        """
        ndim = len(shape)
        flip_key, affine_key, *keys = split_key(seed, 2 + len(self.smooth_scales))
        centred = [tf.linspace(-(size - 1) / 2, (size - 1) / 2, size) for size in shape]
        grid = tf.cast(tf.stack(tf.meshgrid(*centred, indexing="ij"), axis=-1), tf.float32)
        matrix = tf.random.stateless_normal(
            [batch_size, ndim, ndim], affine_key, stddev=self.affine_std
        )
        flat = tf.reshape(grid, [-1, ndim])
        affine = tf.einsum("bij,nj->bni", matrix, flat)
        displacement = tf.reshape(affine, [batch_size, *shape, ndim])
        for scale, key in zip(self.smooth_scales, keys, strict=True):
            noise = tf.random.stateless_normal(
                [batch_size, ndim, *coarse_shape(shape, scale)], key, stddev=self.smooth_std
            )
            displacement += channels_last(interpolate(noise, shape))
        return Deformation(tf.random.stateless_uniform([batch_size], flip_key) < 0.5, displacement)

    def apply(
        self, images: tf.Tensor, labels: tf.Tensor, drawn: Deformation
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Deform images (linear) and labels (nearest) alike; the outside counts as 0.

        Args:
            images: float32 (batch, *spatial, channels), of known spatial shape.
            labels: integers (batch, *spatial, channels).
            drawn: of ``draw``.
        """
        if self.flip_axis is not None:
            axis = self.flip_axis + 1
            chosen = tf.reshape(drawn.mirrored, [-1] + [1] * (images.shape.rank - 1))
            images, labels = (
                tf.where(chosen, tf.reverse(values, [axis]), values) for values in (images, labels)
            )

        def move(values, method):
            # Not the transformer's Keras layer: inside tf.data its name would be made anew.
            return tf.map_fn(
                lambda pair: vxm.utils.transform(*pair, interp_method=method, fill_value=0),
                (tf.cast(values, tf.float32), drawn.displacement),
                fn_output_signature=tf.float32,
            )

        return move(images, "linear"), tf.cast(move(labels, "nearest"), labels.dtype)


class Look(NamedTuple):
    """What an ``IntensityAugmentation`` draws, for a batch of images.

    Attributes:
        remapped: whether each image gets a random contrast; booleans (batch, 1, ...).
        levels: of that contrast; (batch, ``NUM_LEVELS``).
        exponent: of the intensities; (batch, 1, ...).
        bias: field that multiplies them; (batch, *spatial, 1).
        thickness: SD (batch, ndim) in voxels of the blur.
        noise: added last; (batch, *spatial, 1).
    """

    remapped: tf.Tensor
    levels: tf.Tensor
    exponent: tf.Tensor
    bias: tf.Tensor
    thickness: tf.Tensor
    noise: tf.Tensor


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
        remapped: share of the images that get a random contrast: random levels at equal distances
            of the intensity, linear between, so mostly not monotone.
    """

    gamma_std: float = 0.2
    bias_std: float = 0.2
    bias_scale: float = 40.0
    thickness_std: float = 1.5
    noise_std: float = 0.03
    remapped: float = 0.0

    def __post_init__(self):
        check_fields(self, bias_scale=POSITIVE, remapped=SHARE)
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

    def draw(self, batch_size, shape, seed=None) -> Look:
        """Random changes of images of a spatial shape.

        Args:
            batch_size: how many.
            shape: two or three sizes in voxels.
            seed: see ``as_key``.
        """
        keys = iter(split_key(seed, 8))

        def uniform(shape, highest=1.0):
            return tf.random.stateless_uniform(shape, next(keys), maxval=highest)

        def normal(shape, std=1.0):
            return tf.random.stateless_normal(shape, next(keys), stddev=std)

        single = [batch_size] + [1] * (len(shape) + 1)
        coarse = normal([batch_size, 1, *coarse_shape(shape, self.bias_scale)])
        bias = uniform(single, self.bias_std) * channels_last(interpolate(coarse, shape))
        return Look(
            remapped=uniform(single) < self.remapped,
            levels=uniform([batch_size, NUM_LEVELS]),
            exponent=tf.exp(normal(single, self.gamma_std)),
            bias=tf.exp(bias),
            thickness=draw_thickness(batch_size, len(shape), self.thickness_std, next(keys)),
            noise=uniform(single, self.noise_std) * normal([batch_size, *shape, 1]),
        )

    def apply(self, images: tf.Tensor, drawn: Look) -> tf.Tensor:
        """Change images.

        Args:
            images: float32 (batch, *spatial, 1) in [0, 1], of known spatial shape.
            drawn: of ``draw``.
        """
        inside = tf.cast(~is_air(images), tf.float32)
        if self.remapped > 0:
            images = tf.where(drawn.remapped, remap(images, drawn.levels) * inside, images)
        images = images**drawn.exponent * drawn.bias
        if self.thickness_std > 0:
            images = gaussian_blur(images, drawn.thickness, self.thickness_std)
        images = tf.maximum((images + drawn.noise) * inside, 0)
        axes = list(range(1, images.shape.rank))
        highest = tf.reduce_max(images, axes, keepdims=True)
        return tf.math.divide_no_nan(images, highest)


def intensity_augmentation(vary: bool, remapped: float) -> IntensityAugmentation | None:
    """What a training is asked for; None where intensities stay as they are.

    Args:
        vary: gamma, bias field, thick slices and noise.
        remapped: share of the images that get a random contrast, with these changes or alone.

    Raises:
        ValueError: ``remapped`` is no share.
    """
    if vary:
        return IntensityAugmentation(remapped=remapped)
    alone = IntensityAugmentation(
        gamma_std=0, bias_std=0, thickness_std=0, noise_std=0, remapped=remapped
    )
    return alone if remapped > 0 else None


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
