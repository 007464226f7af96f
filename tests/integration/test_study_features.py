import json

import numpy as np
import pytest

import study_features
import study_variants
from cifl_tf.datasets import virtual_cohort
from cifl_tf.features.encoder import build_encoder
from cifl_tf.features.training import TrainingConfig
from cifl_tf.registration.instance import InstanceSettings
from unreadable_subjects import with_unreadable

TESTED = ("virtual-007", "virtual-008")
CONFIG = TrainingConfig(shape=(24, 24), num_features=3, num_filters=2, batch_size=1, steps=4)


@pytest.fixture
def script(monkeypatch):
    """The script on small subjects, of which those that test cannot be read, and two variants."""
    cohort = with_unreadable(virtual_cohort(8, resolution=8), TESTED)
    monkeypatch.setattr(study_features, "load_cohort", lambda data: cohort)
    monkeypatch.setattr(study_features, "study_contrasts", lambda cohort: ["T1w", "FLAIR"])
    quick = InstanceSettings(scales=(2,), steps=(2,))
    tiny = [
        study_variants.Variant("reference", "intensities", settings=quick),
        study_variants.Variant("length", "tiny", CONFIG, quick),
    ]
    monkeypatch.setattr(study_features, "variants", lambda: tiny)
    monkeypatch.setattr(study_features, "SNAPSHOTS", (1, 2))
    return study_features


def test_encoders_on_the_way_are_scored_and_an_interrupted_run_goes_on(script, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["--data", "virtual", "--out", str(out), "--num-slices", "1"]
    script.main(arguments)
    text = (out / "study.md").read_text()
    assert "Subjects that choose: virtual-005, virtual-006; the test subjects were not" in text
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert [row[1:4] for row in rows[2:]] == [
        ["intensities", "0", "0"],
        *(["tiny", "0", steps] for steps in ("1", "2", "4")),
    ]
    found = json.loads((out / "study.json").read_text())["encoders"]
    ranks = [scores["features"]["FLAIR"]["effective rank"] for scores in found]
    assert ranks[0] == pytest.approx(1)
    assert len(set(ranks)) == 4  # each is another encoder
    assert all(1 < rank <= 3 for rank in ranks[1:])
    before = {scores["registration"]["T1w"]["dice before"] for scores in found}
    assert len(before) == 1
    assert 0 < before.pop() < 1

    files = {path: path.stat().st_mtime_ns for path in out.rglob("*.json") if path.parent != out}
    capsys.readouterr()
    script.main(arguments)
    again = {path: path.stat().st_mtime_ns for path in out.rglob("*.json") if path.parent != out}
    assert again == files
    assert capsys.readouterr().out == text + "\n"  # no line on anything being done


def test_two_scales_are_the_features_beside_those_of_the_coarser_image():
    encoder = build_encoder(2, num_features=3, num_filters=2)
    blocks = np.random.default_rng(0).random((1, 8, 9, 1), np.float32)
    image = blocks.repeat(2, axis=1).repeat(2, axis=2)[:, :, :17]  # an odd size too
    features = study_variants.at_two_scales(encoder)(image).numpy()
    assert features.shape == (1, 16, 17, 6)
    np.testing.assert_allclose(features[..., :3], encoder(image), atol=1e-6)
    # Bilinear values at the first voxel are those of the first block.
    np.testing.assert_allclose(features[0, 0, 0, 3:], encoder(blocks)[0, 0, 0], atol=1e-5)


def test_each_variant_is_another_one():
    variants = study_variants.variants()
    names = [variant.name for variant in variants]
    assert len(set(names)) == len(names)
    trained = {variant.name for variant in variants if variant.config and not variant.training}
    shared = {variant.training for variant in variants if variant.config and variant.training}
    assert shared == {"small-60"}
    assert shared <= trained


def test_only_long_trainings_are_scored_on_the_way():
    assert study_features.Study.snapshots(60) == []
    assert study_features.Study.snapshots(500) == [30, 60, 120, 250]
