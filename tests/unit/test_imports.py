import ast
from pathlib import Path

import pytest

import cifl_tf

PACKAGE = Path(cifl_tf.__file__).parent
# A module may import from earlier lines only. A new module fails the tests until it is listed.
LAYERS = (
    {"_version", "_compat", "files", "intensity", "memory", "notes", "smooth_fields", "device"},
    {"checks", "random_keys", "image_claims", "image_model", "cli_errors", "volume_table"},
    {"model_order"},
    {"metrics", "appearance", "patches", "image_files", "model_archive", "model_config"},
    {"grid", "model_files"},
    {"volumes", "figures", "evaluation_summary"},
    {"datasets", "warps"},  # these and all above know nothing of networks
    {"layers", "losses", "synthesis", "similarity", "transforms"},
    {"encoder", "precision", "mind", "augmentation", "averaging", "syn"},
    {"model", "frozen_features"},
    {"inference", "export"},
    {"pretrained", "callbacks"},
    {"training_progress"},
    {"training_folder"},
    {"demo", "training", "segmentation", "registration", "instance", "evaluation"},
    {"evaluation_report", "segmentation_training", "registration_training", "registration_methods"},
    {"registration_files"},
    {"__init__"},
    {"run_report"},
    {"output_folder"},
    {"cli_options", "command_run"},
    {"evaluation_cli", "segmentation_cli", "registration_cli"},
    {"cli"},
    {"__main__"},
)
LEVEL = {module: level for level, modules in enumerate(LAYERS) for module in modules}
APART = [{"synthesis", "model"}]  # a script joins them: CIFL(encoder, synthesizer)
KEPT_IN_COMPAT = ("keras", "tf_keras", "tensorflow.keras", "neurite", "voxelmorph")
SOURCES = {
    path.relative_to(PACKAGE).with_suffix("").as_posix(): path.read_text()
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imported_names(path, source):
    """Dotted names of everything imported anywhere in the source, and of every use of tf.keras."""
    folder = ["cifl_tf", *path.split("/")[:-1]]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] if node.level else []
            base = [*base, node.module] if node.module else base
            yield from (".".join([*base, alias.name]) for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = {"tf": "tensorflow"}.get(node.value.id, node.value.id)
            if (name, node.attr) == ("tensorflow", "keras"):
                yield "tensorflow.keras"


def violations(path, source):
    """What a source file of the package imports against the contract."""
    module = path.split("/")[0]
    if module not in LEVEL:
        return [f"{module} is in no line of LAYERS: add it where it belongs"]
    found = []
    for name in imported_names(path, source):
        parts = name.split(".")
        if any(f"{name}.".startswith(f"{kept}.") for kept in KEPT_IN_COMPAT):
            if module != "_compat":
                found.append(f"{name}: only _compat imports it")
        elif parts[0] == "cifl_tf":
            imported = parts[1] if len(parts) > 1 and parts[1] in LEVEL else "__init__"
            if imported == module and "/" in path:
                continue  # within a module that is a folder
            if LEVEL[imported] >= LEVEL[module]:
                found.append(f"{name}: {module} comes before {imported}, or beside it")
            if {module, imported} in APART:
                found.append(f"{name}: {module} and {imported} are joined by a script only")
    return found


@pytest.mark.parametrize("path", SOURCES)
def test_module_keeps_the_contract(path):
    assert violations(path, SOURCES[path]) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("new_module", "import numpy"),
        ("losses", "import keras"),
        ("losses", "import tf_keras.layers as KL"),
        ("losses", "from tensorflow import keras"),
        ("losses", "from tensorflow.keras import layers"),
        ("losses", "import tensorflow as tf\nx = tf.keras.layers.Dense(1)"),
        ("cli", "def f():\n    import voxelmorph as vxm"),
        ("synthesis", "from neurite.tf import models"),
        ("losses", "from cifl_tf.layers import L2Normalize"),
        ("losses", "from cifl_tf import encoder"),
        ("losses", "from .encoder import build_encoder"),
        ("losses", "from . import model"),
        ("losses", "import cifl_tf.model"),
        ("losses", "import cifl_tf as cifl"),
        ("inference", "from cifl_tf import CIFL"),
        ("datasets", "def f():\n    from cifl_tf.inference import features_of"),
        ("model", "from cifl_tf.synthesis import PairSynthesizer"),
        ("synthesis", "from cifl_tf.model import CIFL"),
        ("__init__", "from cifl_tf.cli import main"),
        ("datasets/oasis", "from ..model import CIFL"),
        ("datasets/oasis", "from cifl_tf import layers"),
        ("datasets/__init__", "import tensorflow.keras as keras"),
    ],
)
def test_the_contract_forbids(path, source):
    assert violations(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("_compat", "import keras, neurite\nfrom tensorflow import keras\nimport voxelmorph.tf"),
        ("losses", "import tensorflow as tf\nfrom cifl_tf._compat import keras, ne, vxm"),
        ("model", "from .losses import unit_channels\nfrom . import encoder"),
        ("cli", "import cifl_tf as cifl\nfrom cifl_tf import CIFL"),
        ("datasets/__init__", "from .oasis import a\nfrom ..volumes import b\nfrom . import oasis"),
        ("datasets/oasis", "from cifl_tf.datasets.bids import a\nfrom cifl_tf.files import b"),
    ],
)
def test_the_contract_allows(path, source):
    assert violations(path, source) == []
