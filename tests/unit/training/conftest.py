"""Trained folders that the tests of one run share, also over its processes."""

import os
from functools import cache

import pytest
from filelock import FileLock

from tiny_trainings import STEPS_PER_EPOCH, TRAININGS


@pytest.fixture(autouse=True)
def _short_epochs(monkeypatch):
    monkeypatch.setattr("cifl_tf.training.folder.MAX_STEPS_PER_EPOCH", STEPS_PER_EPOCH)


@pytest.fixture(scope="session")
def complete(tmp_path_factory):
    """Gives the folder of a kind of training after three epochs, which tests do not change."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    @cache
    def folder_of(kind):
        folder = root / "complete" / kind
        with FileLock(root / f"{kind}.lock"), pytest.MonkeyPatch.context() as patch:
            patch.setattr("cifl_tf.training.folder.MAX_STEPS_PER_EPOCH", STEPS_PER_EPOCH)
            TRAININGS[kind](folder)
        return folder

    return folder_of
