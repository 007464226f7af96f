"""Loss and metric of segmenters."""

import tensorflow as tf

from cifl_tf._compat import keras


@keras.saving.register_keras_serializable(package="cifl_tf")
class SegmentationLoss(keras.losses.Loss):
    """Soft-Dice loss of the labels but the background, plus cross-entropy of all, per image.

    ``1 - mean_l (2 sum(p_l y_l) + s) / (sum(p_l) + sum(y_l) + s) - mean_x log p_{y(x)}(x)`` with
    s = 1 voxel, so that a label that is absent and not predicted costs nothing (Milletari et al.,
    3DV 2016, without squares).

    Call arguments:
        y_true: integers (batch, *spatial, 1).
        y_pred: probabilities (batch, *spatial, labels).

    Example:
        >>> import cifl_tf as cifl, numpy as np
        >>> labels = np.random.default_rng(0).integers(0, 3, (1, 24, 20, 1))
        >>> probabilities = np.eye(3)[labels[..., 0]]
        >>> round(abs(float(cifl.SegmentationLoss()(labels, probabilities))), 3)
        0.0
    """

    def __init__(self, reduction: str = "auto", name: str = "segmentation_loss"):
        super().__init__(reduction=reduction, name=name)

    def call(self, y_true, y_pred):
        """One loss per image."""
        y_pred = tf.cast(y_pred, tf.float32)
        truth = tf.one_hot(tf.cast(y_true[..., 0], tf.int32), y_pred.shape[-1])
        axes = list(range(1, y_pred.shape.rank - 1))
        overlap = tf.reduce_sum(truth * y_pred, axes)
        sizes = tf.reduce_sum(truth, axes) + tf.reduce_sum(y_pred, axes)
        dice = (2 * overlap + 1) / (sizes + 1)
        cross_entropy = -tf.reduce_sum(truth * tf.math.log(y_pred + 1e-7), axis=-1)
        return 1 - tf.reduce_mean(dice[:, 1:], axis=-1) + tf.reduce_mean(cross_entropy, axes)


@keras.saving.register_keras_serializable(package="cifl_tf")
class MeanDice(keras.metrics.Metric):
    """Dice of the most probable labels, over all voxels seen, mean over labels but background.

    Args:
        num_labels: labels, the background 0 included.

    Example:
        >>> import cifl_tf as cifl, numpy as np
        >>> dice = cifl.MeanDice(num_labels=2)
        >>> labels, probabilities = np.array([[[0], [1], [1], [1]]]), np.eye(2)[[[0, 0, 1, 1]]]
        >>> round(float(dice(labels, probabilities)), 3)
        0.8
    """

    def __init__(self, num_labels: int, name: str = "dice", **kwargs):
        super().__init__(name=name, **kwargs)
        self.num_labels = num_labels
        self.confusion = self.add_weight(
            name="confusion", shape=(num_labels, num_labels), initializer="zeros"
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Count the voxels of a batch."""
        self.confusion.assign_add(
            tf.math.confusion_matrix(
                tf.reshape(y_true, [-1]),
                tf.reshape(tf.argmax(y_pred, axis=-1), [-1]),
                self.num_labels,
                dtype=self.confusion.dtype,
            )
        )

    def result(self):
        """Mean Dice of the labels that were there or predicted."""
        overlap = tf.linalg.diag_part(self.confusion)[1:]
        sizes = (tf.reduce_sum(self.confusion, 0) + tf.reduce_sum(self.confusion, 1))[1:]
        seen = tf.cast(sizes > 0, sizes.dtype)
        dice = tf.math.divide_no_nan(2 * overlap, sizes)
        return tf.math.divide_no_nan(tf.reduce_sum(dice * seen), tf.reduce_sum(seen))

    def reset_state(self):
        """Forget the voxels counted so far; Keras itself resets scalars only."""
        self.confusion.assign(tf.zeros_like(self.confusion))

    def get_config(self):
        """Arguments that build this metric again."""
        return {**super().get_config(), "num_labels": self.num_labels}
