"""A trained folder that the tests of commands share; a few steps suffice to try commands."""

import subprocess
import sys

import nibabel
import numpy as np
import pytest
from filelock import FileLock

from cifl_tf.datasets import virtual_cohort
from command_runner import run_here
from tiny_cohorts import write_cohort

TINY = ["--shape", "24,24", "--num-features", "3", "--num-filters", "2", "--batch-size", "2"]


@pytest.fixture(scope="session")
def run_cifl():
    """Run the ``cifl`` command in a process of its own, without a terminal."""

    def run(*arguments, cwd=None, check=True):
        return subprocess.run(
            [sys.executable, "-m", "cifl_tf", *map(str, arguments)],
            cwd=cwd,
            check=check,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )

    return run


@pytest.fixture(scope="session")
def model_folder(shared):
    """A folder of ``cifl train``, which tests do not change."""
    folder = shared / "trained" / "model"
    with FileLock(shared / "model.lock"):  # the second process finds a complete training
        assert run_here("train", "--out", folder, "--steps", 4, *TINY).exit_code == 0
    return folder


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """Four small virtual subjects as a BIDS dataset."""
    folder = tmp_path_factory.mktemp("bids")
    cohort = virtual_cohort(4, resolution=6)
    table = "".join(f"{value}\t{name}\n" for value, name in cohort.label_names.items())
    (folder / "desc-tissue_dseg.tsv").write_text("index\tname\n" + table)
    for number, subject in enumerate(cohort, start=1):
        anat = folder / f"sub-{number}" / "anat"
        anat.mkdir(parents=True)
        for ending, data in (
            ("T1w", subject.image("T1w")),
            ("FLAIR", subject.image("FLAIR")),
            ("desc-tissue_dseg", subject.labels().astype(np.int16)),
        ):
            image = nibabel.Nifti1Image(data, subject.affine)
            nibabel.save(image, anat / f"sub-{number}_{ending}.nii.gz")
    return folder


@pytest.fixture
def bids(tmp_path, rng):
    """A BIDS dataset of five subjects with tiny images."""
    return write_cohort(tmp_path / "study", rng)


@pytest.fixture
def encoder(tmp_path, tiny_encoder):
    """The file of ``tiny_encoder``."""
    tiny_encoder.save(tmp_path / "encoder.keras")
    return tmp_path / "encoder.keras"
