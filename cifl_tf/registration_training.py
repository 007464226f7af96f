"""Train a registration network in a folder, on pairs of subjects that share a contrast."""

import dataclasses
from typing import Literal, get_args

import numpy as np
import tensorflow as tf
from nibabel.affines import voxel_sizes

from cifl_tf._compat import keras
from cifl_tf.augmentation import SpatialAugmentation, intensity_augmentation
from cifl_tf.callbacks import KeepBest
from cifl_tf.checks import COUNT, NDIM, POSITIVE, SEED, check_choice, check_fields, check_given
from cifl_tf.datasets import Cohort, stack_cohort
from cifl_tf.datasets.geometry import cohort_preprocessing
from cifl_tf.files import expanded
from cifl_tf.frozen_features import checked_ensemble
from cifl_tf.model_files import REGISTRATION, load_network
from cifl_tf.notes import note
from cifl_tf.pretrained import load_features
from cifl_tf.random_keys import key_of
from cifl_tf.registration import RegistrationNetwork, check_settings
from cifl_tf.similarity import LocalNCC, MultiScaleMSE
from cifl_tf.training_folder import (
    CONFIG_FILE,
    check_folder,
    claim_folder,
    cosine_adam,
    fit_in_folder,
    read_config,
    require_memory,
)
from cifl_tf.training_progress import HISTORY_FILE, Goal, read_progress
from cifl_tf.volumes import PLANES

REGISTRATION_FILE = "registration.keras"
SimilarityName = Literal["image", "features"]
LossName = Literal["mse", "multiscale-mse", "ncc"]
LOSSES = {"mse": keras.losses.MeanSquaredError, "multiscale-mse": MultiScaleMSE, "ncc": LocalNCC}


@dataclasses.dataclass(frozen=True)
class RegistrationConfig:
    """What a registration network is trained with.

    Attributes:
        model: folder or .keras file of the encoder, or "intensity" for the paper's baseline.
        contrast: the one contrast to train on, such as "T1w"; see ``Subject.image``.
        ndim: 2 for slices, 3 for volumes.
        voxel_size: in mm, to which the images of both cohorts are resampled, see
            ``Cohort.resampled``; None for their own, which must be the same then.
        plane: of the slices.
        num_slices: slices per subject; slice i of one is registered to slice i of another.
        around: name of the label on which the slices are centred; None for the middle.
        ensemble: see ``FrozenFeatures``.
        similarity: what the loss compares, "image" or "features"; see ``RegistrationNetwork``.
        loss: how: "mse", "multiscale-mse" (``MultiScaleMSE``) or "ncc" (``LocalNCC``).
        smoothness: see ``RegistrationNetwork``, as for the next three.
        label_weight: 0 trains without labels.
        int_steps: squarings that integrate the velocity.
        int_resolution: voxel size of the velocity, in voxels.
        num_filters: channels of the U-Net at full resolution.
        passes: how many times the network is applied; see ``RegistrationNetwork``.
        steps: optimisation steps.
        batch_size: pairs per step; 0 for 6 of slices, or 1 of volumes.
        learning_rate: of Adam at the start; it falls to zero along a cosine.
        augment: deform both images of a pair in one random way; see ``SpatialAugmentation``. In a
            way each, it would ask for larger warps than subjects need, and trained worse.
        vary_intensity: change the intensities that the network sees, of each image in its own way,
            see ``IntensityAugmentation``; the loss compares the images as they are.
        remapped: share of the images that get a random contrast, also where nothing else varies.
        seed: of weights, order and augmentation.

    Raises:
        ValueError: there is no such loss, similarity or plane, or the ensemble names what there is
            not, or something twice; ``remapped`` is no share, a weight is negative, or another
            number is not positive, finite or whole.
    """

    model: str
    contrast: str = "T1w"
    ndim: int = 2
    voxel_size: float | None = None
    plane: str = "coronal"
    num_slices: int = 9
    around: str | None = None
    ensemble: tuple[str, ...] = ("inverted",)
    similarity: SimilarityName = "image"
    loss: LossName = "mse"
    smoothness: float = 0.02
    label_weight: float = 0.0
    int_steps: int = 7
    int_resolution: int = 2
    num_filters: int = 16
    passes: int = 2
    steps: int = 1500
    batch_size: int = 0
    learning_rate: float = 1e-3
    augment: bool = True
    vary_intensity: bool = True
    remapped: float = 0.0
    seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "ensemble", checked_ensemble(self.ensemble))
        intensity_augmentation(self.vary_intensity, self.remapped)  # refuses what is no share
        check_fields(self, ndim=NDIM)
        check_choice("plane", self.plane, [*PLANES])
        check_choice("loss", self.loss, get_args(LossName))
        if self.batch_size == 0:
            object.__setattr__(self, "batch_size", 6 if self.ndim == 2 else 1)
        counts = ("num_slices", "steps", "batch_size")
        check_fields(self, learning_rate=POSITIVE, seed=SEED, **dict.fromkeys(counts, COUNT))
        check_given(self, voxel_size=POSITIVE)
        check_settings(self)


