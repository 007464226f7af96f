"""Segmenters of few labeled scans: features, intensities, both, and synthesized images.

Each is trained on the T1w slices of 1, 2, 5, and 10 NiChart subjects, with the same steps and
options, and scored in T1w, inverted T1w, and FLAIR:

    python benchmarks/few_shot.py --data nichart --out few_shot
    python benchmarks/few_shot.py --data nichart --out few_shot --counts 1,2 --seeds 0,1

Prints a Markdown table of the mean Dice over labels and test subjects. Two more subjects choose the
best epoch, and four test. Trainings and scores are kept in `--out`: a further run goes on. A seed
is also the first of the subjects that train, in the order of their names.
"""

import argparse
import itertools
from pathlib import Path

import cifl_tf  # noqa: F401  isort: skip  (first: it selects Keras 2 for TensorFlow)
import pandas as pd

from cifl_tf.datasets.catalog import load_cohort
from cifl_tf.segmentation.config import SegmentationConfig
from nichart_trainings import RANDOM_CONTRAST, VIEW, folder_name, kept, scored, trainable, trained
from results_table import add_json_option, show_table

COPIES = 160  # augmented, of the slices of all subjects together, per slice of one
METHODS = {
    "features": {"encoder": "shapes-2d-v2", "random_contrast": RANDOM_CONTRAST},
    "intensities": {"encoder": "intensity", "random_contrast": RANDOM_CONTRAST},
    "features and image": {
        "encoder": "shapes-2d-v2",
        "with_image": True,
        "random_contrast": RANDOM_CONTRAST,
    },
    "synthesized images": {"encoder": "intensity", "synthetic": True},
}


def main(argv=None):
    """Train, test, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of NiChart")
    parser.add_argument("--out", type=Path, required=True, help="folder of trainings and scores")
    parser.add_argument("--counts", default="1,2,5,10", help="of subjects, with commas between")
    parser.add_argument("--seeds", default="0", help="with commas between")
    parser.add_argument("--steps", type=int, default=1000, help="of each training")
    add_json_option(parser)
    args = parser.parse_args(argv)
    cohort = load_cohort(args.data, 2, needed=["T1w", "FLAIR"])
    counts, seeds = ([int(one) for one in text.split(",")] for text in (args.counts, args.seeds))
    rows = []
    for count, seed, method in itertools.product(counts, seeds, METHODS):
        out = args.out / folder_name(f"{method} {count}", seed)
        found = scores_of(cohort, method, count, seed, args.steps, out)
        rows.append({"subjects": count, "method": method, **found})
    means = pd.DataFrame(rows).groupby(["subjects", "method"], sort=False).mean().round(3)
    show_table(means.astype(str).reset_index(), args.json)


def scores_of(cohort, method, count, seed, steps, out):
    """Mean Dice of one segmenter in every contrast; trained and scored if that is not done."""
    names = trainable(cohort)
    train = [names[(seed + index) % len(names)] for index in range(count)]
    config = SegmentationConfig(
        steps=steps,
        seed=seed,
        flip_axis=0,
        cached_copies=COPIES // count,
        **METHODS[method],
        **VIEW,
    )
    return kept(
        out.with_suffix(".json"), lambda: scored(trained(out, config, cohort, train), cohort)
    )


if __name__ == "__main__":
    main()
