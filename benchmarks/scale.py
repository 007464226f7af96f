"""What tens of thousands of scans cost, from one scan that is measured.

Each analysis of `cifl cohort` runs on one core, on a dataset of one copy of the scan, and again on
one of two copies: the difference is the cost of a scan, the rest that of starting a process.
Processor seconds are those of the whole command, memory is its peak. A workstation runs as many
processes as its cores and its memory allow; each of many jobs starts once:

    python benchmarks/scale.py --scan T1w.nii.gz --json scale.json

Prints a Markdown table.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cifl_tf  # noqa: F401  first: it selects Keras 2 for TensorFlow

import pandas as pd  # isort: skip

from results_table import add_json_option, show_table

ANALYSES = {
    "features": ("features", "--model", "shapes-3d"),
    "brain mask": ("strip",),
    "tissues": ("segment",),
    "registration to MNI152": ("register-to-template",),
}
CORES, MEMORY = 16, 64  # of a workstation, in GB
JOBS = 500  # of one core each, by SLURM or as workers of Beam


def cost(arguments, scan, copies):
    """Processor seconds, peak of the memory in MB, and MB written, of so many copies of a scan."""
    with tempfile.TemporaryDirectory() as folder:
        bids, out = Path(folder, "bids"), Path(folder, "out")
        for number in range(1, copies + 1):
            anat = bids / f"sub-{number}" / "anat"
            anat.mkdir(parents=True)
            shutil.copy(scan, anat / f"sub-{number}_T1w.nii.gz")
        name, *options = arguments
        command = ["cohort", name, bids, out, "participant", "--omp-nthreads", "1", *options]
        process = subprocess.Popen(
            [sys.executable, "-m", "cifl_tf", *map(str, command)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, used = os.wait4(process.pid, 0)
        if status:
            raise RuntimeError(f"cifl cohort {name} failed; run the command to see why")
        written = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        return used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3, written / 1e6


def main(argv=None):
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scan", type=Path, required=True, help="a .nii.gz file")
    parser.add_argument("--scans", type=int, default=50_000, help="how many there would be")
    add_json_option(parser)
    args = parser.parse_args(argv)
    rows = []
    for name, arguments in ANALYSES.items():
        one, two = (cost(arguments, args.scan, copies) for copies in (1, 2))
        seconds, megabytes = two[0] - one[0], two[2] - one[2]
        start, gigabytes = max(one[0] - seconds, 0), max(one[1], two[1]) / 1e3
        total = seconds * args.scans
        processes = min(CORES, int(MEMORY / gigabytes))
        rows.append(
            {
                "analysis": name,
                "core seconds a scan": f"{seconds:.1f}",
                "to start": f"{start:.0f}",
                "GB of memory": f"{gigabytes:.1f}",
                "MB written a scan": f"{megabytes:.1f}",
                "core hours": f"{total / 3600:,.0f}",
                "TB written": f"{megabytes * args.scans / 1e6:.2f}",
                "days of a workstation": f"{total / processes / 86400:.2f}",
                "hours of the jobs": f"{(total / JOBS + start) / 3600:.2f}",
            }
        )
        show_table(pd.DataFrame(rows[-1:]))
    show_table(pd.DataFrame(rows), args.json)


if __name__ == "__main__":
    main()
