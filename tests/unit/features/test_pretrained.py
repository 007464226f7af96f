import dataclasses
import json
import re
import shlex
import shutil

import numpy as np
import pytest

import cifl_tf
from cifl_tf.cli import main as cli
from cifl_tf.features import pretrained
from cifl_tf.models import files
from cifl_tf.training.claims import read_config

MOST_BYTES = 5 * 1024**2


@pytest.fixture
def copied_weights(tmp_path, monkeypatch):
    """The package's weights in a folder that a test may damage."""
    folder = tmp_path / "weights"
    shutil.copytree(pretrained.WEIGHTS, folder)
    monkeypatch.setattr(pretrained, "WEIGHTS", folder)
    return folder


@pytest.mark.parametrize("name", cifl_tf.pretrained_encoders())
def test_each_loads_and_has_a_card(name):
    shipped = cifl_tf.pretrained_encoders()[name]
    encoder = cifl_tf.load_pretrained(name)
    ndim = int(re.match(r"shapes-(\d)d", name)[1])
    assert len(encoder.input_shape) == ndim + 2
    assert {layer.compute_dtype for layer in encoder.layers} == {"float32"}
    features = encoder(np.random.default_rng(0).random((1, *[24] * ndim, 1), np.float32)).numpy()
    assert features.std() > 0.1
    for file in shipped.folder.iterdir():
        assert file.stat().st_size <= MOST_BYTES
    assert shipped.card.startswith(f"# {name}\n")
    assert "not for clinical use" in shipped.card
    assert shipped.summary
    assert "\n" not in shipped.summary


def test_names_stand_where_paths_do(tmp_path, monkeypatch):
    by_name = cifl_tf.load_encoder("shapes-2d")
    for weight, same in zip(
        by_name.weights, cifl_tf.load_pretrained("shapes-2d").weights, strict=True
    ):
        np.testing.assert_array_equal(weight.numpy(), same.numpy())
    assert pretrained.load_features("intensity") is None
    assert pretrained.load_features("shapes-2d", 3).output_shape == (None, None, None, None, 48)
    other = cifl_tf.build_encoder(2, 3, 2)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shapes-2d").mkdir()
    other.save("shapes-2d/encoder.keras")
    assert cifl_tf.load_encoder("shapes-2d").output_shape == by_name.output_shape
    assert cifl_tf.load_encoder("./shapes-2d").output_shape == other.output_shape


def test_the_command_of_the_card_asks_for_this_encoder(monkeypatch):
    asked = []
    monkeypatch.setattr("cifl_tf.features.training.train", lambda out, config: asked.append(config))
    for shipped in cifl_tf.pretrained_encoders().values():
        program, *arguments = shlex.split(re.search(r"^cifl train .*$", shipped.card, re.M)[0])
        assert program == "cifl"
        cli.app(arguments, standalone_mode=False)
        found = read_config(shipped.folder)
        expected = json.loads(json.dumps(dataclasses.asdict(asked.pop())))
        # What came later than an encoder is off in its training.
        missing = {name: value for name, value in expected.items() if name not in found}
        assert not any(missing.values())
        assert {**found, **missing} == {"version": found["version"], **expected}
        encoder = cifl_tf.load_pretrained(shipped.name)
        assert found["ndim"] == len(encoder.input_shape) - 2
        assert found["num_features"] == encoder.output_shape[-1]


def test_refuses(copied_weights):
    with pytest.raises(ValueError, match=r"no pretrained weights 'shapes-4d'; choose from \['"):
        cifl_tf.load_pretrained("shapes-4d")
    with pytest.raises(ValueError, match=r"nowhere does not exist; give .* one of \[.*'shapes-2d'"):
        cifl_tf.load_encoder("nowhere")
    file = copied_weights / "shapes-2d" / "encoder.keras"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"is damaged: its SHA-256 is .*; install cifl_tf again"):
        cifl_tf.load_encoder("shapes-2d")
    file.unlink()
    with pytest.raises(ValueError, match="is missing; install cifl_tf again"):
        cifl_tf.load_pretrained("shapes-2d")


@pytest.mark.parametrize("changed", ["encoder.keras", "config.json", "README.md", "training.png"])
def test_every_file_is_checked_by_path_as_by_name(changed, copied_weights, tmp_path, monkeypatch):
    folder = copied_weights / "shapes-2d"
    link = tmp_path / "link"
    link.symlink_to(folder)
    monkeypatch.chdir(copied_weights)
    ways = ["shapes-2d", folder, folder / "encoder.keras", "./shapes-2d", link]
    for way in ways:
        assert cifl_tf.load_encoder(way).output_shape[-1] == 16
    content = (folder / changed).read_bytes()
    (folder / changed).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    for way in ways:
        with pytest.raises(ValueError, match=f"{changed} is damaged: its SHA-256"):
            cifl_tf.load_encoder(way)
    cifl_tf.load_encoder("shapes-3d")


def test_other_files_among_the_weights(copied_weights, tiny_encoder, tmp_path):
    other = copied_weights / "shapes-2d" / "other.keras"
    tiny_encoder.save(other)
    (copied_weights / "shapes-2d" / ".DS_Store").touch()
    cifl_tf.load_pretrained("shapes-2d")
    with pytest.raises(ValueError, match="does not ship with cifl_tf, but lies among what does"):
        cifl_tf.load_encoder(other)
    shutil.copy(other, tmp_path / "mine.keras")
    assert cifl_tf.load_encoder(tmp_path / "mine.keras").output_shape == tiny_encoder.output_shape


def test_the_bytes_that_were_checked_are_loaded(copied_weights, monkeypatch):
    load = files.load_network

    def exchanged(file, **options):
        file.write_bytes(b"something else")
        return load(file, **options)

    monkeypatch.setattr(files, "load_network", exchanged)
    assert cifl_tf.load_pretrained("shapes-2d").output_shape[-1] == 16
