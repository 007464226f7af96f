import os
import pickle
import re
import resource
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from cifl_tf._compat import keras
from cifl_tf.models.files import load_network
from crafted_models import (
    METADATA,
    MOST_MEMORY,
    bytecode,
    claiming,
    hdf5,
    model,
    old_format,
    refusal,
    zipped,
)


def flagged(content):
    """A zip of which every member is said to be encrypted."""
    changed = bytearray(content)
    for signature, place in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        start = changed.find(signature)
        while start >= 0:
            changed[start + place] |= 1
            start = changed.find(signature, start + 1)
    return bytes(changed)


def with_large_directory(content):
    """A zip that refers to a directory of 4 GiB before its end, as zips of that size do."""
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1)
    return content[:-22] + locator + content[-22:]


def flipped(content):
    """A zip with a damaged byte in its last member."""
    place = content.rfind(b"\x89HDF") + 600
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


BLANKS = b" " * (300 << 20)
WRONG_MEMBERS = "the zip holds .*, but a model holds config.json, metadata.json, model.weights.h5"
CONTAINERS = {
    "the old format with bytecode": (
        lambda good: old_format(bytecode("RAN")),
        "in the old HDF5 format, which can hold code",
    ),
    "the old format and a zip": (
        lambda good: old_format(bytecode("RAN")) + model(good["config.json"]),
        "in the old HDF5 format",
    ),
    "nothing": (lambda good: b"", "no zip, or its end is missing"),
    "a text": (lambda good: b"a network" * 100, "no zip"),
    "a pickle": (lambda good: pickle.dumps(os.getcwd), "no zip"),
    "a zip without its end": (lambda good: model(good["config.json"])[:-30], "no zip"),
    "a zip without its start": (
        lambda good: model(good["config.json"])[3000:],
        "the zip cannot be read",
    ),
    "an empty zip": (lambda good: zipped(), WRONG_MEMBERS),
    "no weights": (lambda good: zipped(*list(good.items())[:2]), WRONG_MEMBERS),
    "no config": (
        lambda good: zipped(*(pair for pair in good.items() if pair[0] != "config.json")),
        WRONG_MEMBERS,
    ),
    "an asset": (lambda good: zipped(*good.items(), ("assets/a.txt", b"x")), WRONG_MEMBERS),
    "a path upwards": (lambda good: zipped(*good.items(), ("../RAN", b"x")), WRONG_MEMBERS),
    "an absolute path": (
        lambda good: zipped(*good.items(), (f"{os.getcwd()}/RAN", b"x")),
        WRONG_MEMBERS,
    ),
    "NumPy's weights": (
        lambda good: zipped(
            ("metadata.json", METADATA),
            ("config.json", good["config.json"]),
            ("model.weights.npz", b""),
        ),
        WRONG_MEMBERS,
    ),
    "two configs": (
        lambda good: zipped(*good.items(), ("config.json", good["config.json"])),
        WRONG_MEMBERS,
    ),
    "encrypted": (lambda good: flagged(zipped(*good.items())), "is encrypted"),
    "another compression": (
        lambda good: zipped(*good.items(), compression=zipfile.ZIP_BZIP2),
        "compressed in another way",
    ),
    "a comment": (lambda good: zipped(*good.items(), comment=b"x" * 9), "no zip"),
    "many members": (
        lambda good: zipped(*((f"{index:0200}", b"") for index in range(6000))),
        "another kind of zip",
    ),
    "a second directory": (
        lambda good: with_large_directory(zipped(*good.items())),
        "another kind of zip",
    ),
    "a damaged byte": (
        lambda good: flipped(zipped(*good.items())),
        "the zip cannot be read: Bad CRC",
    ),
    "a smaller claim": (
        lambda good: claiming(
            model(good["config.json"] + BLANKS, compression=zipfile.ZIP_DEFLATED),
            "config.json",
            1000,
        ),
        "the zip cannot be read: Bad CRC",
    ),
    "a larger claim": (
        lambda good: claiming(
            model(good["config.json"], compression=zipfile.ZIP_DEFLATED), "config.json", 2**20
        ),
        "config.json has [0-9]+ bytes, but claims to have 1048576|the zip cannot be read",
    ),
    "a bomb as config": (
        lambda good: model(good["config.json"] + BLANKS, compression=zipfile.ZIP_DEFLATED),
        r"config.json has 300.0 MiB, packed into 0.3 MiB; 2.0 are allowed",
    ),
    "a bomb as weights": (
        lambda good: model(good["config.json"], BLANKS, compression=zipfile.ZIP_DEFLATED),
        r"model.weights.h5 has 300.0 MiB, packed into 0.3 MiB; 3.3 are allowed",
    ),
}


