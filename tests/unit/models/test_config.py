import contextlib
import re
import resource
import sys
from pathlib import Path

import numpy as np
import pytest

import cifl_tf
from cifl_tf._compat import keras
from cifl_tf.models import config as model_config
from crafted_models import (
    EVIL,
    EVIL_FUNCTION,
    EVIL_LAYER,
    MOST_MEMORY,
    bytecode,
    chain,
    convolution,
    function,
    image,
    layer,
    model,
    network,
    old_format,
    own,
    refusal,
)


def nested(depth, inner):
    """A layer within as many others."""
    for _ in range(depth):
        inner = layer("TimeDistributed", name="wrapper", layer=inner)
    return inner


def circle():
    """Two layers of which each takes the output of the other."""
    config = chain(convolution(), convolution())
    config["config"]["layers"][1]["inbound_nodes"] = [[["layer_1", 0, 0, {}]]]
    return config


def itself():
    """A layer that takes its own output, as an argument by name."""
    config = chain(layer("MultiHeadAttention", num_heads=1, key_dim=1))
    nodes = [[["image", 0, 0, {"value": ["layer_0", 0, 0]}]]]
    config["config"]["layers"][1]["inbound_nodes"] = nodes
    return config


def within_each_other(depth):
    """Networks of which each calls the one within it ten times: 10**depth calls of a layer."""
    config = chain(layer("ReLU"))
    for _ in range(depth):
        config = chain(config)
        config["config"]["layers"][1]["inbound_nodes"] *= 10
        config["config"]["output_layers"] = [["layer_0", 1, 0]]
    return config


def constant():
    """A layer that runs at once, on a constant."""
    config = chain(layer("ZeroPadding2D", padding=[[0, 200000], [0, 200000]]))
    nodes = [[["_CONSTANT_VALUE", -1, [[[[1.0]]]], {}]]]
    config["config"]["layers"][1]["inbound_nodes"] = nodes
    return config


def lambda_layer(function, kind="function", **config):
    return layer(
        "Lambda",
        **{
            "function": function,
            "function_type": kind,
            "output_shape": None,
            "output_shape_type": "raw",
            "output_shape_module": None,
            "arguments": {},
            **config,
        },
    )


