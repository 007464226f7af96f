"""Trained folders that the tests of one run share, also over its processes."""

from functools import cache

import pytest
from filelock import FileLock

from tiny_trainings import STEPS_PER_EPOCH, TRAININGS


@pytest.fixture(autouse=True)
def _short_epochs(monkeypatch):
    monkeypatch.setattr("cifl_tf.training.folder.MAX_STEPS_PER_EPOCH", STEPS_PER_EPOCH)


@pytest.fixture(scope="session")
def complete(shared):
    """Gives the folder of a kind of training after three epochs, which tests do not change."""

    @cache
    def folder_of(kind):
        folder = shared / "complete" / kind
        with FileLock(shared / f"{kind}.lock"), pytest.MonkeyPatch.context() as patch:
            patch.setattr("cifl_tf.training.folder.MAX_STEPS_PER_EPOCH", STEPS_PER_EPOCH)
            TRAININGS[kind](folder)
        return folder

    return folder_of
