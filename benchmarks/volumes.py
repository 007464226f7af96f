"""Segmentation of whole volumes of NiChart by features, intensities, and networks of each contrast.

All U-Nets have the same options: patches of T1w volumes, of which a quarter has a random contrast,
and the mean over mirrored and zoomed copies. *With rims lost*, half of the training images lose
what lies beyond the labels (`--random-strip 0.5`). *Of each contrast* are networks on intensities
that were trained on the contrast itself: the ceiling.

    python benchmarks/volumes.py --data nichart --out volumes

Prints Markdown: mean Dice over labels and subjects, by the network and with borders by the
intensities of the scan. Trainings and scores are kept in `--out`: a further run goes on.
"""

import argparse
from functools import partial
from pathlib import Path

import cifl_tf as cifl  # first: it selects Keras 2 for TensorFlow

import pandas as pd  # isort: skip

from cifl_tf.datasets import View
from cifl_tf.datasets.catalog import load_cohort
from cifl_tf.features.config import TrainingConfig
from cifl_tf.features.training import untrained_encoder
from nichart_trainings import (
    CEILING,
    CHOOSE,
    RANDOM_CONTRAST,
    TEST,
    ceiling,
    folder_name,
    kept,
    saved,
    scored,
    trainable,
    trained,
)
from results_table import add_json_option, show_table

SHIPPED, UNTRAINED = "shapes-3d-v2", "untrained"
ENCODERS = (SHIPPED, UNTRAINED, "intensities")
RIMS = ", with rims lost"
METHODS = (*ENCODERS, *(name + RIMS for name in ENCODERS), CEILING)
SUBJECTS = {"choose": CHOOSE, "test": TEST}
VIEW = View(3)


def main(argv=None):
    """Train, score, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of NiChart")
    parser.add_argument("--out", type=Path, required=True, help="folder of trainings and scores")
    parser.add_argument("--subjects", choices=[*SUBJECTS], default="test", help="whose scores")
    parser.add_argument(
        "--method", action="append", choices=METHODS, help="may be repeated; all without"
    )
    parser.add_argument("--steps", type=int, default=1500, help="of each U-Net")
    parser.add_argument("--seed", type=int, default=0)
    add_json_option(parser)
    args = parser.parse_args(argv)
    cohort = load_cohort(args.data, 3, needed=["T1w", "FLAIR"])
    rows = []
    for method in args.method or METHODS:
        folder = args.out / folder_name(method, args.seed)
        for refined in (False, True):
            borders = "intensities" if refined else "network"
            options = {"refined": refined, "view": VIEW, "subjects": SUBJECTS[args.subjects]}
            make = partial(scores, method, folder, cohort, args.steps, args.seed, options)
            found = kept(folder / f"{args.subjects}-{borders}.json", make)
            rows.append({"method": method, "borders": borders, **found})
    show_table(pd.DataFrame(rows).round(3).astype(str), args.json)


def scores(method: str, folder: Path, cohort, steps: int, seed: int, options: dict):
    """Mean Dice by contrast of a method that is trained in a folder."""
    config = cifl.SegmentationConfig(
        encoder_of(method.removesuffix(RIMS), folder, seed),
        steps=steps,
        seed=seed,
        random_contrast=RANDOM_CONTRAST,
        random_strip=0.5 if method.endswith(RIMS) else 0.0,
        flip_axis=0,
        zoom_factors=(1.2,),
        patience=100,
        cached_copies=6,
        patch=64,
        batch_size=1,
        **VIEW,
    )
    if method == CEILING:
        return ceiling(folder, config, cohort, **options)
    segmenter = trained(folder / "segmenter", config, cohort, trainable(cohort))
    return scored(segmenter, cohort, **options)


def encoder_of(name: str, folder: Path, seed: int) -> str:
    """File or name of an encoder, or 'intensity'."""
    if name == UNTRAINED:
        config = TrainingConfig(ndim=3, num_features=32, seed=seed)
        return saved(folder / "encoder.keras", partial(untrained_encoder, config))
    return name if name == SHIPPED else "intensity"


if __name__ == "__main__":
    main()
