"""How a study divides a dataset and cuts its subjects: the same for every script."""

import dataclasses
import math
from typing import Any

from cifl_tf.datasets.cohorts import Cohort
from cifl_tf.datasets.views import View

PAPER_SIZES = (232, 58, 100)


def split_study(cohort: Cohort, seed: int) -> tuple[Cohort, Cohort, Cohort]:
    """Training, validation and test subjects.

    In the order of the dataset: a quarter tests, an eighth before it (two at least) validates, the
    rest trains. Of 390 or more, 232, 58 and 100 at random, as in the paper (Chua & Dalca).

    Args:
        cohort: all subjects.
        seed: of the choice at random; the same seed keeps the same subjects for testing.

    Raises:
        ValueError: there are fewer than eight subjects, or no labels.
    """
    if len(cohort) < 8 or cohort.num_labels < 2:
        raise ValueError(
            f"there are {len(cohort)} subjects and {len(cohort.label_names)} labels; give a "
            "dataset of eight subjects at least, with labels"
        )
    if len(cohort) >= sum(PAPER_SIZES):
        return cohort.split(PAPER_SIZES, seed)
    names, tested = cohort.names, len(cohort) // 4
    validating = max(2, math.ceil(len(cohort) / 8))  # a pair at least
    start = len(cohort) - tested - validating
    parts = names[:start], names[start : start + validating], names[start + validating :]
    train, validation, test = (cohort.select(part) for part in parts)
    return train, validation, test


def study_view(cohort: Cohort, num_slices: int) -> View:
    """Coronal slices around the thalamus, where it is labelled; else around the middle."""
    thalamus = [name for name in cohort.label_names.values() if name.lower().startswith("tha")]
    return View(2, "coronal", num_slices, thalamus[0] if thalamus else None)


def study_contrasts(cohort: Cohort) -> list[str]:
    """T1w, on which networks are trained, its inversion, and the others of the dataset."""
    return ["T1w", "T1w:inverted", *(name for name in cohort.contrasts if name != "T1w")]


def training_claim(config, train: Cohort, validation: Cohort) -> dict[str, Any]:
    """What a training on subjects depends on, for ``train_in_folder``.

    Args:
        config: dataclass.
        train: subjects.
        validation: other subjects of the same dataset.
    """
    return {
        **dataclasses.asdict(config),
        "data": train.source,
        "segmentation": train.segmentation,
        "train": train.names,
        "validation": validation.names,
        "label_names": train.channel_names,
    }
