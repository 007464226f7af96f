"""What the contract of import-linter in pyproject.toml cannot say."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import cifl_tf
from cifl_tf._former_modules import FORMER

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
    places = FORMER[former].split()
    with pytest.warns(DeprecationWarning, match=places[0]):
        found = importlib.import_module(f"cifl_tf.{former}")
    for place in places:
        present = importlib.import_module(f"cifl_tf.{place}")
        own = {
            n for n, v in vars(present).items() if getattr(v, "__module__", "") == present.__name__
        }
        assert own <= vars(found).keys()


@pytest.mark.parametrize(
    ("former", "name", "present", "present_name"),
    [
        ("segmentation_training", "segment_image", "segmentation.images", "segment_image"),
        ("registration_files", "Registration", "registration.images", "RegistrationResult"),
        ("instance", "optimise_instance", "registration.instance", "optimize_instance"),
        ("training", "TrainingConfig", "features.config", "TrainingConfig"),
        ("augmentation", "Look", "augmentation.intensity", "IntensityChange"),
        ("segmentation", "encode_once", "segmentation.data", "cache_features"),
        ("datasets", "open_cohort", "datasets.catalog", "load_cohort"),
        ("figures", "save_overlay", "figures.segmentation", "save_overlay"),
    ],
)
def test_former_names_in_modules(former, name, present, present_name):
    found = getattr(importlib.import_module(f"cifl_tf.{former}"), name)
    assert found is getattr(importlib.import_module(f"cifl_tf.{present}"), present_name)


def test_former_names_of_the_package():
    with pytest.warns(DeprecationWarning, match="start_from is .*transfer_weights now"):
        found = cifl_tf.start_from
    assert found is cifl_tf.transfer_weights
