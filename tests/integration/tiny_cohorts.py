"""Tiny BIDS datasets, and what ``cifl cohort`` makes of them."""

import hashlib

import nibabel
import numpy as np

from command_runner import run_here

RECORDS = ("run.json", "report.html")  # which tell times
SUBJECTS = 5


def write_cohort(folder, rng):
    """Five subjects, the first with two contrasts."""
    for number in range(1, SUBJECTS + 1):
        write_scan(folder / f"sub-{number}" / "anat" / f"sub-{number}_T1w.nii.gz", rng)
    write_scan(folder / "sub-1" / "anat" / "sub-1_FLAIR.nii.gz", rng)
    return folder


def write_scan(path, rng):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = rng.random((12, 6, 10)).astype(np.float32) + 0.1
    nibabel.save(nibabel.Nifti1Image(data, np.diag([8, 8, 8, 1])), path)


def contents(out):
    """SHA-256 of every file but the records."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in out.rglob("*")
        if path.is_file() and path.name not in RECORDS
    }


def features(bids, out, encoder, *more, level="participant"):
    return run_here("cohort", "features", bids, out, level, "--model", encoder, *more)