NO_LAYER = "which is neither a layer of cifl_tf nor one of Keras without code"
NO_ACTIVATION = "is not an activation of Keras'|is not one of Keras'"
NAMED = {
    "a function in a Lambda layer": (chain(lambda_layer(EVIL_FUNCTION)), "keras.layers.Lambda"),
    "the system in a Lambda layer": (
        chain(lambda_layer(function("os", "system"))),
        "write a Lambda layer as a layer of Keras",
    ),
    "bytecode": (chain(lambda_layer([bytecode("RAN"), None, None], "lambda")), "Lambda"),
    "bytecode of the new format": (
        chain(lambda_layer({"class_name": "__lambda__", "config": {"value": bytecode("RAN")}})),
        "Lambda",
    ),
    "bytecode as an initializer": (
        chain(
            convolution(
                kernel_initializer={
                    "class_name": "__lambda__",
                    "config": {"value": bytecode("RAN")},
                    "module": "builtins",
                }
            )
        ),
        "builtins.__lambda__",
    ),
    "a function as the network": (EVIL_FUNCTION, f"names the function {EVIL}.run"),
    "a class as the network": (EVIL_LAYER, f"names {EVIL}.Layer, {NO_LAYER}"),
    "a class that is not there": (layer("Nothing", EVIL), NO_LAYER),
    "a relative module": (layer("Layer", f".{EVIL}"), NO_LAYER),
    "no module": (chain({**EVIL_LAYER, "module": None}), "names None.Layer"),
    "a module that is no text": (chain({**EVIL_LAYER, "module": [EVIL]}), NO_LAYER),
    "a class that is no text": (chain({**EVIL_LAYER, "class_name": {"a": 1}}), NO_LAYER),
    "a name of a megabyte": (chain({**EVIL_LAYER, "class_name": "x" * 2**20}), "x{60}\\.\\.\\."),
    "lines in a name": (chain({**EVIL_LAYER, "class_name": "a\nb"}), r"'a\\nb'"),
    "builtins": (chain(layer("exec", "builtins")), "builtins.exec"),
    "a download by Keras": (layer("get_file", "keras.utils", name="x"), "keras.utils.get_file"),
    "a loader of Keras": (layer("load_model", "keras.models", name="x"), NO_LAYER),
    "a private module of Keras": (
        chain(layer("Lambda", "tf_keras.src.layers.core.lambda_layer")),
        NO_LAYER,
    ),
    "a layer of Keras elsewhere": (chain(layer("Conv2D", EVIL)), f"{EVIL}.Conv2D"),
    "own name, other module": (
        chain(layer("L2Normalize", EVIL, "cifl_tf>L2Normalize")),
        f"{EVIL}.L2Normalize",
    ),
    "own name, similar module": (
        chain(layer("L2Normalize", "cifl_tfx", "cifl_tf>L2Normalize")),
        "cifl_tfx.L2Normalize",
    ),
    "own name, other class": (
        chain(layer("Layer", "cifl_tf.features.layers", "cifl_tf>L2Normalize")),
        r"cifl_tf.features.layers.Layer \(registered as cifl_tf>L2Normalize\)",
    ),
    "own module, no such class": (
        chain(layer("L3Normalize", "cifl_tf.features.layers", "cifl_tf>L3Normalize")),
        NO_LAYER,
    ),
    "own module, function": (
        chain(function("cifl_tf.images.atomic", "atomic_path")),
        NO_ACTIVATION,
    ),
    "own module, not registered": (
        chain(layer("atomic_path", "cifl_tf.images.atomic")),
        NO_LAYER,
    ),
    "registered by others": (chain(layer("Layer", EVIL, "Test>Evil")), NO_LAYER),
    "registered by others, of Keras": (
        chain(layer("Conv2D", registered="Test>Evil")),
        r"keras.layers.Conv2D \(registered as Test>Evil\)",
    ),
    "an operation": (
        chain(layer("TFOpLambda", function="io.write_file")),
        "write sums and TensorFlow functions as layers such as Add",
    ),
    "a slice": (chain(layer("SlicingOpLambda", function="__getitem__")), "layers such as Cropping"),
    "a lookup that reads a file": (
        chain(layer("StringLookup", vocabulary="secret.txt")),
        "keras.layers.StringLookup",
    ),
    "a text layer": (chain(layer("TextVectorization", standardize=EVIL_FUNCTION)), NO_LAYER),
    "a recurrent layer": (chain(layer("LSTM", units=1, unroll=True)), NO_LAYER),
    "a cell wrapper": (
        chain(layer("RNN", cell=layer("DropoutWrapper", "keras.__internal__.legacy.rnn_cell"))),
        NO_LAYER,
    ),
    "within TimeDistributed": (chain(layer("TimeDistributed", layer=EVIL_LAYER)), f"{EVIL}.Layer"),
    "within Bidirectional": (chain(layer("Bidirectional", layer=EVIL_LAYER)), NO_LAYER),
    "within AverageOverCopies": (chain(own("AverageOverCopies", network=EVIL_LAYER)), EVIL),
    "within FrozenFeatures": (chain(own("FrozenFeatures", encoder=EVIL_LAYER)), EVIL),
    "within an Encoder": (own("Encoder", network=chain(EVIL_LAYER)), EVIL),
    "within CIFL": (own("CIFL", encoder=EVIL_LAYER, synthesizer=None, name="cifl"), EVIL),
    "within a registration": (own("RegistrationNetwork", encoder=EVIL_LAYER, shape=[9, 9]), EVIL),
    "far within": (chain(nested(20, EVIL_LAYER)), EVIL),
    "an initializer": (chain(convolution(kernel_initializer=EVIL_FUNCTION)), NO_ACTIVATION),
    "a regularizer": (chain(convolution(kernel_regularizer=EVIL_LAYER)), NO_LAYER),
    "a constraint": (chain(convolution(kernel_constraint=EVIL_LAYER)), NO_LAYER),
    "a precision policy": (chain(convolution(dtype=layer("Policy", EVIL))), f"{EVIL}.Policy"),
    "a function as an activation": (chain(convolution(activation=EVIL_FUNCTION)), NO_ACTIVATION),
    "a builtin as an activation": (
        chain(convolution(activation=function("builtins", "eval"))),
        "names the function builtins.eval",
    ),
    "a loader as an activation": (
        chain(convolution(activation="deserialize")),
        "names the activation 'deserialize'",
    ),
    "a class as an activation": (chain(convolution(activation="cifl_tf>CIFL")), NO_ACTIVATION),
    "what a layer was built with": (
        chain({**convolution(), "build_config": {"input_shape": EVIL_LAYER}}),
        NO_LAYER,
    ),
    "a type": (
        chain(
            convolution(
                filters={
                    "class_name": "__typespec__",
                    "spec_name": "Layer",
                    "module": EVIL,
                    "config": [],
                    "registered_name": None,
                }
            )
        ),
        "__typespec__",
    ),
    "an argument of a call": (
        {**chain(), "config": {"layers": [{**image(), "inbound_nodes": [[[EVIL_FUNCTION]]]}]}},
        NO_ACTIVATION,
    ),
    "an array": (
        chain(convolution(filters={"class_name": "__numpy__", "config": {"value": [1]}})),
        "None.__numpy__",
    ),
    "an image synthesizer": (
        chain(own("PairSynthesizer", shape=[9, 9], num_labels=10**10)),
        NO_LAYER,
    ),
    "an optimizer": (layer("Adam", "keras.optimizers", name="Adam"), "keras.optimizers.Adam"),
}
NONSENSE = {
    "an empty object": ({}, "its config.json describes no network"),
    "a list": ([], "describes no network"),
    "a number": (b"1", "describes no network"),
    "no JSON": (b"{'a': 1}", "its config.json cannot be read"),
    "no text": (b"\xff\xfe\x00", "its config.json cannot be read"),
    "deep lists": (b"[" * 200000 + b"]" * 200000, "its config.json cannot be read"),
    "deep objects": (chain(nested(200, convolution())), "nested more than 100 deep"),
    "many layers": (chain(*[layer("ReLU")] * 6000), "names more than 5000 classes"),
    "a long number": (chain(convolution(filters=0)), "filters"),
    "a bare layer": (layer("Dense", units=2, name="dense"), "it holds no network but Dense"),
    "rank 1": (chain(start=image((None,))), "holds a network from|does not hold an encoder"),
    "many calls of a layer": (within_each_other(5), "more than 10000 calls of layers"),
    "many zooms": (
        own(
            "AverageOverCopies",
            network=chain(convolution()),
            zoom_factors=[0.5 + index / 1e5 for index in range(40000)],
        ),
        "at most 10, each once",
    ),
    "endless passes": (
        own("RegistrationNetwork", encoder=None, shape=[9, 9], num_cascades=10**9),
        "num_cascades is 1000000000; give 1 to 100",
    ),
    "no layers": (layer("Sequential", "keras", name="a", layers=[]), "does not hold an encoder"),
    "layers that were never built": (
        layer("Sequential", "keras", name="a", layers=[convolution(name="b")]),
        "does not hold an encoder",
    ),
    "CIFL without a network": (own("CIFL", encoder=None, synthesizer=None), "can be loaded"),
    "layers in a circle": (circle(), "layers that wait for each other"),
    "a layer on itself": (itself(), "layers that wait for each other"),
    "a constant": (constant(), "feeds constants to its layers"),
    "AverageOverCopies of a text": (
        own("AverageOverCopies", network="encoder"),
        "that can be loaded",
    ),
    "a layer without a name": (network([layer("ReLU")], "a", "b"), "its config.json has no 'name'"),
    "an output that is not there": (network([image()], "image", "nothing"), "can be loaded"),
    "many weights": (chain(convolution(filters=10**9)), "more weights than the file holds"),
    "more than 2**63 weights": (
        chain(layer("Dense", units=10**15), layer("Dense", units=10**15)),
        "more weights than the file holds",
    ),
    "many weights as it was built": (
        {**layer("PReLU", build_config={"input_shape": [1, 10**6, 10**6]}, name="many")},
        "more weights than the file holds",
    ),
    "a large registration": (
        own("RegistrationNetwork", encoder=None, shape=[9, 9], num_filters=10**6),
        "more weights than the file holds",
    ),
    "endless squarings": (
        own("RegistrationNetwork", encoder=None, shape=[9, 9], int_steps=10**9),
        "int_steps is 1000000000; give 0 to 30",
    ),
    "weights that are not there": (chain(convolution()), "layer_0|variables"),
}


