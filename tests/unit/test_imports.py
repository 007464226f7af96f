"""What the contract of import-linter in pyproject.toml cannot say."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import cifl_tf
from cifl_tf._former_modules import DIVIDED, FORMER

PACKAGE = Path(cifl_tf.__file__).parent
KEPT_IN_COMPAT = ("keras", "tf_keras", "tensorflow.keras", "neurite", "voxelmorph")
SOURCES = {
    path.relative_to(PACKAGE).with_suffix("").as_posix(): path.read_text()
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imported_names(source):
    """Dotted names of everything imported anywhere in the source, and of every use of tf.keras."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = {"tf": "tensorflow"}.get(node.value.id, node.value.id)
            if (name, node.attr) == ("tensorflow", "keras"):
                yield "tensorflow.keras"


def kept_in_compat(source):
    """Imports of a source file that belong into ``_compat``."""
    return [
        name
        for name in imported_names(source)
        if any(f"{name}.".startswith(f"{kept}.") for kept in KEPT_IN_COMPAT)
    ]


@pytest.mark.parametrize("path", sorted(SOURCES.keys() - {"_compat"}))
def test_only_compat_imports_keras_and_its_kin(path):
    assert kept_in_compat(SOURCES[path]) == []


@pytest.mark.parametrize(
    "source",
    [
        "import keras",
        "import tf_keras.layers as KL",
        "from tensorflow import keras",
        "from tensorflow.keras import layers",
        "import tensorflow as tf\nx = tf.keras.layers.Dense(1)",
        "def f():\n    import voxelmorph as vxm",
        "from neurite.tf import models",
    ],
)
def test_such_imports_are_found(source):
    assert kept_in_compat(source)


def test_the_package_imports_nothing_heavy():
    code = (
        "import cifl_tf, sys\n"
        "print(*{'tensorflow', 'matplotlib', 'nilearn', 'scipy', 'numpy'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


@pytest.mark.parametrize("name", cifl_tf.__all__)
def test_public_names_are_there(name):
    assert getattr(cifl_tf, name) is not None


def test_names_that_are_not_there():
    with pytest.raises(AttributeError, match="no_such_name"):
        cifl_tf.no_such_name  # noqa: B018


@pytest.mark.parametrize("former", FORMER)
def test_former_names_of_modules(former):
    sys.modules.pop(f"cifl_tf.{former}", None)
    with pytest.warns(DeprecationWarning, match=FORMER[former]):
        found = importlib.import_module(f"cifl_tf.{former}")
    assert found is importlib.import_module(f"cifl_tf.{FORMER[former]}")
    assert found.__spec__.name == found.__name__


@pytest.mark.parametrize(
    ("former", "name"), [(former, name) for former in DIVIDED for name in DIVIDED[former]]
)
def test_classes_of_modules_that_were_divided(former, name):
    sys.modules.pop(f"cifl_tf.{former}", None)
    with pytest.warns(DeprecationWarning, match="is divided"):
        found = importlib.import_module(f"cifl_tf.{former}")
    assert vars(found)[name] is getattr(cifl_tf, name)
