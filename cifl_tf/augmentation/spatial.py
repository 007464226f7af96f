"""Random changes of training images: deformations with labels, and intensities."""

import dataclasses
from typing import NamedTuple

import tensorflow as tf

from cifl_tf._checks import AT_LEAST_0, POSITIVE, check_fields
from cifl_tf._compat import vxm
from cifl_tf._random_keys import normal, split_key, uniform
from cifl_tf.synthesis.smooth_fields import channels_last, coarse_shape, interpolate


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
            shearing about the center.
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
        centered = [tf.linspace(-(size - 1) / 2, (size - 1) / 2, size) for size in shape]
        grid = tf.cast(tf.stack(tf.meshgrid(*centered, indexing="ij"), axis=-1), tf.float32)
        matrix = normal([batch_size, ndim, ndim], affine_key, self.affine_std)
        flat = tf.reshape(grid, [-1, ndim])
        affine = tf.einsum("bij,nj->bni", matrix, flat)
        displacement = tf.reshape(affine, [batch_size, *shape, ndim])
        for scale, key in zip(self.smooth_scales, keys, strict=True):
            coarse = [batch_size, ndim, *coarse_shape(shape, scale)]
            noise = normal(coarse, key, self.smooth_std)
            displacement += channels_last(interpolate(noise, shape))
        return Deformation(uniform([batch_size], flip_key) < 0.5, displacement)

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
