"""Fixtures of the unit tests."""

import sys

import pytest

from crafted_models import EVIL, members_of, small_encoder

CODE = """
from pathlib import Path
SENTINEL = Path(__file__).with_name("RAN")
SENTINEL.touch()
def run(*arguments, **options):
    SENTINEL.touch()
    return arguments[0] if arguments else None
class Layer:
    @classmethod
    def from_config(cls, config):
        SENTINEL.touch()
"""


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    """The members of a small encoder."""
    file = tmp_path_factory.mktemp("good") / "encoder.keras"
    small_encoder().save(file)
    return members_of(file)


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A file that is there as soon as anything of a model was imported or has run."""
    (tmp_path / f"{EVIL}.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "RAN"
    sys.modules.pop(EVIL, None)
