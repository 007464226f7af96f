"""Train an encoder in a folder, so that the same call goes on after a kill."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import tensorflow as tf

from cifl_tf._compat import keras
from cifl_tf._random_keys import WHOLE, key_of
from cifl_tf.datasets.label_folder import map_drawer
from cifl_tf.features.callbacks import SaveEncoder
from cifl_tf.features.cifl import CIFL
from cifl_tf.features.config import TrainingConfig
from cifl_tf.features.encoder import (
    build_encoder,
    transfer_weights,
)
from cifl_tf.features.losses import ContrastiveLoss
from cifl_tf.features.pictures import FeaturePictures
from cifl_tf.features.pretrained import ENCODER_FILE, load_encoder
from cifl_tf.images.memory import require_memory
from cifl_tf.models.files import ENCODER
from cifl_tf.models.fitting import cosine_adam
from cifl_tf.models.precision import precision_policy
from cifl_tf.synthesis.pairs import PairSynthesizer
from cifl_tf.synthesis.shapes import shape_maps
from cifl_tf.training.folder import LOG_FOLDER, train_in_folder
from cifl_tf.training.progress import Goal

Builder = Callable[[TrainingConfig, PairSynthesizer | None], CIFL]


def train(
    out,
    config: TrainingConfig,
    verbose: int | str = "auto",
    callbacks: Sequence[keras.callbacks.Callback] = (),
    build: Builder | None = None,
) -> keras.Model:
    """Train an encoder in a folder, or go on with it, or load it when it is complete.

    The folder holds ``config.json``, ``encoder.keras``, ``history.csv``, ``checkpoints`` (of model,
    optimizer and epoch) and ``logs`` (TensorBoard). After a kill at any moment, the same call goes
    on from the last complete epoch and ends with the weights of a training that was not killed.

    Args:
        out: the folder; new, empty, or of the same configuration.
        config: what to train.
        verbose: as in ``keras.Model.fit``; "auto" shows a bar in a terminal, else a line per epoch.
        callbacks: further ones, such as ``SnapshotEncoder``; not called when it is complete.
        build: gives the compiled model of a configuration and a synthesizer, for an encoder or a
            loss of one's own; None for ``build_model``. A folder that was begun must get the same.

    Returns:
        The trained encoder.

    Raises:
        ValueError: the folder holds something else or damaged files, was made with another
            configuration, or another process trains in it; the images do not fit into memory; or
            the loss is no finite number.

    Example:
        >>> from cifl_tf.features.config import TrainingConfig
        >>> from cifl_tf.features.training import train
        >>> small = {"num_features": 4, "num_filters": 2, "batch_size": 2}
        >>> config = TrainingConfig(shape=(24, 24), steps=1, **small)
        >>> train("encoder", config, verbose=0).output_shape
        (None, None, None, 4)
    """
    goal = Goal(ENCODER_FILE, ENCODER, config.steps)
    fit = partial(
        _fit, config=config, verbose=verbose, callbacks=callbacks, build=build or build_model
    )
    return train_in_folder(out, dataclasses.asdict(config), goal, fit)


def _fit(folder, config, verbose, callbacks, build):
    require_memory(2 * config.batch_size, config.shape, config.full_resolution_channels)
    keras.utils.set_random_seed(config.seed)
    label_maps, num_labels = _label_maps(config)
    synthesizer = PairSynthesizer(config.shape, num_labels, appearance=config.appearance)
    fixed_maps = label_maps(WHOLE.examples(0, config.batch_size)).batch(1)
    fixed_pair = synthesizer(next(iter(fixed_maps)), seed=config.seed)
    model = build(config, synthesizer)
    if config.initial is not None and not folder.steps:
        transfer_weights(model.encoder, load_encoder(config.initial))

    def data(share):
        maps = label_maps(share.examples(folder.steps, config.batch_size))
        keys = share.turns(folder.steps).map(
            lambda step, part: share.key(key_of(config.seed, 1, step), part)
        )
        return tf.data.Dataset.zip((maps.batch(config.batch_size), keys)).prefetch(2)

    folder.fit(
        model,
        data,
        [
            SaveEncoder(folder.out / ENCODER_FILE),
            FeaturePictures(folder.out / LOG_FOLDER / "pictures", tf.concat(fixed_pair, 0)),
            *callbacks,
        ],
        verbose,
    )


def build_model(config: TrainingConfig, synthesizer: PairSynthesizer | None) -> CIFL:
    """The compiled model of a configuration."""
    with precision_policy(config.precision):
        encoder = build_encoder(
            config.ndim, config.num_features, config.num_filters, config.architecture
        )
    model = CIFL(encoder, synthesizer)
    loss = ContrastiveLoss(
        config.tau_alpha,
        config.tau_beta,
        config.tau_gamma,
        crop=config.loss_crop,
        window=config.window or None,
        both_orders=config.both_orders,
        unsigned=config.unsigned,
    )
    model.compile(cosine_adam(config), loss)
    return model


def untrained_encoder(config: TrainingConfig) -> keras.Model:
    """An encoder with random weights, such as a training starts from, to compare with."""
    keras.utils.set_random_seed(config.seed)
    return build_model(config, None).encoder


def _label_maps(config):
    """What gives label maps by a dataset of their indices, and the number of labels."""
    if config.labels is None:
        num_labels = 16
        draw = partial(shape_maps, config.shape, num_labels, config.scales, seed=config.seed)
        return lambda indices: draw(indices=indices), num_labels
    drawer, num_labels = map_drawer(config.labels, config.shape, seed=config.seed)
    return partial(_mapped, drawer), num_labels


def _mapped(draw, indices):
    return indices.map(draw, num_parallel_calls=tf.data.AUTOTUNE)
