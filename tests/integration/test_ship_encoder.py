import hashlib
import shutil

import numpy as np
import pytest
from matplotlib.image import imread

import cifl_tf
import ship_encoder
from cifl_tf.features import pretrained
from cifl_tf.training.callbacks import read_history


@pytest.fixture
def script(tmp_path, monkeypatch):
    """The script, which ships to a new folder, from which the package loads."""
    for one in (ship_encoder, pretrained):
        monkeypatch.setattr(one, "WEIGHTS", tmp_path / "weights")
    return ship_encoder


def expected_sums(weights, *names):
    """The file of ``sha256sum``, by name."""
    files = ("config.json", "encoder.keras", "history.csv", "training.png")
    paths = [f"{name}/{file}" for name in names for file in files]
    return "".join(
        f"{hashlib.sha256((weights / path).read_bytes()).hexdigest()}  {path}\n" for path in paths
    )


def test_what_is_shipped_loads(script, model_folder, tmp_path, monkeypatch, capsys):
    weights, drawn = tmp_path / "weights", {}
    figure = script.curve_figure

    def remembered(steps, curves):
        drawn.update(steps=steps, **curves)
        return figure(steps, curves)

    monkeypatch.setattr(script, "curve_figure", remembered)
    script.main([str(model_folder), "tiny-2d"])
    card = weights / "tiny-2d" / "README.md"
    assert capsys.readouterr().out.startswith(f"Now write {card}, then renew the checksums: ")
    shipped = {path.name for path in (weights / "tiny-2d").iterdir()}
    assert shipped == {"encoder.keras", "config.json", "history.csv", "training.png"}
    for name in ("config.json", "history.csv"):
        copy = weights / "tiny-2d" / name
        assert copy.read_bytes() == (model_folder / name).read_bytes()
    assert imread(weights / "tiny-2d" / "training.png").std() > 0.05
    rows = read_history(model_folder / "history.csv")
    assert drawn.pop("steps") == [int(row["step"]) for row in rows] == [4]
    assert set(drawn) >= {"loss", "pair_similarity", "channel_similarity"}
    for name, values in drawn.items():
        assert values == [float(row[name]) for row in rows]
    assert {path.name for path in weights.iterdir()} == {"tiny-2d", "SHA256SUMS"}
    assert (weights / "SHA256SUMS").read_text() == expected_sums(weights, "tiny-2d")

    shipped = cifl_tf.load_pretrained("tiny-2d")
    assert shipped.preprocessing.voxel_range == ((0.8, 2.5),) * 3
    found = shipped.get_weights()
    trained = cifl_tf.load_encoder(model_folder).get_weights()
    for one, other in zip(found, trained, strict=True):
        np.testing.assert_array_equal(one, other)


def test_checksums_are_renewed_for_all_names(script, model_folder, tmp_path):
    weights, sums = tmp_path / "weights", tmp_path / "weights" / "SHA256SUMS"
    script.ship(model_folder, "second-2d")
    script.ship(model_folder, "first-2d")
    assert sums.read_text() == expected_sums(weights, "first-2d", "second-2d")
    before = sums.read_text()
    other = tmp_path / "other"
    shutil.copytree(model_folder, other)
    changed = cifl_tf.load_encoder(model_folder)
    changed.set_weights([2 * weight for weight in changed.get_weights()])
    changed.save(other / "encoder.keras")
    script.ship(other, "second-2d")
    assert sums.read_text() == expected_sums(weights, "first-2d", "second-2d") != before
    found = cifl_tf.load_pretrained("second-2d").get_weights()
    np.testing.assert_array_equal(found[0], changed.get_weights()[0])
    assert list(cifl_tf.pretrained_encoders()) == ["first-2d", "second-2d"]


def test_a_folder_without_an_encoder_changes_no_checksum(script, model_folder, tmp_path):
    script.ship(model_folder, "first-2d")
    before = (tmp_path / "weights" / "SHA256SUMS").read_text()
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        script.main([str(tmp_path), "second-2d"])
    assert (tmp_path / "weights" / "SHA256SUMS").read_text() == before
    cifl_tf.load_pretrained("first-2d")


def test_the_card_is_covered_once_the_checksums_are_renewed(script, model_folder, tmp_path):
    script.ship(model_folder, "tiny-2d")
    card = tmp_path / "weights" / "tiny-2d" / "README.md"
    card.write_text("# tiny-2d")
    (card.parent / ".DS_Store").touch()
    script.main(["--checksums"])
    listed = [line.split("  ")[1] for line in (card.parents[1] / "SHA256SUMS").open()]
    assert "tiny-2d/README.md\n" in listed
    assert len(listed) == 5
    cifl_tf.load_pretrained("tiny-2d")
    card.write_text("# another")
    with pytest.raises(ValueError, match=r"README.md is damaged"):
        cifl_tf.load_pretrained("tiny-2d")


@pytest.mark.parametrize("arguments", [[], ["folder"], ["folder", "name", "--checksums"]])
def test_arguments(script, arguments, capsys):
    with pytest.raises(SystemExit):
        script.main(arguments)
    assert "give the folder of a training and a name, or --checksums" in capsys.readouterr().err
