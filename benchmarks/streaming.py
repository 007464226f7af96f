"""Memory of a training on many volumes: a segmenter of 400 subjects, and of a tenth of them.

A dataset of copies of a virtual subject, as links to one file, of the given shape. `cifl segment
train` is run on it for a few steps on random patches, on one core:

    python benchmarks/streaming.py --json streaming.json
    python benchmarks/streaming.py --subjects 40 --shape 96,112,96

Images lie on disk where they would take more than a quarter of the memory; they need 5 bytes for
each voxel there, in the folder of ``--folder``. Prints a Markdown table.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cifl_tf  # noqa: F401  first: it selects Keras 2 for TensorFlow

import nibabel as nib  # isort: skip
import numpy as np
import pandas as pd
from scipy.ndimage import zoom

from cifl_tf.datasets import virtual_cohort
from results_table import add_json_option, show_table

STEPS, PATCH = 10, 64


def write_dataset(folder: Path, shape, subjects: int) -> None:
    """A BIDS folder of links to one subject."""
    (subject,) = virtual_cohort(1, resolution=4).subjects
    arrays = {"T1w": (subject.image("T1w"), 1), "desc-tissue_dseg": (subject.labels(), 0)}
    files = {}
    for name, (array, order) in arrays.items():
        factors = np.divide(shape, array.shape)
        values = zoom(array.astype(np.float32), factors, order=order)
        values = np.rint(1000 * values if order else values).astype(np.int16)
        files[name] = folder / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(values, np.eye(4)), files[name])
    for number in range(1, subjects + 1):
        anat = folder / "bids" / f"sub-{number:03}" / "anat"
        anat.mkdir(parents=True)
        for name, file in files.items():
            (anat / f"sub-{number:03}_{name}.nii.gz").symlink_to(file)


def main(argv=None):
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=400)
    parser.add_argument(
        "--shape", default="160,192,224", help="voxels of 1 mm, with commas between"
    )
    parser.add_argument("--folder", help="for the files; None for that of the system")
    add_json_option(parser)
    args = parser.parse_args(argv)
    shape, rows = [*map(int, args.shape.split(","))], []
    for subjects in (max(5, args.subjects // 10), args.subjects):
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            write_dataset(Path(folder), shape, subjects)
            options = ["--ndim", 3, "--data", f"{folder}/bids", "--encoder", "shapes-3d"]
            options += ["--steps", STEPS, "--patch", PATCH, "--batch-size", 1]
            options += ["--validation-subjects", "sub-001", "--out", f"{folder}/out"]
            started = time.time()
            process = subprocess.Popen(
                [sys.executable, "-m", "cifl_tf", "segment", "train", *map(str, options)],
                stdout=subprocess.DEVNULL,
                env={**os.environ, "TF_NUM_INTRAOP_THREADS": "1"},
            )
            _, status, used = os.wait4(process.pid, 0)
            if status:
                sys.exit("cifl segment train failed")
            rows.append(
                {
                    "subjects": str(subjects),
                    "shape": "x".join(map(str, shape)),
                    "GB of data": f"{subjects * 8 * np.prod(shape) / 1e9:.1f}",
                    "peak memory (GB)": f"{used.ru_maxrss / 1e6:.2f}",
                    "processor s": f"{used.ru_utime + used.ru_stime:.0f}",
                    "s": f"{time.time() - started:.0f}",
                }
            )
            show_table(pd.DataFrame(rows), args.json)


if __name__ == "__main__":
    main()
