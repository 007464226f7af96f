"""Segmentation: a frozen encoder and a neurite U-Net as one ordinary Keras model."""

import contextlib
import io
from collections.abc import Sequence
from functools import partial

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from cifl_tf._compat import keras, ne
from cifl_tf.frozen_features import FrozenFeatures
from cifl_tf.layers import CropTo, PadToMultiple
from cifl_tf.patches import RandomPatch
from cifl_tf.random_keys import key_of


def build_segmenter(
    encoder: keras.Model | None,
    num_labels: int,
    ndim: int = 2,
    num_filters: int = 16,
    num_levels: int = 4,
    ensemble: Sequence[str] = (),
    batch_norm: bool = False,
) -> keras.Model:
    """Build a network from an image of any size to label probabilities.

    Image, frozen encoder, neurite U-Net (Ronneberger et al., MICCAI 2015), softmax. It pads to what
    the U-Net needs and crops by itself. Only the U-Net has trainable weights.

    Args:
        encoder: see ``build_encoder``; None trains on intensities, the paper's baseline.
        num_labels: labels, the background 0 included.
        ndim: 2 or 3; that of the encoder.
        num_filters: channels of the U-Net at full resolution, doubled at each level.
        num_levels: resolutions of the U-Net.
        ensemble: see ``FrozenFeatures``.
        batch_norm: normalise the channels after every level of the U-Net, over batch and space.

    Input and output shape:
        image (batch, *spatial, 1), intensities in [0, 1]; probabilities
        (batch, *spatial, num_labels)

    Raises:
        ValueError: the encoder has another number of dimensions, there are too few labels, or an
            unknown ensemble.
    """
    if num_labels < 2:
        raise ValueError(f"num_labels is {num_labels}; give at least 2, background included")
    if encoder is not None and len(encoder.input_shape) - 2 != ndim:
        raise ValueError(
            f"the encoder is for {len(encoder.input_shape) - 2}D images, but ndim is {ndim}; "
            "give an encoder of the same dimensions"
        )
    image = keras.Input((*[None] * ndim, 1), name="image")
    extract = FrozenFeatures(encoder, ensemble, name="features")
    features = PadToMultiple(2 ** (num_levels - 1), name="pad")(extract(image))
    # neurite prints the name of its last activation.
    with contextlib.redirect_stdout(io.StringIO()):
        unet = ne.models.unet(
            num_filters,
            (*[None] * ndim, extract.num_features),
            num_levels,
            3,
            num_labels,
            feat_mult=2,
            nb_conv_per_level=2,
            # neurite's softmax is a Lambda layer, which does not reload safely.
            final_pred_activation="linear",
            batch_norm=-1 if batch_norm else None,
            name="unet",
        )
    logits = CropTo(name="crop")([unet(features), image])
    probabilities = keras.layers.Softmax(dtype="float32", name="probabilities")(logits)
    return keras.Model(image, probabilities, name="segmenter")


def without_features(segmenter: keras.Model) -> keras.Model:
    """What follows the features of a segmenter: features to label probabilities, weights shared."""
    extract = segmenter.get_layer("features")
    features = keras.Input((*segmenter.input_shape[1:-1], extract.num_features), name="encoded")
    logits = segmenter.get_layer("unet")(segmenter.get_layer("pad")(features))
    cropped = segmenter.get_layer("crop")([logits, features])
    return keras.Model(
        features, segmenter.get_layer("probabilities")(cropped), name="from_features"
    )


@keras.saving.register_keras_serializable(package="cifl_tf")
class SegmentationLoss(keras.losses.Loss):
    """Soft-Dice loss of the labels but the background, plus cross-entropy of all, per image.

    ``1 - mean_l (2 sum(p_l y_l) + s) / (sum(p_l) + sum(y_l) + s) - mean_x log p_{y(x)}(x)`` with
    s = 1 voxel, so that a label that is absent and not predicted costs nothing (Milletari et al.,
    3DV 2016, without squares).

    Call arguments:
        y_true: integers (batch, *spatial, 1).
        y_pred: probabilities (batch, *spatial, labels).
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


def training_data(
    images: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    augmentation=None,
    look=None,
    seed: int = 0,
    render=None,
    patch: int | None = None,
    start: int = 0,
) -> tf.data.Dataset:
    """Endless, shuffled, augmented batches for ``fit``.

    A batch depends on its number and the seed only, so that a training can go on anywhere.

    Args:
        images: (n, *spatial, 1), intensities in [0, 1], or features (n, *spatial, C).
        labels: integers (n, *spatial, 1).
        batch_size: images per batch.
        augmentation: a ``SpatialAugmentation``, or None.
        look: an ``IntensityAugmentation`` after it, or None.
        seed: of order and augmentation.
        render: gives the images from the augmented label maps and a seed in place of those given,
            for training on synthetic images (Billot et al., SynthSeg, Medical Image Analysis 2023);
            such as ``PairSynthesizer.render``.
        patch: size in voxels of random patches in place of whole images, see ``RandomPatch``; only
            patches are deformed then.
        start: number of the first batch, to go on where an earlier run ended.

    Returns:
        Elements (images in float32, labels).

    Raises:
        ValueError: the images are smaller than a patch.
    """
    count, images, labels = len(images), tf.constant(images), tf.constant(labels)
    changes = [augmentation, look]
    cut = None
    if patch is not None:
        cut = RandomPatch(patch) if augmentation else RandomPatch(patch, margin=0)
        cut.check_fits(images.shape[1:-1])
        # The look first: it scales by the highest intensity of the whole image.
        changes = [look, cut, augmentation]

    def choose(index):
        # Every image once before any comes again, in an order of its own each time.
        order = key_of(seed, 0, index // count)
        return tf.random.experimental.stateless_shuffle(tf.range(count), order)[index % count]

    def load(step, chosen):
        return step, tf.gather(images, chosen), tf.gather(labels, chosen)

    def changed(change, stream, step, images, labels):
        return step, *change(images, labels, seed=key_of(seed, stream, step))

    def finished(step, images, labels):
        if cut is not None:
            images, labels = cut.trimmed(images, labels)
        if render is not None:
            images = render(labels, seed=key_of(seed, 1 + len(changes), step))
        return tf.cast(images, tf.float32), labels

    data = tf.data.Dataset.counter(start * batch_size).map(choose).batch(batch_size)
    data = data.enumerate(start).map(load)
    for stream, change in enumerate(changes, start=1):
        if change is not None:
            change = partial(changed, change, stream)
            data = data.map(change, num_parallel_calls=tf.data.AUTOTUNE)
    return data.map(finished).prefetch(2)


def encode_once(
    extract: FrozenFeatures, data: tf.data.Dataset, count: int, quiet: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Features of the first images of a dataset, kept in memory in half precision.

    Args:
        extract: of the segmenter.
        data: batches of one image and its labels, as those of ``training_data``.
        count: how many images.
        quiet: show no progress bar.

    Returns:
        Features (count, *spatial, C), float16, and labels (count, *spatial, 1).
    """
    image, label = data.element_spec
    features = np.empty((count, *image.shape[1:-1], extract.num_features), np.float16)
    labels = np.empty((count, *label.shape[1:]), label.dtype.as_numpy_dtype)
    encode = tf.function(extract)
    bar = tqdm(data.take(count), "encoding", count, unit="image", disable=quiet or None)
    for index, (image, label) in enumerate(bar):
        features[index], labels[index] = encode(image)[0], label[0]
    return features, labels
