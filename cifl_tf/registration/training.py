"""Train a registration network in a folder, on pairs of subjects that share a contrast."""

from functools import partial

from cifl_tf._compat import keras
from cifl_tf.augmentation.intensity import make_intensity_augmentation
from cifl_tf.augmentation.spatial import SpatialAugmentation
from cifl_tf.datasets import Cohort
from cifl_tf.datasets.geometry import cohort_preprocessing
from cifl_tf.datasets.splits import training_claim
from cifl_tf.datasets.stored import training_arrays
from cifl_tf.features.pretrained import load_features
from cifl_tf.images.memory import require_memory
from cifl_tf.models.files import REGISTRATION
from cifl_tf.models.fitting import cosine_adam
from cifl_tf.registration.config import RegistrationConfig
from cifl_tf.registration.data import (
    NUM_SHAPES,
    pair_data,
    shape_pairs,
    synthetic_pairs,
    validation_pairs,
    warn_of_different_spaces,
)
from cifl_tf.registration.loading import REGISTRATION_FILE
from cifl_tf.registration.network import Registration
from cifl_tf.registration.similarity import LocalNCC, MultiScaleMSE
from cifl_tf.synthesis.appearance import Appearance
from cifl_tf.synthesis.pairs import label_painter
from cifl_tf.training.folder import train_in_folder
from cifl_tf.training.progress import Goal

LOSSES = {"mse": keras.losses.MeanSquaredError, "multiscale-mse": MultiScaleMSE, "ncc": LocalNCC}


def train_registration(
    out,
    config: RegistrationConfig,
    train: Cohort,
    validation: Cohort,
    verbose: int | str = "auto",
) -> Registration:
    """Train a registration network in a folder, or go on with it, or load it when it is complete.

    The folder is one of ``train_in_folder`` and holds the network as ``registration.keras``: the
    best so far by ``val_label_dice``, of each validation subject moved onto the next; the last one
    where the validation cohort has no labels, as a similarity does not tell how good a registration
    is.

    Args:
        out: the folder; new, empty, or of the same configuration and subjects.
        config: what to train.
        train: subjects with ``config.contrast``, and labels where ``config.label_weight`` is above
            0; two at least.
        validation: other subjects of the same dataset; two at least.
        verbose: as in ``keras.Model.fit``.

    Raises:
        ValueError: the folder holds something else or damaged files, or another process trains in
            it; the cohorts do not fit the configuration, or the images not into memory; or the
            loss is no finite number.

    Example:
        >>> import cifl_tf as cifl
        >>> from cifl_tf.datasets import virtual_cohort
        >>> cohort = virtual_cohort(4, resolution=6)
        >>> train, validation = cohort.select(cohort.names[:2]), cohort.select(cohort.names[2:])
        >>> config = cifl.RegistrationConfig(
        ...     "intensity", num_slices=1, num_filters=2, num_cascades=1, int_steps=0, steps=1
        ... )
        >>> network = cifl.train_registration("trained", config, train, validation, verbose=0)
        >>> network.shape
        (34, 33)
    """
    for name, cohort in (("training", train), ("validation", validation)):
        if len(cohort) < 2:
            raise ValueError(
                f"the {name} subjects are {list(cohort.names)}, but pairs are of different "
                "subjects; give at least two"
            )
    labelled = config.label_weight > 0 and config.synthetic != "shapes"
    if labelled and train.num_labels < 2:
        raise ValueError(
            f"label_weight is {config.label_weight}, but the subjects have no labels; give 0, or a "
            "dataset with segmentations"
        )
    claim = training_claim(config, train, validation)
    monitor = "val_label_dice" if validation.num_labels > 1 else None
    goal = Goal(REGISTRATION_FILE, REGISTRATION, config.steps, monitor)
    fit = partial(_fit, config=config, train=train, validation=validation, verbose=verbose)
    return train_in_folder(out, claim, goal, fit)


def _fit(folder, config, train, validation, verbose):
    if config.voxel_size is not None:
        train, validation = train.resampled_with(validation, config.voxel_size)
    warn_of_different_spaces(train)
    encoder = load_features(config.encoder, config.ndim)
    keras.utils.set_random_seed(config.seed)
    arrays = partial(training_arrays, config.view, contrast=config.contrast)
    images, labels, names = arrays(train, folder=folder.images("training"))
    network = Registration(
        encoder,
        images.shape[1:-1],
        remappings=config.remappings,
        similarity=config.similarity,
        smoothness=config.smoothness,
        label_weight=config.label_weight,
        int_steps=config.int_steps,
        int_resolution=config.int_resolution,
        num_filters=config.num_filters,
        num_cascades=config.num_cascades,
        preprocessing=cohort_preprocessing(train, config.ndim, config.plane),
    )
    # Of voxelmorph's U-Net at full resolution, one convolution on the way down and two up.
    channels = 2 * network.extract.num_features + 3 * config.num_filters
    require_memory(config.batch_size, network.shape, channels)
    network.compile(cosine_adam(config), LOSSES[config.loss]())
    if config.synthetic is None:
        network.intensity_augmentation = make_intensity_augmentation(
            config.intensity_augmentation, config.random_contrast
        )
        network.intensity_seed = config.seed
    when = {"seed": config.seed, "start": folder.steps}
    pairs = partial(
        pair_data,
        images,
        labels if config.label_weight > 0 else None,
        names,
        train.num_labels,
        config.batch_size,
        SpatialAugmentation() if config.augment else None,
        **when,
    )
    if config.synthetic == "shapes":
        pairs = partial(shape_pairs, network.shape, config.batch_size, **when)

    def data(share):
        if config.synthetic is None:
            return pairs(share=share)
        kinds = {"shapes": (NUM_SHAPES, Appearance()), "subjects": (train.num_labels,)}
        paint = label_painter(network.shape, *kinds[config.synthetic])
        return synthetic_pairs(pairs(share=share), paint, share=share, **when)

    images, labels, names = arrays(validation, folder=folder.images("validation"))
    folder.fit(
        network,
        data,
        [folder.keep_best()],
        verbose,
        validation_data=validation_pairs(
            images,
            labels if folder.goal.monitor else None,
            names,
            validation.num_labels,
            config.batch_size,
        ),
    )
