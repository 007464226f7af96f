"""A trained folder that the tests of commands share; a few steps suffice to try commands."""

import subprocess
import sys

import pytest

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
def model_folder(run_cifl, tmp_path_factory):
    """A folder of ``cifl train``."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    run_cifl("train", "--out", folder, "--steps", 4, *TINY)
    return folder