@keras.saving.register_keras_serializable(package="Test")
class Evil(keras.layers.Layer):
    """Somebody's own layer, which no file may name."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        Path("RAN").touch()


@pytest.mark.parametrize(("config", "match"), NAMED.values(), ids=NAMED)
def test_nothing_outside_the_tables_is_imported_or_run(config, match, trap):
    before = set(sys.modules)
    message = refusal(model(config))
    assert re.search(match, message)
    assert not trap.exists()
    assert EVIL not in sys.modules
    assert {name.split(".")[0] for name in set(sys.modules) - before} <= {"cifl_tf", "encodings"}


@pytest.mark.parametrize(
    "content",
    [
        model(EVIL_LAYER),
        model(chain(lambda_layer(EVIL_FUNCTION))),
        model(chain(own("FrozenFeatures", encoder=EVIL_LAYER))),
        model(chain(layer("Layer", EVIL, "Test>Evil"))),
        old_format(bytecode("RAN")),
    ],
)
def test_keras_itself_falls_into_the_trap(content, trap):
    Path("encoder.keras").write_bytes(content)
    # What was loaded makes no sense afterwards, mostly.
    with contextlib.suppress(Exception):
        keras.models.load_model("encoder.keras", compile=False)(np.ones((1, 9, 9, 1)))
    assert trap.exists()


@pytest.mark.parametrize(("config", "match"), NONSENSE.values(), ids=NONSENSE)
def test_a_config_without_sense_is_refused_in_bounded_memory(config, match, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert re.search(match, refusal(model(config)))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MEMORY


def test_all_modules_that_register_classes_are_listed():
    package = Path(cifl_tf.__file__).parent
    registering = {
        file.relative_to(package).with_suffix("").as_posix().replace("/", ".")
        for file in package.rglob("*.py")
        if "@keras.saving.register_keras_serializable" in file.read_text()
    }
    assert registering == set(model_config.REGISTERING_MODULES)


def test_the_tables_name_classes_of_keras():
    for module, names in model_config.KERAS_NAMES.items():
        place = keras if module == "keras" else getattr(keras, module.removeprefix("keras."))
        for name in names.split():
            assert isinstance(getattr(place, name), type)
