"""How a registration network is fitted on pairs of images."""

import abc
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from cifl_tf._compat import keras
from cifl_tf._random_keys import key_of, of_replica, split_key
from cifl_tf.models.fitting import TracedOnce
from cifl_tf.registration.displacements import warp_batch
from cifl_tf.registration.similarity import gradient_penalty, soft_dice


class PairModel(TracedOnce, keras.Model, abc.ABC):
    """A model whose ``fit`` takes pairs of images; see ``Registration``.

    Compile with the loss that compares the fixed and the warped: "mse", ``MultiScaleMSE`` or
    ``LocalNCC``. ``fit`` takes a dataset of ``((moving, fixed),)`` or of
    ``((moving, fixed), (moving_labels, fixed_labels))`` with one-hot label maps (batch, *shape,
    labels), channel 0 the background. Logged: ``loss``, ``similarity`` (what the loss compares),
    ``smoothness`` (the penalty before its weight), and with labels ``label_dice`` (soft Dice).
    ``compile(metrics=...)`` adds others, which get what the loss compares: the fixed as ``y_true``,
    the warped as ``y_pred``.

    Attributes:
        intensity_augmentation: what changes the intensities that the network sees in training, such
            as an ``IntensityAugmentation``; the loss compares the images as they are. Not saved.
        intensity_seed: gives the augmentation of every step its own seed; None draws without.
    """

    _settings: dict[str, Any]

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.intensity_augmentation: Callable | None = None
        self.intensity_seed: int | None = None
        self._signals = {
            name: keras.metrics.Mean(name=name)
            for name in ("loss", "similarity", "smoothness", "label_dice")
        }

    @abc.abstractmethod
    def _features(self, inputs):
        """Features of a pair (moving, fixed)."""

    @abc.abstractmethod
    def _passes(self, moving, features, count, training):
        """Displacement of so many passes, and the field of each that is regularized."""

    @property
    def metrics(self):
        """What ``fit`` logs and resets at every epoch."""
        given = self.compiled_metrics.metrics if self.compiled_metrics is not None else []
        return [*self._signals.values(), *given]

    def train_step(self, data):
        """One optimization step on a batch of pairs."""
        with tf.GradientTape() as tape:
            loss = self._step(data, training=True)
            # Of several replicas the gradients are summed.
            share = loss / tf.distribute.get_strategy().num_replicas_in_sync
        self.optimizer.minimize(share, self.trainable_variables, tape=tape)
        return self._logs(data)

    def test_step(self, data):
        """Loss and signals of a batch of pairs."""
        self._step(data, training=False)
        return self._logs(data)

    def _step(self, data, training):
        images, labels = _pairs(data)
        seen = self._seen(images) if training else images
        count = 1 if training else self._settings["num_cascades"]
        features = self._features(seen)
        displacement, fields = self._passes(seen[0], features, count, training)
        # A gradient through the features' values would not pass the encoder anyway.
        compared = self._settings["similarity"]
        moving, fixed = features if compared == "features" else images
        warped = warp_batch(moving, displacement)
        similarity = _mean_loss(keras.losses.get(self.loss), fixed, warped)
        penalties = [gradient_penalty(tf.cast(field, tf.float32)) for field in fields]
        smoothness = tf.reduce_mean(penalties)
        loss = self._settings["smoothness"] * smoothness
        if compared != "labels":
            loss += similarity
        values = {"similarity": similarity, "smoothness": smoothness}
        if labels is not None:
            moving_labels, fixed_labels = (tf.cast(one, tf.float32) for one in labels)
            dice = tf.reduce_mean(soft_dice(fixed_labels, warp_batch(moving_labels, displacement)))
            loss += self._settings["label_weight"] * (1 - dice)
            values["label_dice"] = dice
        for name, value in {"loss": loss, **values}.items():
            self._signals[name].update_state(value)
        self.compiled_metrics.update_state(fixed, warped)
        return loss

    def _seen(self, images):
        """The pair with the intensities that the network sees in training."""
        if self.intensity_augmentation is None:
            return images
        if self.intensity_seed is None:
            return [self.intensity_augmentation(image, None)[0] for image in images]
        # The steps of the optimizer are in the checkpoint, so that training can go on there.
        key = of_replica(key_of(self.intensity_seed, 2, self.optimizer.iterations))
        pairs = zip(images, split_key(key, 2), strict=True)
        return [self.intensity_augmentation(image, None, seed=key)[0] for image, key in pairs]

    def _logs(self, data):
        logs = self.get_metrics_result()
        if _pairs(data)[1] is None:
            del logs["label_dice"]
        return logs


def _mean_loss(loss, fixed, warped):
    """One number of a loss: a function such as "mse" gives one per voxel."""
    # Keras does not average itself where several replicas of a model train.
    if getattr(loss, "reduction", None) in ("auto", "sum_over_batch_size"):
        loss = loss.call
    return tf.reduce_mean(loss(fixed, warped))


def _pairs(data):
    """The images and the labels, or None, of what a dataset yields."""
    images, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
    if not isinstance(images, tuple | list) or len(images) != 2:
        raise ValueError(
            "Registration is fitted on a dataset of ((moving, fixed),) or of ((moving, "
            "fixed), (moving_labels, fixed_labels)), but got one image; nest the pair in a tuple"
        )
    return images, labels
