"""Train a segmenter in a folder, and apply it to image files."""

import re
from functools import partial

from cifl_tf._compat import keras
from cifl_tf.augmentation.intensity import make_intensity_augmentation
from cifl_tf.augmentation.spatial import SpatialAugmentation
from cifl_tf.augmentation.stripping import RandomStrip
from cifl_tf.augmentation.test_time import average_over_copies
from cifl_tf.datasets import Cohort
from cifl_tf.datasets.geometry import cohort_preprocessing
from cifl_tf.datasets.splits import training_claim
from cifl_tf.datasets.stored import batches
from cifl_tf.features.pretrained import load_features
from cifl_tf.images.atomic import expanded
from cifl_tf.images.memory import require_memory
from cifl_tf.models.files import SEGMENTER
from cifl_tf.models.fitting import cosine_adam
from cifl_tf.segmentation.config import SegmentationConfig
from cifl_tf.segmentation.data import (
    _coverage,
    cache_features,
    cohort_arrays,
    training_data,
    validation_data,
)
from cifl_tf.segmentation.loading import SEGMENTER_FILE, as_segmenter
from cifl_tf.segmentation.losses import MeanDice, SegmentationLoss
from cifl_tf.segmentation.network import build_segmenter, without_features
from cifl_tf.segmentation.segmenter import Segmenter
from cifl_tf.synthesis.pairs import label_painter
from cifl_tf.training.folder import train_in_folder
from cifl_tf.training.progress import Goal

MONITOR = "val_dice"
SIDE = re.compile(r"left|right|\bl\b|\br\b", re.IGNORECASE)
OTHER_SIDE = {"left": "right", "right": "left", "l": "r", "r": "l"}


def train_segmenter(
    out,
    config: SegmentationConfig,
    train: Cohort,
    validation: Cohort,
    verbose: int | str = "auto",
) -> keras.Model:
    """Train a segmenter in a folder, or go on with it, or load it when it is complete.

    The folder is one of ``train_in_folder`` and holds the best model so far, by validation Dice
    without test-time augmentation, as ``segmenter.keras``.

    Args:
        out: the folder; new, empty, or of the same configuration and subjects.
        config: what to train.
        train: subjects with ``config.contrast`` and labels.
        validation: other subjects of the same dataset.
        verbose: as in ``keras.Model.fit``.

    Raises:
        ValueError: the folder holds something else or damaged files, or another process trains in
            it; the cohorts do not fit the configuration, or the images not into memory; or the
            loss is no finite number.

    Example:
        >>> import cifl_tf as cifl
        >>> from cifl_tf.datasets import virtual_cohort
        >>> cohort = virtual_cohort(2, resolution=6)
        >>> train, validation = cohort.select(cohort.names[:1]), cohort.select(cohort.names[1:])
        >>> config = cifl.SegmentationConfig("intensity", num_slices=1, num_filters=2, steps=1)
        >>> segmenter = cifl.train_segmenter("trained", config, train, validation, verbose=0)
        >>> segmenter.label_names
        ('background', 'WM', 'GM', 'CSF', 'THA')
    """
    if config.flip_axis is not None:
        _check_sides(train.label_names.values())
    claim = {
        **training_claim(config, train, validation),
        "label_values": train.label_values,
    }
    goal = Goal(SEGMENTER_FILE, SEGMENTER, config.steps, MONITOR, config.patience)
    fit = partial(_fit, config=config, train=train, validation=validation, verbose=verbose)
    return as_segmenter(train_in_folder(out, claim, goal, fit), expanded(out))


def _check_sides(names):
    """Raise ValueError if labels tell left from right, which a mirror image exchanges."""
    turned = {name: SIDE.sub(lambda side: OTHER_SIDE[side[0].lower()], name) for name in names}
    lower = {name.lower() for name in names}
    for name, other in turned.items():
        if other != name and other.lower() in lower:
            raise ValueError(
                f"the labels {name} and {other} tell left from right, which mirror images do not; "
                "leave out --flip (flip_axis in Python)"
            )


def _fit(folder, config, train, validation, verbose):
    if config.voxel_size is not None:
        train, validation = train.resampled_with(validation, config.voxel_size)
    encoder = load_features(config.encoder, config.ndim)
    keras.utils.set_random_seed(config.seed)
    segmenter = build_segmenter(
        encoder,
        train.num_labels,
        config.ndim,
        config.num_filters,
        remappings=config.remappings,
        batch_norm=bool(config.batch_norm),
        with_image=config.with_image,
    )
    images, labels = cohort_arrays(train, config.contrast, config, folder.images("training"))
    held_out = cohort_arrays(validation, config.contrast, config, folder.images("validation"))
    shape = images.shape[1:-1]
    fitted_shape = shape if config.patch is None else (config.patch,) * config.ndim
    intensity = make_intensity_augmentation(config.intensity_augmentation, config.random_contrast)
    num_features = segmenter.get_layer("features").num_features
    # Of neurite's U-Net at full resolution, two convolutions on the way down and two up.
    require_memory(config.batch_size, fitted_shape, num_features + 4 * config.num_filters)
    # Copies are encoded whole, and patches cut from their features.
    painted = shape if config.cached_copies is not None else fitted_shape
    vary = partial(
        training_data,
        images,
        labels,
        augmentation=SpatialAugmentation(flip_axis=config.flip_axis),
        intensity=None if config.synthetic else intensity,
        seed=config.seed,
        strip=RandomStrip(config.random_strip) if config.random_strip else None,
        render=label_painter(painted, train.num_labels) if config.synthetic else None,
    )
    if config.cached_copies is None:
        fitted = segmenter
        data = partial(vary, config.batch_size, patch=config.patch, start=folder.steps)
    else:
        fitted = without_features(segmenter)
        encode = partial(cache_features, segmenter.get_layer("features"), quiet=verbose == 0)
        copies = config.cached_copies * len(images)
        data = partial(
            training_data,
            *encode(vary(batch_size=1), copies, folder.images("copies")),
            config.batch_size,
            seed=config.seed,
            patch=config.patch,
            start=folder.steps,
        )
        held_out = encode(batches(*held_out, 1), len(held_out[0]), folder.images("held-out"))
    fitted.compile(cosine_adam(config), SegmentationLoss(), metrics=[MeanDice(train.num_labels)])
    product = Segmenter(
        average_over_copies(segmenter, config.flip_axis, config.zoom_factors),
        cohort_preprocessing(train, config.ndim, config.plane),
        train.channel_names,
        train.label_values,
        _coverage(train, config),
        name="segmenter",
    )
    folder.fit(
        fitted,
        data,
        [folder.keep_best(product)],
        verbose,
        # Whole volumes, or large tiles where training sees patches.
        validation_data=validation_data(
            *held_out,
            1 if config.ndim == 3 else config.batch_size,
            tiled=config.patch is not None,
        ),
    )
