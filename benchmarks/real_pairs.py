"""Pairs of scans as they come from scanners: how well their brains lie on each other afterwards.

    python benchmarks/real_pairs.py --data folder --out pictures

The table, ``real_pairs.csv`` beside this file if none is given, has the columns ``pair``,
``moving``, ``fixed``, ``stages``, and ``mask``, of the brain of the moving scan where one is known.
Paths lead from ``--data``; ``MNI152`` is the brain of nilearn at 2 mm. Each pair is registered by
`cifl register`. The mask of the moving brain, known or of `cifl strip`, is carried along and
compared with the brain of the fixed scan by `cifl strip`, where the moving scan reaches. Prints a
Markdown table, and writes a picture of each pair.
"""

import argparse
import tempfile
import time
from pathlib import Path

import cifl_tf  # noqa: F401  first: it selects Keras 2 for TensorFlow

import nibabel  # isort: skip
import numpy as np
import pandas as pd
from nilearn.datasets import load_mni152_template
from tqdm import tqdm

from cifl_tf.figures.panels import save_figure
from cifl_tf.figures.registration import registration_figure
from cifl_tf.metrics import dice
from cifl_tf.stripping import brain_of
from cifl_tf.tissues import register_brains
from results_table import add_json_option, show_table

TEMPLATE = "MNI152"


def overlap(found, moving, fixed, mask):
    """Dice of the brain of the moving image, carried along, and of that of the fixed image."""
    whole = nibabel.load(moving)
    known = brain_of(moving).mask_image if mask is None else nibabel.load(mask)
    carried = found.displacement.apply(known, "nearest")
    ones = nibabel.Nifti1Image(np.ones(whole.shape[:3], np.uint8), whole.affine)
    reached = np.asarray(found.displacement.apply(ones, "nearest").dataobj) > 0
    seen = brain_of(fixed).mask & reached
    pair = (np.asarray(carried.dataobj) > 0) & reached, seen
    return dice(*(one.astype(int) for one in pair), [1])[0]


def main(argv=None):
    """Register the pairs, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    beside = Path(__file__).with_suffix(".csv")
    parser.add_argument("--pairs", type=Path, default=beside, help="CSV file")
    parser.add_argument("--data", type=Path, default=Path(), help="folder of the scans")
    parser.add_argument("--out", type=Path, help="folder for pictures")
    add_json_option(parser)
    args = parser.parse_args(argv)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder) / "MNI152.nii.gz"
        load_mni152_template(resolution=2).to_filename(template)

        def located(name):
            return template if name == TEMPLATE else args.data / name

        for row in tqdm(pd.read_csv(args.pairs).to_dict("records"), unit="pair", disable=None):
            moving, fixed = located(row["moving"]), located(row["fixed"])
            mask = row.get("mask")
            start = time.process_time()
            found = register_brains(moving, fixed, stages=row["stages"].split("+"))
            seconds = time.process_time() - start
            known = args.data / mask if isinstance(mask, str) else None
            rows.append(
                {
                    "pair": row["pair"],
                    "stages": row["stages"].replace("+", ", "),
                    "Dice of the brains": f"{overlap(found, moving, fixed, known):.3f}",
                    "similarity": " to ".join(
                        f"{found.report[f'similarity {when}']:.2f}"
                        for when in ("before", "after the matrix")
                    ),
                    "processor s": f"{seconds:.0f}",
                    "warnings": len(found.warnings),
                }
            )
            if args.out:
                name = row["pair"].replace(" ", "_").replace("/", "_")
                save_figure(registration_figure(found.views), args.out / f"{name}.png")
    table = pd.DataFrame(rows)
    show_table(table, args.json)


if __name__ == "__main__":
    main()
