"""Random brain masks: what lies beyond the labels, some of the scans show and others do not."""

from dataclasses import dataclass

import tensorflow as tf

from cifl_tf._checks import SHARE, VOXELS, check_fields
from cifl_tf._random_keys import split_key, uniform


@dataclass(frozen=True)
class RandomStrip:
    """Take away what lies outside of the labels, and of a random rim around them.

    Tools that strip skulls leave rims of fluid and membranes of different widths. A network that
    has always seen one width takes another for another anatomy.

    Attributes:
        share: of the images that are stripped.
        rim: widest rim that stays, in voxels.

    Raises:
        ValueError: the share is none, or the rim is negative.

    Example:
        >>> import numpy as np
        >>> from cifl_tf.augmentation.stripping import RandomStrip
        >>> labels = np.zeros((1, 12, 12, 1), np.int32)
        >>> labels[:, 4:8, 4:8] = 1
        >>> images, _ = RandomStrip(1.0, rim=0)(np.ones((1, 12, 12, 1), np.float32), labels)
        >>> int(tf.reduce_sum(images))
        16
    """

    share: float
    rim: int = 3

    def __post_init__(self):
        check_fields(self, share=SHARE, rim=VOXELS)

    def __call__(self, images, labels, seed=None) -> tuple[tf.Tensor, tf.Tensor]:
        """Draw the masks and apply them.

        Args:
            images: float32 (batch, *spatial, 1), of known rank.
            labels: integers (batch, *spatial, 1), 0 outside.
            seed: see ``as_key``.

        Returns:
            Images, 0 outside of the masks, and the labels as they are.
        """
        images, labels = tf.convert_to_tensor(images), tf.convert_to_tensor(labels)
        strip_key, rim_key = split_key(seed, 2)
        single = [tf.shape(images)[0]] + [1] * (images.shape.rank - 1)
        stripped = uniform(single, strip_key) < self.share
        width = uniform(single, rim_key, 0, self.rim + 1, tf.int32)
        mask = tf.cast(labels > 0, tf.float32)
        kept = mask
        for step in range(1, self.rim + 1):
            mask = tf.nn.max_pool(mask, 3, 1, "SAME")
            kept = tf.where(width == step, mask, kept)
        return tf.where(stripped, images * kept, images), labels