def train_registration(
    out,
    config: RegistrationConfig,
    train: Cohort,
    validation: Cohort,
    verbose: int | str = "auto",
) -> RegistrationNetwork:
    """Train a registration network in a folder, or go on with it, or load it when it is complete.

    The folder is one of ``fit_in_folder`` and holds the network as ``registration.keras``: the best
    so far by ``val_label_dice``, of each validation subject moved onto the next; the last one where
    the validation cohort has no labels, as a similarity does not tell how good a registration is.

    Args:
        out: the folder; new, empty, or of the same configuration and subjects.
        config: what to train.
        train: subjects with ``config.contrast``, and labels where ``config.label_weight`` is above
            0; two at least.
        validation: other subjects of the same dataset; two at least.
        verbose: as in ``keras.Model.fit``.

    Raises:
        ValueError: the folder holds something else or damaged files; the cohorts do not fit the
            configuration, or the images not into memory; or the loss is no finite number.
    """
    out = expanded(out)
    for name, cohort in (("training", train), ("validation", validation)):
        if len(cohort) < 2:
            raise ValueError(
                f"the {name} subjects are {list(cohort.names)}, but pairs are of different "
                "subjects; give at least two"
            )
    if config.label_weight > 0 and train.num_labels < 2:
        raise ValueError(
            f"label_weight is {config.label_weight}, but the subjects have no labels; give 0, or a "
            "dataset with segmentations"
        )
    claim = {
        **dataclasses.asdict(config),
        "data": train.source,
        "train": train.names,
        "validation": validation.names,
        "label_names": ["background", *train.label_names.values()],
    }
    check_folder(out, claim)
    monitor = "val_label_dice" if validation.num_labels > 1 else None
    progress = read_progress(out, Goal(REGISTRATION_FILE, REGISTRATION, config.steps, monitor))
    if progress.network is not None:
        return progress.network
    if config.voxel_size is not None:
        train, validation = (cohort.resampled(config.voxel_size) for cohort in (train, validation))
    warn_of_different_spaces(train)
    encoder = load_features(config.model)
    keras.utils.set_random_seed(config.seed)
    images, labels, names = _arrays(train, config)
    network = RegistrationNetwork(
        encoder,
        images.shape[1:-1],
        ensemble=config.ensemble,
        similarity=config.similarity,
        smoothness=config.smoothness,
        label_weight=config.label_weight,
        int_steps=config.int_steps,
        int_resolution=config.int_resolution,
        num_filters=config.num_filters,
        passes=config.passes,
        preprocessing=cohort_preprocessing(train, config.ndim, config.plane),
    )
    # Of voxelmorph's U-Net at full resolution, one convolution on the way down and two up.
    channels = 2 * network.extract.num_features + 3 * config.num_filters
    require_memory(config.batch_size, network.shape, channels)
    network.compile(cosine_adam(config), LOSSES[config.loss]())
    network.look = intensity_augmentation(config.vary_intensity, config.remapped)
    network.look_seed = config.seed
    data = pair_data(
        images,
        labels if config.label_weight > 0 else None,
        names,
        train.num_labels,
        config.batch_size,
        SpatialAugmentation() if config.augment else None,
        seed=config.seed,
        start=progress.steps,
    )
    images, labels, names = _arrays(validation, config)
    claim_folder(out, claim)
    fit_in_folder(
        network,
        data,
        config.steps,
        out,
        [KeepBest(out / REGISTRATION_FILE, out / HISTORY_FILE, monitor)],
        verbose,
        progress,
        validation_data=validation_pairs(
            images, labels if monitor else None, names, validation.num_labels, config.batch_size
        ),
    )
    return load_registration(out)


def load_registration(folder) -> RegistrationNetwork:
    """Load a registration network.

    Args:
        folder: of ``train_registration``, or the file ``registration.keras`` itself. The plane of
            the slices of one from before version 0.2 is in the ``config.json`` beside it.

    Raises:
        ValueError: there is none yet, or the file is damaged.
    """
    path = expanded(folder)
    file = path if path.is_file() else path / REGISTRATION_FILE
    network = load_network(file, REGISTRATION)
    unknown = len(network.shape) == 2 and network.preprocessing.plane is None
    if unknown and (file.parent / CONFIG_FILE).exists():
        plane = read_config(file.parent)["plane"]
        network.preprocessing = network.preprocessing.with_choices(plane)
    return network


