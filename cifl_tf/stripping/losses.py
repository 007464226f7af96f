"""What a stripper is trained by."""

import tensorflow as tf

from cifl_tf._compat import keras

FARTHEST = 25.0  # mm from the surface that training tells
NEAR, MORE = 5.0, 5.0  # mm from the surface where an error counts this much more


@keras.saving.register_keras_serializable(package="cifl_tf")
class DistanceLoss(keras.losses.Loss):
    """Absolute error in mm of a signed distance, most of it near the surface.

    Where the surface is farther away than ``FARTHEST``, any distance beyond this is right.

    Example:
        >>> from cifl_tf.stripping.losses import DistanceLoss
        >>> float(DistanceLoss()([[30.0]], [[26.0]]))
        0.0
    """

    def call(self, y_true, y_pred):
        """Weighted errors (batch,)."""
        y_true, y_pred = (tf.cast(one, tf.float32) for one in (y_true, y_pred))
        error = y_pred - tf.clip_by_value(y_true, -FARTHEST, FARTHEST)
        beyond = tf.sign(y_true) * error > 0
        error = tf.where((tf.abs(y_true) > FARTHEST) & beyond, tf.zeros_like(error), error)
        weighted = (1 + MORE * tf.exp(-tf.square(y_true / NEAR))) * tf.abs(error)
        return tf.reduce_mean(weighted, range(1, weighted.shape.rank))


def brain_dice(y_true, y_pred):
    """Dice of the brain masks of two signed distances, over a batch."""
    first, second = (tf.cast(one < 0, tf.float32) for one in (y_true, y_pred))
    both = tf.reduce_sum(first * second)
    return 2 * both / tf.maximum(tf.reduce_sum(first) + tf.reduce_sum(second), 1)
