import ast
from pathlib import Path

import pytest

import cifl_tf

PACKAGE = Path(cifl_tf.__file__).parent
# A module may import from earlier lines only. A new module fails the tests until it is listed.
LAYERS = (
    {"_version", "_compat", "files"},
    {"image_files", "metrics"},
    {"volumes", "figures"},
    {"datasets"},  # these and all above know nothing of networks
    {"layers", "losses", "synthesis"},
    {"encoder"},
    {"model"},
    {"inference", "export", "pretrained"},
    {"callbacks"},
    {"demo", "training", "segmentation", "registration"},
    {"__init__"},
    {"cli"},
    {"__main__"},
)
LEVEL = {module: level for level, modules in enumerate(LAYERS) for module in modules}
APART = [("synthesis", "model")]  # a script joins them: CIFL(encoder, synthesizer)
KEPT_IN_COMPAT = ("keras", "tf_keras", "tensorflow.keras", "neurite", "voxelmorph")
MODULES = {
    str(path.relative_to(PACKAGE).with_suffix("")).split("/")[0]: path.read_text()
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imported_names(source):
    """Dotted names of everything imported anywhere in the source, and of every use of tf.keras."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, ["cifl_tf" if node.level else "", node.module or ""]))
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = {"tf": "tensorflow"}.get(node.value.id, node.value.id)
            if (name, node.attr) == ("tensorflow", "keras"):
                yield "tensorflow.keras"


def violations(module, source):
    """What the module imports against the contract."""
    found = []
    for name in imported_names(source):
        parts = name.split(".")
        if any(f"{name}.".startswith(f"{kept}.") for kept in KEPT_IN_COMPAT):
            if module != "_compat":
                found.append(f"{name}: only _compat imports it")
        elif parts[0] == "cifl_tf":
            imported = parts[1] if len(parts) > 1 and parts[1] in LEVEL else "__init__"
            if LEVEL[imported] >= LEVEL[module]:
                found.append(f"{name}: {module} comes before {imported}, or beside it")
            if tuple(sorted((module, imported))) in [tuple(sorted(pair)) for pair in APART]:
                found.append(f"{name}: {module} and {imported} are joined by a script only")
    return found


def test_every_module_has_its_place():
    assert set(MODULES) <= set(LEVEL)


@pytest.mark.parametrize("module", MODULES)
def test_module_keeps_the_contract(module):
    assert violations(module, MODULES[module]) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
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
    ],
)
def test_the_contract_forbids(module, source):
    assert violations(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("_compat", "import keras, neurite\nfrom tensorflow import keras\nimport voxelmorph.tf"),
        ("losses", "import tensorflow as tf\nfrom cifl_tf._compat import keras, ne, vxm"),
        ("model", "from .losses import unit_channels\nfrom . import encoder"),
        ("cli", "import cifl_tf as cifl\nfrom cifl_tf import CIFL"),
    ],
)
def test_the_contract_allows(module, source):
    assert violations(module, source) == []
