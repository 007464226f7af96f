"""Random deformations of an image and its labels together."""

import dataclasses

import tensorflow as tf

from cifl_tf._compat import vxm
from cifl_tf.smooth_fields import channels_last, coarse_shape, upsample


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
            images: float32 (batch, *spatial, 1), of known spatial shape.
            labels: integers (batch, *spatial, 1).
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
            displacement += channels_last(upsample(noise, shape))
        return displacement

    def _flip(self, images, labels):
        axis = (self.flip_axis or 0) + 1
        chosen = tf.random.uniform([tf.shape(images)[0]] + [1] * (images.shape.rank - 1)) < 0.5
        return tuple(
            tf.where(chosen, tf.reverse(values, [axis]), values) for values in (images, labels)
        )
