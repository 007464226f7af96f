"""Every public name has an example in its docstring, and every example gives what it shows."""

import doctest
import importlib
import importlib.util
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import cifl_tf

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
MORE = (
    "cifl_tf.features.config.TrainingConfig",
    "cifl_tf.features.losses.spatial_contrastive_loss",
    "cifl_tf.features.training.train",
    *(
        f"cifl_tf.registration.similarity.{name}"
        for name in (
            "LocalNCC",
            "MultiScaleMSE",
            "gradient_penalty",
            "local_ncc",
            "multiscale_mse",
            "soft_dice",
            "squared_local_ncc",
            "voxel_cosine",
        )
    ),
)
PROMPT = re.compile(r"^ *>>> ", re.MULTILINE)


def sources():
    """Source of every module that holds an example, by name; nothing is imported."""
    names = [found.name for found in pkgutil.walk_packages(cifl_tf.__path__, "cifl_tf.")]
    texts = {name: Path(importlib.util.find_spec(name).origin).read_text() for name in names}
    return {name: text for name, text in texts.items() if PROMPT.search(text)}


def public_names():
    """Classes and functions that the package and its metrics offer, and those of ``MORE``."""
    for owner in (cifl_tf, cifl_tf.metrics):
        for name in owner.__all__:
            value = getattr(owner, name)
            if inspect.isclass(value) or inspect.isroutine(value):
                yield f"{owner.__name__}.{name}", value
    yield from ((name, pkgutil.resolve_name(name)) for name in MORE)


SOURCES = sources()
PUBLIC = dict(public_names())


@pytest.mark.parametrize("name", SOURCES)
def test_examples_give_what_they_show(name, tmp_path, monkeypatch):
    if name.startswith("cifl_tf.beam."):
        pytest.importorskip("apache_beam")
    report = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for test in doctest.DocTestFinder().find(importlib.import_module(name), name):
        folder = tmp_path / test.name
        folder.mkdir()
        monkeypatch.chdir(folder)
        runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)
    assert runner.tries == len(PROMPT.findall(SOURCES[name])), "an example was passed over"


@pytest.mark.parametrize("name", PUBLIC)
def test_public_name_has_an_example(name):
    docstring = inspect.cleandoc(PUBLIC[name].__doc__ or "")
    _, _, example = docstring.partition("\nExample:\n")
    assert PROMPT.search(example)
