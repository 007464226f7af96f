"""Deformable registration of volumes: overlap of tissues and seconds, with SyN as the other.

All ordered pairs of some NiChart subjects, T1w to T1w, to inverted T1w and to FLAIR:

    python benchmarks/deformable_pairs.py --data nichart
    python benchmarks/deformable_pairs.py --data nichart --subjects sub-03,sub-04 --methods features

Prints a Markdown table: the Dice of four tissues before and after, and processor seconds, which
other work on the machine changes little. `tissues` compares the probabilities of `cifl segment`,
whose time counts. Every registration is a row in the file of `--rows`; a further run with this file
leaves out what it holds. SyN is that of ANTsPy with mutual information, with the iterations of
ANTsPy, and with 100, 70, 50 iterations.
"""

import argparse
import itertools
import sys
import time
from pathlib import Path

import cifl_tf as cifl  # first: it selects Keras 2 for TensorFlow

import nibabel  # isort: skip
import numpy as np  # isort: skip
import pandas as pd

from cifl_tf.datasets.catalog import load_cohort
from cifl_tf.metrics import dice
from cifl_tf.metrics.folding import jacobian_determinant
from cifl_tf.registration.deformable import register_deformable
from cifl_tf.registration.stages import FAST
from cifl_tf.registration.syn import register_syn
from results_table import add_json_option, show_table

CONTRASTS = ("T1w", "T1w:inverted", "FLAIR")


def by_features(encoder="shapes-2d-wide"):
    """Registers by features, as `cifl register` does scans that are no brains."""
    encoder = cifl.load_encoder(encoder)
    return lambda *pair: register_deformable(*arrays(pair), encoder)


def by_tissues(settings=None):
    """Registers by tissues, as `cifl register` does brains."""
    segmenter = cifl.load_segmenter("tissues")

    def register(*pair):
        found = [cifl.segment_tissues(image, segmenter, stripped=True) for image in pair]
        channels = [np.asarray(one.channels.dataobj) for one in found]
        return register_deformable(*arrays(pair), None, settings=settings, channels=channels)

    return register


def by_syn(**options):
    """Registers by SyN with mutual information."""
    return lambda *pair: register_syn(*arrays(pair), **options)


def arrays(pair):
    """The intensities of two images."""
    return [np.asarray(image.dataobj, np.float32) for image in pair]


METHODS = {
    "features": by_features,
    "tissues": by_tissues,
    "tissues, --fast": lambda: by_tissues(FAST),
    "SyN 40, 20, 0": by_syn,
    "SyN 100, 70, 50": lambda: by_syn(iterations=(100, 70, 50)),
}


def main(argv=None):
    """Register the pairs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of NiChart")
    parser.add_argument(
        "--subjects", default="sub-13,sub-14,sub-15,sub-16", help="names, with commas between"
    )
    parser.add_argument("--methods", default=";".join(METHODS), help="with semicolons between")
    parser.add_argument("--contrasts", default=",".join(CONTRASTS), help="with commas between")
    parser.add_argument("--rows", default="deformable.csv", type=Path, help="a row a registration")
    add_json_option(parser)
    args = parser.parse_args(argv)
    cohort = load_cohort(args.data, 3, needed=["T1w", "FLAIR"])
    subjects = cohort.select(args.subjects.split(",")).subjects
    methods = {name: METHODS[name]() for name in args.methods.split(";")}
    for contrast, (moving, fixed), (method, register) in itertools.product(
        args.contrasts.split(","), itertools.permutations(subjects, 2), methods.items()
    ):
        key = {"method": method, "contrast": contrast, "moving": moving.name, "fixed": fixed.name}
        if not is_done(args.rows, key):
            row = key | measure(register, moving, fixed, contrast, range(1, cohort.num_labels))
            print(row, file=sys.stderr, flush=True)
            pd.DataFrame([row]).to_csv(
                args.rows, mode="a", header=not args.rows.exists(), index=False
            )
    groups = pd.read_csv(args.rows).groupby(["contrast", "method"], sort=False)
    means = groups.mean(numeric_only=True).round(3).round({"cpu s": 0})
    means.insert(0, "pairs", groups.size())
    show_table(means.astype(str).reset_index(), args.json)


def is_done(path, key):
    """Whether the file of rows at `path` holds the registration of `key`."""
    if not path.exists():
        return False
    rows = pd.read_csv(path)
    return bool((rows[list(key)] == pd.Series(key)).all(axis=1).any())


def measure(register, moving, fixed, contrast, indices):
    """Dice before and after, folded share and processor seconds of one registration."""
    pair = [
        nibabel.Nifti1Image(subject.image(name), subject.affine)
        for subject, name in ((moving, "T1w"), (fixed, contrast))
    ]
    start = time.process_time()
    found = register(*pair)
    seconds = time.process_time() - start
    labels, truth = moving.labels(), fixed.labels()
    warped = cifl.warp(labels, found, order="nearest")
    return {
        "before": np.mean(dice(truth, labels, indices)),
        "Dice": np.mean(dice(truth, warped, indices)),
        "folded (%)": 100 * np.mean(jacobian_determinant(found) <= 0),
        "cpu s": seconds,
    }


if __name__ == "__main__":
    main()
