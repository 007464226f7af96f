"""``cifl cohort features`` against a loop of ``cifl features``, on small images, in one run.

Makes a BIDS dataset of random images, and prints the seconds of both, their processor time, and the
ratios. Images of the loop go to the command one by one, as in a shell script.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np
from tqdm import tqdm

SHAPE = (48, 40, 44)  # voxels of 2 mm


def make_dataset(folder, count):
    """A BIDS dataset of one image a subject; returns the images."""
    rng = np.random.default_rng(0)
    images = []
    for number in range(1, count + 1):
        anat = folder / f"sub-{number:02d}" / "anat"
        anat.mkdir(parents=True)
        images.append(anat / f"sub-{number:02d}_T1w.nii.gz")
        data = rng.random(SHAPE).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(data, np.diag([2, 2, 2, 1])), images[-1])
    return images


def run_cifl(*arguments):
    """Run a command, without its output."""
    command = [sys.executable, "-m", "cifl_tf", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)


def seconds_of(function):
    """Seconds, and seconds of processor time, of the commands that a function runs."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    function()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, processor


def main(argv=None):
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--n-procs", type=int, default=1)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        bids, out = Path(folder, "bids"), Path(folder, "out")
        images = make_dataset(bids, options.images)

        def loop():
            for image in tqdm(images, unit="image", disable=None):
                run_cifl("features", image, "--out", out / "loop")

        def cohort():
            command = ("cohort", "features", bids, out / "cohort", "participant")
            run_cifl(*command, "--n-procs", options.n_procs)

        measured = {"cifl cohort features": seconds_of(cohort)}
        measured["the same again, all done before"] = seconds_of(cohort)
        measured["loop of cifl features"] = seconds_of(loop)
    for what, (seconds, processor) in measured.items():
        print(f"{what}: {seconds:.1f} s, {processor:.1f} s of processor time")
    first, _, last = measured.values()
    ratios = [slow / fast for slow, fast in zip(last, first, strict=True)]
    print(
        f"{options.images} images, the loop over the cohort: {ratios[0]:.1f} times the seconds, "
        f"{ratios[1]:.1f} times the processor time"
    )


if __name__ == "__main__":
    main()
