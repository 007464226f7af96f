"""Deformable registration of volumes: overlap of tissues and seconds, with SyN as the other.

All ordered pairs of some NiChart subjects, T1w to T1w, to inverted T1w and to FLAIR:

    python benchmarks/deformable_pairs.py --data /data/nichart --subjects 13,14,15,16
    python benchmarks/deformable_pairs.py --data /data/nichart --subjects 3,4 --methods features

Prints a Markdown table: the Dice of four tissues before and after, and processor seconds, which
other work on the machine changes little. SyN is that of ANTsPy with mutual information, with the
iterations of ANTsPy, and with 100, 70, 50 iterations.
"""

import argparse
import itertools
import os
import sys
from pathlib import Path

import cifl_tf as cifl  # first: it selects Keras 2 for TensorFlow

import nibabel  # isort: skip
import numpy as np
import pandas as pd

from cifl_tf.evaluation.summary import to_markdown
from cifl_tf.metrics import dice
from cifl_tf.metrics.folding import jacobian_determinant
from cifl_tf.registration.deformable import register_deformable
from cifl_tf.registration.syn import register_syn

CONTRASTS = ("T1w", "inverted T1w", "FLAIR")
LABELS = (1, 2, 3, 4)


def by_features():
    """Registers by the default of `cifl register`."""
    encoder = cifl.load_encoder("shapes-2d-wide")
    return lambda moving, fixed: register_deformable(moving, fixed, encoder)


METHODS = {
    "features": by_features,
    "SyN 40, 20, 0": lambda: register_syn,
    "SyN 100, 70, 50": lambda: lambda *pair: register_syn(*pair, iterations=(100, 70, 50)),
}


def volume(data: Path, subject: int, name: str) -> np.ndarray:
    """A volume of NiChart by its ending, (x, y, z)."""
    (file,) = data.glob(f"sub-{subject:02d}/anat/*_desc-{name}.nii.gz")
    return np.asarray(nibabel.load(file).dataobj)


def scan(data: Path, subject: int, contrast: str) -> np.ndarray:
    """A scan in [0, 1]."""
    name = "T1w" if contrast == "inverted T1w" else contrast
    scaled = cifl.rescale_intensity(volume(data, subject, f"brain_{name}"))
    if contrast == "inverted T1w":
        return np.where(scaled > 0, 1 - scaled, 0).astype(np.float32)
    return scaled


def processor_seconds() -> float:
    """Of this process and its threads so far."""
    times = os.times()
    return times.user + times.system


def main(argv=None):
    """Register the pairs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of NiChart")
    parser.add_argument("--subjects", default="13,14,15,16", help="numbers, with commas between")
    parser.add_argument("--methods", default=";".join(METHODS), help="with semicolons between")
    args = parser.parse_args(argv)
    subjects = [int(number) for number in args.subjects.split(",")]
    rows = []
    for method in args.methods.split(";"):
        register = METHODS[method]()
        for contrast, (moving, fixed) in itertools.product(
            CONTRASTS, itertools.permutations(subjects, 2)
        ):
            start = processor_seconds()
            found = register(scan(args.data, moving, "T1w"), scan(args.data, fixed, contrast))
            seconds = processor_seconds() - start
            labels, truth = (volume(args.data, one, "tissue_dseg") for one in (moving, fixed))
            warped = cifl.warp(labels, found, order="nearest")
            rows.append(
                {
                    "method": method,
                    "contrast": contrast,
                    "before": np.mean(dice(truth, labels, LABELS)),
                    "Dice": np.mean(dice(truth, warped, LABELS)),
                    "folded (%)": 100 * np.mean(jacobian_determinant(found) <= 0),
                    "cpu s": seconds,
                }
            )
            print(moving, fixed, rows[-1], file=sys.stderr, flush=True)
    means = pd.DataFrame(rows).groupby(["method", "contrast"], sort=False).mean().reset_index()
    print(to_markdown(means.round(3).astype(str)))


if __name__ == "__main__":
    main()
