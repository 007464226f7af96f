"""Segmentation and registration of slices, with the chance of encoders and trainings.

Every seed has random weights of its own and, on each encoder, a U-Net of its own. Encoders of the
recipe of `shapes-2d-v2` are trained with each seed; seed 0 is the one that ships:

    python benchmarks/slice_seeds.py --data nichart --out seeds

Prints Markdown: mean Dice over labels and test subjects, or over their ordered pairs, as mean and
SD over seeds; of segmentation also with borders by intensities. Registration by optimization has no
chance but that of the encoder. Networks on intensities that were trained on each contrast itself,
the ceiling, have one seed. Trainings and scores are kept in `--out`: a further run goes on.
"""

import argparse
import dataclasses
import itertools
from functools import partial
from pathlib import Path

import cifl_tf as cifl  # first: it selects Keras 2 for TensorFlow

import pandas as pd  # isort: skip

from cifl_tf.datasets.catalog import load_cohort
from cifl_tf.evaluation.scores import registration_scores
from cifl_tf.features.config import TrainingConfig
from cifl_tf.features.mind import build_mind_ssc
from cifl_tf.features.pretrained import load_features
from cifl_tf.features.training import train, untrained_encoder
from cifl_tf.metrics import format_mean_sd, mean_and_sd
from cifl_tf.segmentation.config import SegmentationConfig
from nichart_trainings import (
    CEILING,
    CONTRASTS,
    RANDOM_CONTRAST,
    TEST,
    VIEW,
    ceiling,
    folder_name,
    kept,
    mean_dice,
    saved,
    scored,
    trainable,
    trained,
)
from results_table import add_json_option, show_table

SHIPPED = "shapes-2d-v2"  # by the recipe below, with seed 0
RECIPE = TrainingConfig(steps=100, window=40, num_features=32, scales=(2, 4, 8, 16), unsigned=True)
BORDERS, REGISTRATION = "segmentation, borders by intensities", "registration"
TASKS = ("segmentation", BORDERS, REGISTRATION)
BY_CHANCE = ("untrained", f"recipe of {SHIPPED}")
ENCODERS = ("intensities", "MIND-SSC", *BY_CHANCE, CEILING)


def main(argv=None):
    """Train, test, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of NiChart")
    parser.add_argument("--out", type=Path, required=True, help="folder of trainings and scores")
    parser.add_argument("--seeds", default="0,1,2", help="with commas between")
    parser.add_argument("--steps", type=int, default=2500, help="of each U-Net")
    add_json_option(parser)
    args = parser.parse_args(argv)
    cohort = load_cohort(args.data, 2, needed=["T1w", "FLAIR"])
    rows = []
    seeds = [int(one) for one in args.seeds.split(",")]
    for task, seed, name in itertools.product(TASKS, seeds, ENCODERS):
        if not has_row(task, name, first=seed == seeds[0]):
            continue
        folder = args.out / folder_name(name, seed)
        found = kept(
            folder / f"{task.split()[-1]}.json",
            partial(scores, task, cohort, folder, name, seed, args.steps),
        )
        rows.append({"task": task, "encoder": name, **found})
    means = pd.DataFrame(rows).groupby(["task", "encoder"], sort=False)
    table = means.agg(lambda values: format_mean_sd(*mean_and_sd(values), 3))
    show_table(table.reset_index(), args.json)


def has_row(task: str, name: str, first: bool) -> bool:
    """Whether an encoder is scored in a task, with the first or a further seed."""
    if name == CEILING:
        return first and task != REGISTRATION
    return first or task != REGISTRATION or name in BY_CHANCE


def encoder_of(name: str, seed: int, folder: Path) -> str:
    """File or name of an encoder, or 'intensity'."""
    if name in ("intensities", CEILING):
        return "intensity"
    if name.endswith(SHIPPED):
        if seed == 0:
            return SHIPPED
        train(folder / "encoder", dataclasses.replace(RECIPE, seed=seed))
        return str(folder / "encoder")
    untrained = partial(untrained_encoder, dataclasses.replace(RECIPE, seed=seed))
    return saved(folder / "encoder.keras", build_mind_ssc if name == "MIND-SSC" else untrained)


def scores(task: str, cohort, folder: Path, name: str, seed: int, steps: int):
    """Mean Dice by contrast: of a U-Net on the features of T1w, or of pairs that are optimized."""
    encoder = encoder_of(name, seed, folder)
    if task == REGISTRATION:
        method = cifl.InstanceMethod(load_features(encoder, 2), ndim=2)
        rows = registration_scores(
            method.displace, cohort.select(TEST), "T1w", CONTRASTS, **VIEW, hd95=False
        )
        return mean_dice(rows)
    config = SegmentationConfig(
        encoder,
        steps=steps,
        seed=seed,
        random_contrast=RANDOM_CONTRAST,
        flip_axis=0,
        zoom_factors=(1.2,),
        patience=100,
        cached_copies=16,
        **VIEW,
    )
    if name == CEILING:
        return ceiling(folder, config, cohort, refined=task == BORDERS)
    segmenter = trained(folder / "segmenter", config, cohort, trainable(cohort))
    return scored(segmenter, cohort, refined=task == BORDERS)


if __name__ == "__main__":
    main()