@pytest.mark.parametrize(("content", "match"), CONTAINERS.values(), ids=CONTAINERS)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_another_container_is_refused_in_bounded_memory(content, match, good, trap):
    content = content(good)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert re.search(match, refusal(content))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MEMORY
    assert not trap.exists()
    assert not (trap.parent.parent / "RAN").exists()


def external(file):
    file.create_dataset("layers/x", (6,), "u1", external=[("secret.txt", 0, 6)])


def virtual(file):
    layout = h5py.VirtualLayout((6,), "u1")
    layout[:] = h5py.VirtualSource("other.h5", "secret", (6,))
    file.create_virtual_dataset("x", layout)


def soft_link(file):
    file["x"] = h5py.SoftLink("/vars")


def external_link(file):
    file["x"] = h5py.ExternalLink("other.h5", "/secret")


def reference(file):
    file.create_dataset("x", data=file["vars"].ref, dtype=h5py.ref_dtype)


def compressed(file):
    file.create_dataset("x", (2**30,), "f4", compression="gzip", chunks=(2**20,))


def unwritten(file):
    file.create_dataset("x", (2**40,), "f4")


def named_type(file):
    file["x"] = np.dtype("f4")


def of_texts(file):
    file.create_dataset("x", data=["secret", "text"], dtype=h5py.string_dtype())


def nothing_in_it(file):
    file.create_dataset("x", data=h5py.Empty("f4"))


WEIGHTS = {
    "in another file": (external, "'/layers/x', which is compressed, or lies in another file"),
    "pieces of another file": (virtual, "lies in another file"),
    "a soft link": (soft_link, "has a link to another place, 'x'"),
    "a link to another file": (external_link, "has a link to another place, 'x'"),
    "a reference": (reference, "'/x', which holds no numbers"),
    "texts": (of_texts, "'/x', which holds no numbers"),
    "a type": (named_type, "'/x', which holds no numbers"),
    "nothing": (nothing_in_it, "'/x', which holds no numbers"),
    "compressed": (compressed, "'/x', which is compressed"),
    "never written": (unwritten, "claims 4398046511104 bytes, but 0 are there"),
}


@pytest.mark.parametrize(("fill", "match"), WEIGHTS.values(), ids=WEIGHTS)
def test_weights_that_lie_elsewhere_are_refused(fill, match, good, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("secret.txt").write_text("secret")
    with h5py.File("other.h5", "w") as file:
        file["secret"] = np.arange(6, dtype="u1")
    read = []
    monkeypatch.setattr(keras.models, "load_model", lambda *_, **__: read.append(1))
    assert re.search(match, refusal(model(good["config.json"], hdf5(fill))))
    assert not read


def changed_weights(good, change):
    """The good weights after a change to the first dataset."""
    stream = Path("weights.h5")
    stream.write_bytes(good["model.weights.h5"])
    with h5py.File(stream, "r+") as file:
        place = "layers/conv2d/vars/0"
        change(file, place)
    return stream.read_bytes()


def set_value(value):
    def change(file, place):
        file[place][0, 0, 0, 0] = value

    return change


def set_shape(file, place):
    del file[place]
    file[place] = np.zeros((3, 3, 2, 1), np.float32)


def remove(file, place):
    del file[place]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (set_value(np.nan), "holds weights that are NaN or infinite, in its layer 'conv_0'"),
        (set_value(np.inf), "holds weights that are NaN or infinite"),
        (set_shape, "(?i)shape"),
        (remove, "expected 2 variables"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change, match, good, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = model(good["config.json"], changed_weights(good, change))
    assert re.search(match, refusal(content))


def test_weights_that_are_no_hdf5_are_refused(good, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for weights in (b"", b"text", good["model.weights.h5"][:-5000]):
        message = refusal(model(good["config.json"], weights))
        assert "model.weights.h5 is damaged" in message


def test_a_group_within_itself_is_looked_at_once(good, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def add_circle(file, place):
        file["layers/again"] = file["/"]

    Path("encoder.keras").write_bytes(model(good["config.json"], changed_weights(good, add_circle)))
    assert load_network("encoder.keras").output_shape == (None, None, None, 2)
