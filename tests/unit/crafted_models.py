"""Model files that somebody may hand over: what is in a good one, and parts of bad ones."""

import base64
import io
import json
import marshal
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import cifl_tf
from cifl_tf._compat import keras
from cifl_tf.models.files import ENCODER, load_network

EVIL = "evil_model_module"  # a module whose import, and whose function run, leave a sentinel
MOST_MEMORY = 300 * 1024  # KiB more than before
METADATA = json.dumps({"keras_version": "2.15.0", "date_saved": "2024-01-01@00:00:00"}).encode()


def members_of(file):
    """The members of a zip by name."""
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(*members, compression=zipfile.ZIP_STORED, comment=b""):
    """The bytes of a zip of pairs (name, content)."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
        archive.comment = comment
    return stream.getvalue()


def model(config, weights=None, **options):
    """The bytes of a model file; ``config`` is written as JSON unless it is bytes."""
    if not isinstance(config, bytes):
        config = json.dumps(config).encode()
    return zipped(
        ("metadata.json", METADATA),
        ("config.json", config),
        ("model.weights.h5", hdf5() if weights is None else weights),
        **options,
    )


def hdf5(fill=lambda file: None):
    """The bytes of an HDF5 file that a function fills."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.create_group("vars")
        fill(file)
    return stream.getvalue()


def layer(kind, module="keras.layers", registered=None, build_config=None, **config):
    """A layer, or another object, of a config."""
    found = {"module": module, "class_name": kind, "registered_name": registered, "config": config}
    return found if build_config is None else {**found, "build_config": build_config}


def own(kind, **config):
    """An object of this package in a config."""
    return layer(kind, "cifl_tf.any", f"cifl_tf>{kind}", **config)


def function(module, name):
    """A function in a config."""
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


EVIL_FUNCTION = function(EVIL, "run")
EVIL_LAYER = layer("Layer", EVIL, "Layer", name="evil")


def image(shape=(None, None, None, 1), name="image"):
    """The input of a network."""
    return {
        **layer("InputLayer", batch_input_shape=list(shape), dtype="float32", name=name),
        "name": name,
        "inbound_nodes": [],
    }


def chain(*layers, start=None):
    """The config of a network of layers one after another."""
    start = start or image()
    listed, before = [start], start["name"]
    for index, each in enumerate(layers):
        name = f"layer_{index}"
        config = each["config"]
        if isinstance(config, dict):
            config = {"name": name, **config}
        nodes = [[[before, 0, 0, {}]]]
        listed.append({**each, "config": config, "name": name, "inbound_nodes": nodes})
        before = name
    return network(listed, start["name"], before)


def network(layers, first, last):
    """The config of a functional network."""
    return layer(
        "Functional",
        "tf_keras.src.engine.functional",
        "Functional",
        name="encoder",
        layers=layers,
        input_layers=[[first, 0, 0]],
        output_layers=[[last, 0, 0]],
    )


def convolution(**config):
    """A convolution to two channels."""
    return layer("Conv2D", **{"filters": 2, "kernel_size": [3, 3], "padding": "same", **config})


def bytecode(sentinel):
    """Marshalled code of a function that writes a file."""
    source = f"lambda image: [image, open({str(sentinel)!r}, 'w')][0]"
    code = compile(source, "evil", "eval").co_consts[0]
    return base64.b64encode(marshal.dumps(code)).decode()


def old_format(code):
    """The bytes of a model in the old HDF5 format with bytecode in a Lambda layer."""
    listed = [
        {"class_name": "InputLayer", "config": image()["config"], "name": "image"},
        {
            "class_name": "Lambda",
            "config": {
                "name": "lambda",
                "dtype": "float32",
                "function": [code, None, None],
                "function_type": "lambda",
                "module": "builtins",
                "output_shape": None,
                "output_shape_type": "raw",
                "output_shape_module": None,
                "arguments": {},
            },
            "name": "lambda",
            "inbound_nodes": [[["image", 0, 0, {}]]],
        },
    ]
    listed[0]["inbound_nodes"] = []
    config = {
        "class_name": "Functional",
        "config": {
            "name": "encoder",
            "layers": listed,
            "input_layers": [["image", 0, 0]],
            "output_layers": [["lambda", 0, 0]],
        },
    }
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        group = file.create_group("model_weights")
        for place in (file, group):
            place.attrs["keras_version"], place.attrs["backend"] = "2.15.0", "tensorflow"
        file.attrs["model_config"] = json.dumps(config)
        group.attrs["layer_names"] = [b"image", b"lambda"]
        for name in ("image", "lambda"):
            group.create_group(name).attrs["weight_names"] = np.array([], dtype="S1")
    return stream.getvalue()


def claiming(content, name, size):
    """A zip whose directory and header claim another size of a member before it was packed."""
    changed = bytearray(content)
    for signature, place_of_size, place_of_name in ((b"PK\1\2", 24, 46), (b"PK\3\4", 22, 30)):
        start = changed.find(signature)
        while start >= 0:
            if changed[start + place_of_name :].startswith(name.encode()):
                struct.pack_into("<L", changed, start + place_of_size, size)
            start = changed.find(signature, start + 1)
    return bytes(changed)


def saved(network, folder, name="encoder.keras"):
    """The bytes of a network, as Keras saves it."""
    network.save(folder / name)
    return (folder / name).read_bytes()


def small_encoder():
    """An encoder of few weights."""
    return cifl_tf.build_encoder(2, 2, 1)


def strided_encoder():
    """A network whose output has another size than its image."""
    image = keras.Input((None, None, 1))
    return keras.Model(image, keras.layers.Conv2D(2, 3, 2, padding="same")(image))


def refusal(content, kind=ENCODER):
    """What is said about a model file of this content."""
    Path("encoder.keras").write_bytes(content)
    with pytest.raises(ValueError, match=r"encoder\.keras ") as raised:
        load_network("encoder.keras", kind)
    message = str(raised.value)
    assert "\n" not in message
    assert len(message) < 500
    return message
