"""What trainings on NiChart share: who chooses, who tests, ceilings, and scores kept in files."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import cifl_tf as cifl  # first: it selects Keras 2 for TensorFlow
from cifl_tf._compat import keras
from cifl_tf.datasets import Cohort, View
from cifl_tf.evaluation.scores import segmentation_scores
from cifl_tf.evaluation.summary import summary
from cifl_tf.images.atomic import atomic_path
from cifl_tf.segmentation.config import SegmentationConfig

CONTRASTS = ("T1w", "T1w:inverted", "FLAIR")
CHOOSE = ("sub-11", "sub-12")
TEST = ("sub-13", "sub-14", "sub-15", "sub-16")
VIEW = View(2, "coronal", 9, "THA")
RANDOM_CONTRAST = 0.25  # share of the training images
CEILING = "intensities, of each contrast"  # the method of ``ceiling`` in a table


def trainable(cohort: Cohort) -> list[str]:
    """Names of the subjects that neither choose nor test."""
    return [name for name in cohort.names if name not in CHOOSE + TEST]


def trained(out: Path, config: SegmentationConfig, cohort: Cohort, names) -> cifl.Segmenter:
    """A segmenter of some subjects, whose best epoch the choosing ones decided."""
    return cifl.train_segmenter(out, config, cohort.select(names), cohort.select(CHOOSE))


def scored(
    segmenter: cifl.Segmenter,
    cohort: Cohort,
    refined: bool = False,
    contrasts: Sequence[str] = CONTRASTS,
    view: View = VIEW,
    subjects: Sequence[str] = TEST,
) -> dict[str, float]:
    """Mean Dice over labels and subjects, by contrast.

    Args:
        segmenter: a trained one.
        cohort: all subjects.
        refined: with borders by the intensities of the scan.
        contrasts, view, subjects: what is scored.
    """
    rows = segmentation_scores(
        segmenter.predict_on_batch, cohort.select(subjects), contrasts, **view, refined=refined
    )
    return mean_dice(rows)


def ceiling(out: Path, config: SegmentationConfig, cohort: Cohort, **options) -> dict[str, float]:
    """Mean Dice by contrast, each of a segmenter that was trained on images of this contrast.

    Args:
        out: folder of the trainings.
        config: of intensities; the contrast and random contrasts are changed.
        cohort: all subjects.
        options: of ``scored``.
    """
    found = {}
    for contrast in CONTRASTS:
        own = dataclasses.replace(config, contrast=contrast, random_contrast=0.0)
        folder = out / contrast.replace(":", "-")
        segmenter = trained(folder, own, cohort, trainable(cohort))
        found |= scored(segmenter, cohort, contrasts=[contrast], **options)
    return found


def mean_dice(rows) -> dict[str, float]:
    """Mean Dice by contrast, of the rows of ``segmentation_scores`` or ``registration_scores``."""
    found = summary(rows)
    return {
        contrast.removeprefix("T1w to "): numbers["dice"]["mean"]
        for contrast, numbers in found.items()
    }


def folder_name(method: str, seed: int) -> str:
    """Where the trainings and scores of a method are."""
    return f"{method.replace(',', '').replace(' ', '-')}-seed-{seed}"


def saved(file: Path, make: Callable[[], keras.Model]) -> str:
    """The file of an encoder, which is made and saved if it is not there."""
    if not file.exists():
        with atomic_path(file) as temporary:
            make().save(temporary)
    return str(file)


def kept(file: Path, make: Callable[[], dict]) -> dict:
    """Scores of a file, which are made and written if it is not there."""
    if not file.exists():
        scores = make()
        with atomic_path(file) as temporary:
            temporary.write_text(json.dumps(scores))
    return json.loads(file.read_text())
