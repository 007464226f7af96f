"""How scans with and without skull are told apart, whole and in slabs of a third of a scan.

    python benchmarks/skull_detection.py --scans benchmarks/skull_scans.csv --data ../shared/data

The table has the columns image, a path from --data, and skull, yes or no. Slabs are the middle, the
upper and the lower part of a scan along each axis. Prints the least and the largest share of what
lies 3 to 15 mm around the brain that is no air, see ``StrippedHead.share_around``.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import cifl_tf as cifl  # first: it selects Keras 2 for TensorFlow

import nibabel  # isort: skip
import numpy as np
import pandas as pd
from tqdm import tqdm

from results_table import add_json_option, show_table

PARTS = (0.15, 0.5), (0.35, 0.65), (0.6, 0.95)  # of the voxels along an axis


def slabs(image: nibabel.Nifti1Image) -> Iterator[nibabel.Nifti1Image]:
    """Nine parts of a volume, three along each axis."""
    for axis in range(3):
        for bounds in PARTS:
            part = [slice(None)] * 3
            part[axis] = slice(*np.multiply(bounds, image.shape[axis]).astype(int).tolist())
            yield image.slicer[tuple(part)]


def main(argv=None):
    """Strip all scans and their slabs, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=Path, required=True, help="CSV file: image, skull")
    parser.add_argument("--data", type=Path, default=Path(), help="folder that its paths lead from")
    add_json_option(parser)
    args = parser.parse_args(argv)
    stripper = cifl.Stripper.from_pretrained()
    rows = []
    for row in tqdm(pd.read_csv(args.scans).to_dict("records"), unit="scan"):
        image = nibabel.load(args.data / row["image"])
        for part, images in (("whole", [image]), ("slabs", slabs(image))):
            rows += [
                {"skull": row["skull"], "part": part, "share": stripper.strip(one).share_around}
                for one in images
            ]
    groups = pd.DataFrame(rows).groupby(["skull", "part"])["share"]
    show_table(groups.agg(["count", "min", "max"]).round(3).reset_index(), args.json)


if __name__ == "__main__":
    main()
