"""The three trainings, so small that a test can make several of each."""

import dataclasses
from collections.abc import Callable
from functools import lru_cache

from cifl_tf.datasets import virtual_cohort
from cifl_tf.features.config import TrainingConfig
from cifl_tf.features.training import ENCODER_FILE, train
from cifl_tf.models.files import ENCODER, REGISTRATION, SEGMENTER
from cifl_tf.registration.config import RegistrationConfig
from cifl_tf.registration.loading import REGISTRATION_FILE
from cifl_tf.registration.training import train_registration
from cifl_tf.segmentation.config import SegmentationConfig
from cifl_tf.segmentation.loading import SEGMENTER_FILE
from cifl_tf.segmentation.training import MONITOR, train_segmenter
from cifl_tf.training.progress import Goal

STEPS, STEPS_PER_EPOCH = 6, 2
TINY = {"shape": (24, 24), "num_features": 3, "num_filters": 2, "batch_size": 2}
SMALL = {"encoder": "intensity", "num_slices": 2, "num_filters": 2, "batch_size": 2}
VARIED = {"random_contrast": 0.5, "learning_rate": 0.01}


@dataclasses.dataclass(frozen=True)
class Tiny:
    """One kind of training: its configuration, and the function that trains in a folder."""

    config: object
    goal: Goal
    fit: Callable

    def __call__(self, folder, **changes):
        """Train in a folder, with other values in the configuration."""
        return self.fit(folder, dataclasses.replace(self.config, **changes))


@lru_cache(maxsize=1)
def cohorts():
    """Two subjects to train on, and two others."""
    cohort = virtual_cohort(4, seed=0, resolution=6)
    return cohort.select(cohort.names[:2]), cohort.select(cohort.names[2:])


def _segmenter(folder, config):
    return train_segmenter(folder, config, *cohorts(), verbose=0)


def _segmentation(**changes):
    config = SegmentationConfig(**SMALL, **VARIED, steps=STEPS, flip_axis=0, **changes)
    return Tiny(
        config, Goal(SEGMENTER_FILE, SEGMENTER, STEPS, MONITOR, config.patience), _segmenter
    )


TRAININGS = {
    "encoder": Tiny(
        TrainingConfig(**TINY, steps=STEPS),
        Goal(ENCODER_FILE, ENCODER, STEPS),
        lambda folder, config: train(folder, config, verbose=0),
    ),
    "segmenter": _segmentation(),
    "segmenter of patches of copies": _segmentation(cached_copies=2, patch=16),
    "registration": Tiny(
        RegistrationConfig(
            **SMALL, **VARIED, steps=STEPS, int_steps=1, num_cascades=1, label_weight=0.5
        ),
        Goal(REGISTRATION_FILE, REGISTRATION, STEPS, "val_label_dice"),
        lambda folder, config: train_registration(folder, config, *cohorts(), verbose=0),
    ),
}