def pair_data(
    images: np.ndarray,
    labels: np.ndarray | None,
    names,
    num_labels: int,
    batch_size: int,
    augmentation=None,
    seed: int = 0,
    start: int = 0,
) -> tf.data.Dataset:
    """Endless batches of random ordered pairs of different subjects, for ``fit``.

    A batch depends on its number and the seed only, so that a training can go on anywhere.

    Args:
        images: float32 (n, *spatial, 1), intensities in [0, 1], as many of every subject; image i
            of one is paired with image i of another.
        labels: integers (n, *spatial, 1), or None.
        names: of the subject of each image, (n,).
        num_labels: labels, the background 0 included.
        batch_size: pairs per batch.
        augmentation: a ``SpatialAugmentation`` for both images of a pair alike, or None.
        seed: of order and augmentation.
        start: number of the first batch, to go on where an earlier run ended.

    Returns:
        Elements ``((moving, fixed),)``, or with labels, one-hot, ``((moving, fixed),
        (moving_labels, fixed_labels))``.

    Raises:
        ValueError: fewer than two subjects, or not as many images of each.
    """
    positions = _positions(names)
    offsets = range(1, len(positions))
    pairs = tf.constant(np.concatenate([_moved_onto(positions, offset) for offset in offsets]))

    gather = _gather(images, labels, num_labels, augmentation)

    def draw(step):
        chosen = tf.random.stateless_uniform(
            [batch_size], key_of(seed, 0, step), maxval=len(pairs), dtype=tf.int64
        )
        return gather(tf.gather(pairs, chosen), key_of(seed, 1, step))

    data = tf.data.Dataset.counter(start)
    return data.map(draw, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)


def validation_pairs(
    images: np.ndarray, labels: np.ndarray | None, names, num_labels: int, batch_size: int
) -> tf.data.Dataset:
    """Batches of each subject moved onto the next one, the last onto the first.

    Args:
        images, labels, names, num_labels, batch_size: as for ``pair_data``.

    Returns:
        As ``pair_data``, but each pair once.
    """
    data = tf.data.Dataset.from_tensor_slices(_moved_onto(_positions(names), 1)).batch(batch_size)
    return data.map(_gather(images, labels, num_labels, None)).prefetch(2)


def warn_of_different_spaces(cohort: Cohort) -> None:
    """Warn where subjects do not lie in one space, as pairs are not aligned before."""
    first = cohort.subjects[0]
    size = voxel_sizes(first.affine).max()
    apart = {subject.name: float(np.abs(subject.affine - first.affine).max()) for subject in cohort}
    far = {name: distance for name, distance in apart.items() if distance > size}
    if far:
        names = list(far)
        note(
            f"{len(far)} subjects, such as {names[0]}, do not lie in the space of {first.name}: "
            f"their affines differ by up to {max(far.values()):.0f} mm. Pairs are taken as they "
            "are, not aligned; bring the images to one space first"
        )


def _arrays(cohort, config):
    return stack_cohort(
        cohort, config.contrast, config.ndim, config.plane, config.num_slices, config.around
    )


def _positions(names):
    """Positions (subjects, images per subject) of the images of each subject."""
    subjects = list(dict.fromkeys(names))
    found = [np.flatnonzero(np.asarray(names) == subject) for subject in subjects]
    counts = {len(positions) for positions in found}
    if len(subjects) < 2 or len(counts) > 1:
        raise ValueError(
            f"there are {len(subjects)} subjects with {sorted(counts)} images; give at least two, "
            "with as many images each"
        )
    return np.stack(found)


def _moved_onto(positions, offset):
    """Positions (n, 2) of the images of each subject, and of the one that many further on."""
    return np.stack([positions, np.roll(positions, -offset, axis=0)], axis=-1).reshape(-1, 2)


def _gather(images, labels, num_labels, augmentation):
    """The function from positions (batch, 2), and a seed, to an element of a dataset."""
    images = tf.constant(images)
    labels = None if labels is None else tf.constant(labels)

    def gather(pairs, seed=None):
        # One beside the other as channels, so that both are deformed alike.
        moving, fixed = tf.unstack(pairs, axis=1)
        both = tf.concat([tf.gather(images, moving), tf.gather(images, fixed)], axis=-1)
        # TensorFlow leaves out what nobody asks for: without labels nothing but images is warped.
        maps = tf.zeros_like(both[..., :2])
        if labels is not None:
            maps = tf.concat([tf.gather(labels, moving), tf.gather(labels, fixed)], axis=-1)
        if augmentation is not None:
            both, maps = augmentation(both, maps, seed=seed)
        moving_and_fixed = tuple(tf.split(both, 2, axis=-1))
        if labels is None:
            return (moving_and_fixed,)
        one_hot = tf.one_hot(maps, num_labels)
        return moving_and_fixed, (one_hot[..., 0, :], one_hot[..., 1, :])

    return gather
