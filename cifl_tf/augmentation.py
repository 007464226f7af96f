"""Random changes of training images: patches and deformations with labels, and intensities."""

import dataclasses

import tensorflow as tf

from cifl_tf._compat import vxm
from cifl_tf.intensity import is_air
from cifl_tf.smooth_fields import channels_last, coarse_shape, gaussian_blur, interpolate
from cifl_tf.synthesis import draw_thickness

NUM_LEVELS = 7  # of a random remapping of intensities


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
    """

    smooth_std: float = 2.5
    smooth_scales: tuple[float, ...] = (16.0, 32.0)
    affine_std: float = 0.05
    flip_axis: int | None = None

    def __call__(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Deform images (linear) and labels (nearest) alike; the outside counts as 0.

        Args:
            images: float32 (batch, *spatial, channels), of known spatial shape.
            labels: integers (batch, *spatial, channels).
        """
        if self.flip_axis is not None:
            images, labels = self._flip(images, labels)
        displacement = self.draw(tf.shape(images)[0], images.shape[1:-1])

        def move(values, method):
            # Not the transformer's Keras layer: inside tf.data its name would be made anew.
            return tf.map_fn(
                lambda pair: vxm.utils.transform(*pair, interp_method=method, fill_value=0),
                (tf.cast(values, tf.float32), displacement),
                fn_output_signature=tf.float32,
            )

        return move(images, "linear"), tf.cast(move(labels, "nearest"), labels.dtype)

    def draw(self, batch_size, shape) -> tf.Tensor:
        """Random displacements (batch, *shape, ndim) in voxels."""
        ndim = len(shape)
        centred = [tf.linspace(-(size - 1) / 2, (size - 1) / 2, size) for size in shape]
        grid = tf.cast(tf.stack(tf.meshgrid(*centred, indexing="ij"), axis=-1), tf.float32)
        matrix = tf.random.normal([batch_size, ndim, ndim], stddev=self.affine_std)
        flat = tf.reshape(grid, [-1, ndim])
        affine = tf.einsum("bij,nj->bni", matrix, flat)
        displacement = tf.reshape(affine, [batch_size, *shape, ndim])
        for scale in self.smooth_scales:
            noise = tf.random.normal(
                [batch_size, ndim, *coarse_shape(shape, scale)], stddev=self.smooth_std
            )
            displacement += channels_last(interpolate(noise, shape))
        return displacement

    def _flip(self, images, labels):
        axis = (self.flip_axis or 0) + 1
        chosen = tf.random.uniform([tf.shape(images)[0]] + [1] * (images.shape.rank - 1)) < 0.5
        return tuple(
            tf.where(chosen, tf.reverse(values, [axis]), values) for values in (images, labels)
        )


@dataclasses.dataclass(frozen=True)
class RandomPatch:
    """One cube of every volume (square of every slice), most about a voxel that has a label.

    Attributes:
        size: of the patch in voxels.
        margin: voxels more on every side, 0 beyond the image, for what deforms the patch later; cut
            off by ``trimmed``.
        anywhere: share of the patches about any voxel, without which a network may take air that is
            farther from all labels than a patch is wide for tissue.
    """

    size: int
    margin: int = 8
    anywhere: float = 1 / 3

    def __call__(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Patches with their margins.

        Args:
            images: float32 (batch, *spatial, channels), of known spatial shape.
            labels: integers (batch, *spatial, channels).

        Raises:
            ValueError: the images are smaller than a patch.
        """
        shape = images.shape[1:-1]
        if self.size < 1 or min(shape) < self.size:
            raise ValueError(
                f"patch is {self.size}, but the images have shape {tuple(shape)}; give a size of "
                "at least 1 voxel and at most theirs"
            )
        drawn = tuple(
            tf.TensorSpec([*self._sizes(len(shape)), values.shape[-1]], values.dtype)
            for values in (images, labels)
        )
        return tf.map_fn(self._draw, (images, labels), fn_output_signature=drawn)

    def trimmed(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Patches without their margins."""
        inside = slice(self.margin, self.margin + self.size)
        chosen = (slice(None), *[inside] * (images.shape.rank - 2))
        return images[chosen], labels[chosen]

    def _sizes(self, ndim):
        return [self.size + 2 * self.margin] * ndim

    def _draw(self, pair):
        image, labels = pair
        labelled = tf.reduce_any(labels > 0, axis=-1)
        labelled |= ~tf.reduce_any(labelled) | (tf.random.uniform([]) < self.anywhere)
        voxels = tf.where(labelled)
        centre = voxels[tf.random.uniform([], 0, tf.shape(voxels)[0], tf.int32)]
        ndim = image.shape.rank - 1
        last = tf.shape(image, tf.int64)[:-1] - self.size
        begin = tf.concat([tf.clip_by_value(centre - self.size // 2, 0, last), [0]], axis=0)
        around = [*[[self.margin] * 2] * ndim, [0, 0]]
        return tuple(
            tf.slice(tf.pad(values, around), begin, [*self._sizes(ndim), -1]) for values in pair
        )


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
        if not 0 <= self.remapped <= 1:
            raise ValueError(f"remapped is {self.remapped}; give a share of at least 0, at most 1")

    def __call__(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Change the images and pass the labels on.

        Args:
            images: float32 (batch, *spatial, 1) in [0, 1], of known spatial shape.
            labels: anything.
        """
        inside = tf.cast(~is_air(images), tf.float32)
        batch_size, shape = tf.shape(images)[0], images.shape[1:-1]
        single = [batch_size] + [1] * (len(shape) + 1)
        if self.remapped > 0:
            chosen = tf.random.uniform(single) < self.remapped
            levels = tf.random.uniform([batch_size, NUM_LEVELS])
            images = tf.where(chosen, remap(images, levels) * inside, images)
        images **= tf.exp(tf.random.normal(single, stddev=self.gamma_std))
        coarse = tf.random.normal([batch_size, 1, *coarse_shape(shape, self.bias_scale)])
        bias_std = tf.random.uniform(single, 0, self.bias_std)
        images *= tf.exp(bias_std * channels_last(interpolate(coarse, shape)))
        if self.thickness_std > 0:
            thickness = draw_thickness(batch_size, len(shape), self.thickness_std)
            images = gaussian_blur(images, thickness, self.thickness_std)
        images += tf.random.uniform(single, 0, self.noise_std) * tf.random.normal(tf.shape(images))
        images = tf.maximum(images * inside, 0)
        highest = tf.reduce_max(images, list(range(1, len(shape) + 2)), keepdims=True)
        return tf.math.divide_no_nan(images, highest), labels


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
