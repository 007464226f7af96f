import json

import numpy as np
import pytest
from matplotlib.image import imread

import cifl_tf as cifl
import show_features
from cifl_tf.datasets import virtual_cohort

CONTRASTS = ("T1w", "T1w:inverted", "FLAIR")
FEATURES = {"correlation": 0.9, "matching": 0.5}


def scores(variant, steps, dice):
    """What ``study_features.py`` knows of one encoder."""
    of_tasks = {
        task: {contrast: {"dice": dice} for contrast in CONTRASTS}
        for task in ("segmentation", "registration")
    }
    features = {contrast: FEATURES for contrast in CONTRASTS[1:]}
    return {"variant": variant, "steps": steps, "seed": 0, "features": features, **of_tasks}


def test_all_pictures_are_drawn(tmp_path, monkeypatch):
    cohort = virtual_cohort(8, resolution=8)
    monkeypatch.setattr(show_features, "load_cohort", lambda *_, **__: cohort)
    rows = [scores("untrained", 0, 0.6), scores("unsigned-500", 30, 0.7), scores("short", 100, 0.8)]
    (tmp_path / "study.json").write_text(json.dumps({"encoders": rows}))
    for name in ("short-seed-0", "unsigned-seed-0"):
        folder = tmp_path / "encoders" / name
        folder.mkdir(parents=True)
        cifl.build_encoder(2, num_features=3, num_filters=2).save(folder / "encoder.keras")
    network = cifl.build_segmenter(None, cohort.num_labels, ndim=3, num_filters=2, num_levels=2)
    cifl.Segmenter(network).save(tmp_path / "segmenter.keras")
    options = {"study": "study.json", "encoders": "encoders", "segmenter": "segmenter.keras"}
    paths = [f"--{name}={tmp_path / file}" for name, file in options.items()]
    show_features.main(["--data", "virtual", *paths, "--out", str(tmp_path / "pictures")])
    drawn = {path.stem for path in (tmp_path / "pictures").iterdir()}
    of_slices = {"colors", "similarity", "distance", "channels", "steps", "choices", "yardstick"}
    assert drawn == of_slices | {"masks", "borders"}
    for path in (tmp_path / "pictures").iterdir():
        assert imread(path).std() > 0.05


def test_a_match_is_found_where_the_other_image_has_moved(rng):
    mask = np.ones((20, 18), bool)
    features = rng.normal(size=(20, 18, 8))
    moved = np.roll(features, (2, -1), axis=(0, 1))
    distance = show_features.match_distance(features, moved, mask)
    assert np.median(distance) == pytest.approx(5**0.5)
    np.testing.assert_array_equal(show_features.match_distance(features, features, mask), 0)
