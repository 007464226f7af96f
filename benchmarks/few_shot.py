"""Segmenters of few labeled scans: features, intensities, both, and synthesized images.

Each is trained on the T1w slices of 1, 2, 5, and 10 NiChart subjects, with the same steps and
options, and tested in T1w, inverted T1w, and FLAIR:

    python benchmarks/few_shot.py --data nichart --out few_shot
    python benchmarks/few_shot.py --data nichart --out few_shot --counts 1,2 --seeds 0,1

Prints a Markdown table of the mean Dice over labels and test subjects. Two more subjects choose the
best epoch, and four test. Trainings and scores are kept in `--out`: a further run goes on. A seed
is also the first of the subjects that train, in the order of their names.
"""

import argparse
import itertools
import json
from pathlib import Path

import cifl_tf as cifl  # first: it selects Keras 2 for TensorFlow

import pandas as pd  # isort: skip

from cifl_tf.datasets import View
from cifl_tf.datasets.catalog import load_cohort
from cifl_tf.evaluation.scores import segmentation_scores
from cifl_tf.evaluation.summary import summary
from cifl_tf.images.atomic import atomic_path
from cifl_tf.segmentation.config import SegmentationConfig
from results_table import add_json_option, show_table

CONTRASTS = ("T1w", "T1w:inverted", "FLAIR")
CHOOSE = ("sub-11", "sub-12")
TEST = ("sub-13", "sub-14", "sub-15", "sub-16")
COPIES = 160  # augmented, of the slices of all subjects together, per slice of one
METHODS = {
    "features": {"encoder": "shapes-2d-v2", "random_contrast": 0.25},
    "intensities": {"encoder": "intensity", "random_contrast": 0.25},
    "features and image": {
        "encoder": "shapes-2d-v2",
        "with_image": True,
        "random_contrast": 0.25,
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
        name = f"{method.replace(' ', '-')}-{count}-seed-{seed}"
        found = scores_of(cohort, method, count, seed, args.steps, args.out / name)
        rows.append({"subjects": count, "method": method, **found})
    means = pd.DataFrame(rows).groupby(["subjects", "method"], sort=False).mean().round(3)
    show_table(means.astype(str).reset_index(), args.json)


def scores_of(cohort, method, count, seed, steps, out):
    """Mean Dice of one segmenter in every contrast; trained and tested if that is not done."""
    file = out.with_suffix(".json")
    if file.exists():
        return json.loads(file.read_text())
    names = [name for name in cohort.names if name not in CHOOSE + TEST]
    train = [names[(seed + index) % len(names)] for index in range(count)]
    view = View(2, "coronal", 9, "THA")
    config = SegmentationConfig(
        steps=steps,
        seed=seed,
        flip_axis=0,
        cached_copies=COPIES // count,
        **METHODS[method],
        **view,
    )
    segmenter = cifl.train_segmenter(out, config, cohort.select(train), cohort.select(CHOOSE))
    found = summary(
        segmentation_scores(segmenter.predict_on_batch, cohort.select(TEST), CONTRASTS, **view)
    )
    scores = {contrast: found[contrast]["dice"]["mean"] for contrast in CONTRASTS}
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps(scores))
    return scores


if __name__ == "__main__":
    main()
