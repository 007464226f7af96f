"""Random patches of training images and their labels."""

import dataclasses

import tensorflow as tf

from cifl_tf._checks import COUNT, SHARE, VOXELS, check_fields
from cifl_tf._random_keys import as_key, uniform


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

    def __post_init__(self):
        COUNT.check("patch", self.size)
        check_fields(self, margin=VOXELS, anywhere=SHARE)

    def __call__(self, images: tf.Tensor, labels: tf.Tensor, seed=None):
        """Draw patches and cut them.

        Args:
            images, labels: as for ``apply``.
            seed: see ``as_key``.
        """
        self.check_fits(images.shape[1:-1])
        return self.apply(images, labels, self.draw(tf.shape(images)[0], seed))

    def check_fits(self, shape) -> None:
        """Refuse images that are smaller than a patch.

        Args:
            shape: their sizes in voxels.

        Raises:
            ValueError: says both.
        """
        if min(shape) < self.size:
            raise ValueError(
                f"patch is {self.size}, but the images have shape {tuple(shape)}; give a size of "
                "at least 1 voxel and at most theirs"
            )

    def draw(self, batch_size, seed=None) -> tf.Tensor:
        """Random numbers from 0 to 1 that choose the patches, (batch, 2)."""
        # In float32 the voxels of a large volume would not all be chosen.
        return uniform([batch_size, 2], as_key(seed), dtype=tf.float64)

    def apply(
        self, images: tf.Tensor, labels: tf.Tensor, drawn: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Patches with their margins.

        Args:
            images: float32 (batch, *spatial, channels), of known spatial shape.
            labels: integers (batch, *spatial, channels).
            drawn: of ``draw``.
        """
        sizes = self._sizes(images.shape.rank - 2)
        patches = tuple(
            tf.TensorSpec([*sizes, values.shape[-1]], values.dtype) for values in (images, labels)
        )
        return tf.map_fn(self._cut, (images, labels, drawn), fn_output_signature=patches)

    def trimmed(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Patches without their margins."""
        inside = slice(self.margin, self.margin + self.size)
        chosen = (slice(None), *[inside] * (images.shape.rank - 2))
        return images[chosen], labels[chosen]

    def _sizes(self, ndim):
        return [self.size + 2 * self.margin] * ndim

    def _cut(self, example):
        image, labels, drawn = example
        labelled = tf.reduce_any(labels > 0, axis=-1)
        labelled |= ~tf.reduce_any(labelled) | (drawn[0] < self.anywhere)
        voxels = tf.where(labelled)
        count = tf.shape(voxels, tf.int64)[0]
        center = voxels[tf.cast(drawn[1] * tf.cast(count, tf.float64), tf.int64)]
        ndim = image.shape.rank - 1
        last = tf.shape(image, tf.int64)[:-1] - self.size
        begin = tf.concat([tf.clip_by_value(center - self.size // 2, 0, last), [0]], axis=0)
        around = [*[[self.margin] * 2] * ndim, [0, 0]]
        return tuple(
            tf.slice(tf.pad(values, around), begin, [*self._sizes(ndim), -1])
            for values in (image, labels)
        )
