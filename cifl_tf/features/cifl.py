"""``CIFL``: the Keras model that trains an encoder on pairs of contrasts."""

import tensorflow as tf

from cifl_tf._compat import keras
from cifl_tf.features.losses import channel_similarities, unit_channels
from cifl_tf.models.config import register_classes
from cifl_tf.models.fitting import TracedOnce


@keras.saving.register_keras_serializable(package="cifl_tf")
class CIFL(TracedOnce, keras.Model):
    """Contrast-invariant feature learning (Chua & Dalca).

    With a synthesizer, ``fit`` takes a dataset of label maps, or of (label maps, seed of the
    synthesizer), and renders the pairs itself; without one, a dataset of (view_1, view_2), two
    aligned images of different contrast. Compile with a ``ContrastiveLoss``.

    Logged in training and validation, besides the loss, all in the loss's own crop and windows:

    - ``pair_similarity``: channel of one view with the same channel of the other; to rise to 1.
    - ``channel_similarity``: absolute similarity of different channels of a view; to stay low.
    - ``unrelated_similarity``: absolute similarity of a channel in two unrelated images of the
      batch. Near ``pair_similarity``, the features ignore the image: a collapse. Not a number for
      epochs with a batch of one: drop the remainder of a finite dataset.
    - ``border_energy``: mean square of the features in the border that the loss leaves out (8
      voxels where it leaves out none), relative to the whole image. Far above 1, the features carry
      the padding instead of the image: a collapse.

    ``compile(metrics=...)`` adds others, which get the features of one view as ``y_true`` and those
    of the other as ``y_pred``.

    Args:
        encoder: a network from (batch, *spatial, 1) to (batch, *spatial, C); see
            ``build_encoder``.
        synthesizer: a layer from label maps to two views, or None; see ``PairSynthesizer``.

    Input and output shape:
        image (batch, *spatial, 1), intensities in [0, 1]; features (batch, *spatial, C)

    Example:
        >>> import cifl_tf as cifl, numpy as np
        >>> model = cifl.CIFL(cifl.build_encoder(num_features=4, num_filters=2))
        >>> model.compile("adam", cifl.ContrastiveLoss(crop=8), metrics=["mae"])
        >>> images = np.random.rand(4, 24, 24, 1)
        >>> sorted(model.fit(images, 1 - images, verbose=0).history)[:3]
        ['border_energy', 'channel_similarity', 'loss']
    """

    def __init__(
        self, encoder: keras.Model, synthesizer: keras.layers.Layer | None = None, **kwargs
    ):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.synthesizer = synthesizer
        self._signals = [
            keras.metrics.Mean(name=name)
            for name in (
                "pair_similarity",
                "channel_similarity",
                "unrelated_similarity",
                "border_energy",
            )
        ]
        self.build(encoder.input_shape)

    def build(self, input_shape):
        """Nothing to build: the encoder has its weights."""
        self.built = True
        self._build_input_shape = input_shape

    def call(self, inputs, training=None):
        """Features of an image."""
        return self.encoder(inputs, training=training)

    def _encode_pair(self, data, training):
        first, second, _ = keras.utils.unpack_x_y_sample_weight(data)
        if self.synthesizer is not None:
            drawn = {} if second is None else {"seed": second}
            first, second = self.synthesizer(first, **drawn)
        elif second is None:
            raise ValueError(
                "CIFL without a synthesizer is fitted on a dataset of (view_1, view_2), but got "
                "one input; give pairs, or label maps and a synthesizer"
            )
        both = self(tf.concat([first, second], axis=0), training=training)
        return tf.split(both, 2)

    def _update_signals(self, features_1, features_2):
        crop, window = getattr(self.loss, "crop", 0), getattr(self.loss, "window", None)
        unit_1 = unit_channels(features_1, crop, window)
        unit_2 = unit_channels(features_2, crop, window)
        within = tf.abs(channel_similarities(unit_1, unit_1))
        off_diagonal = tf.linalg.set_diag(within, tf.zeros_like(within[..., 0]))
        num_channels = tf.cast(tf.shape(within)[-1], tf.float32)
        unrelated = tf.abs(tf.reduce_sum(unit_1 * tf.roll(unit_2, 1, axis=0), axis=1))
        alone = tf.shape(unit_1)[0] < 2
        values = {
            "pair_similarity": tf.reduce_sum(unit_1 * unit_2, axis=1),
            "channel_similarity": tf.reduce_sum(off_diagonal, [1, 2])
            / (num_channels * (num_channels - 1)),
            "unrelated_similarity": tf.where(alone, float("nan"), unrelated),
            "border_energy": border_energy(features_1, crop or 8),
        }
        for signal in self._signals:
            signal.update_state(values[signal.name])

    def _step(self, data, training):
        features_1, features_2 = self._encode_pair(data, training)
        loss = self.compute_loss(y=features_1, y_pred=features_2)
        self._update_signals(tf.stop_gradient(features_1), tf.stop_gradient(features_2))
        self.compiled_metrics.update_state(features_1, features_2)
        return loss

    def train_step(self, data):
        """One optimization step on label maps or on a pair of views."""
        with tf.GradientTape() as tape:
            loss = self._step(data, training=True)
        self.optimizer.minimize(loss, self.trainable_variables, tape=tape)
        return self.get_metrics_result()

    def test_step(self, data):
        """Loss and signals of label maps or of a pair of views."""
        self._step(data, training=False)
        return self.get_metrics_result()

    def get_config(self):
        """Arguments that build this model again."""
        return {
            "name": self.name,
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "synthesizer": self.synthesizer
            and keras.saving.serialize_keras_object(self.synthesizer),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The model of a ``get_config``."""
        register_classes()
        config = dict(config)
        for part in ("encoder", "synthesizer"):
            config[part] = config[part] and keras.saving.deserialize_keras_object(
                config[part], custom_objects=custom_objects
            )
        return cls(**config)


def border_energy(features: tf.Tensor, width: int) -> tf.Tensor:
    """Mean square of features within ``width`` voxels of the border, relative to all, (batch,).

    One for features spread evenly; ``size / ring size`` when all energy lies in the ring.
    """
    energy = tf.reduce_mean(tf.cast(features, tf.float32) ** 2, axis=-1)
    axes = list(range(1, energy.shape.rank))
    ring = tf.zeros(tf.shape(energy)[1:], tf.bool)
    for axis in range(len(axes)):
        position = tf.range(tf.shape(energy)[axis + 1])
        outside = (position < width) | (position >= tf.shape(energy)[axis + 1] - width)
        ring |= tf.reshape(outside, [-1 if other == axis else 1 for other in range(len(axes))])
    ring = tf.cast(ring, tf.float32)
    in_ring = tf.reduce_sum(energy * ring, axes) / tf.reduce_sum(ring)
    return tf.math.divide_no_nan(in_ring, tf.reduce_mean(energy, axes))
