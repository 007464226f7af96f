import json

import numpy as np
import pytest

from cifl_tf._notes import Note
from cifl_tf.datasets import View, stored, virtual_cohort
from cifl_tf.datasets.stored import StoredRows, batches, reader, store, training_arrays
from cifl_tf.registration.config import RegistrationConfig
from cifl_tf.registration.training import train_registration
from cifl_tf.segmentation.config import SegmentationConfig
from cifl_tf.segmentation.training import train_segmenter
from cifl_tf.training.callbacks import read_history

VIEWS = [View(3), View(num_slices=3), View(plane="axial", num_slices=2, center_label="THA")]


@pytest.fixture(scope="module")
def cohort():
    return virtual_cohort(4, resolution=8)


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr(stored, "MOST_OF_MEMORY", 0)


def test_rows_are_those_of_the_array(tmp_path, rng):
    array = rng.normal(size=(5, 4, 3)).astype(np.float32)
    (tmp_path / "rows").write_bytes(array.tobytes())
    rows = StoredRows(tmp_path / "rows", array.shape, "float32")
    assert len(rows) == 5
    np.testing.assert_array_equal(rows.read([4, 0, 4]), array[[4, 0, 4]])
    for values in (array, rows):
        np.testing.assert_array_equal(reader(values)(np.array([2, 1])), array[[2, 1]])
    labels = np.arange(5, dtype=np.int32)[:, None]
    found = [*batches(rows, labels, 2)]
    assert [len(image) for image, _ in found] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate([image for image, _ in found]), array)
    np.testing.assert_array_equal(np.concatenate([label for _, label in found]), labels)


@pytest.mark.parametrize("view", VIEWS)
def test_views_on_disk_are_those_in_memory(view, cohort, tmp_path, little_memory):
    expected = view.stack(cohort, "T1w")
    with pytest.warns(Note, match=r"4 subjects would take .* they are read from"):
        found = training_arrays(view, cohort, "T1w", tmp_path / "kept")
    for rows, array in zip(found[:2], expected[:2], strict=True):
        assert rows.shape == array.shape
        np.testing.assert_array_equal(rows.read(range(len(array))), array)
    np.testing.assert_array_equal(found[2], expected[2])
    assert (tmp_path / "kept" / "labels").stat().st_size == expected[1].size  # a byte each


def test_files_of_the_same_images_are_taken_and_others_made_anew(cohort, tmp_path):
    folder, view = tmp_path / "kept", View(num_slices=2)
    file = store(view, cohort, "T1w", folder)[0].path
    written = file.stat().st_mtime_ns
    store(view, cohort, "T1w", folder)
    assert file.stat().st_mtime_ns == written
    for change in ((View(num_slices=3), cohort, "T1w"), (view, cohort, "T2w")):
        images = store(*change, folder)[0]
        expected = change[0].stack(*change[1:])[0]
        np.testing.assert_array_equal(images.read(range(len(images))), expected)
    (folder / "about.json").write_text(json.dumps({"names": []})[:-1])  # as of a kill
    assert len(store(view, cohort, "T1w", folder)[0]) == 8


@pytest.mark.parametrize("task", ["segmentation", "cached copies", "registration"])
def test_trainings_from_disk_are_those_from_memory(task, cohort, tmp_path, monkeypatch):
    train, validation = cohort.select(cohort.names[:2]), cohort.select(cohort.names[2:])
    if task != "registration":
        copies = 2 if task == "cached copies" else None
        config = SegmentationConfig(
            "intensity",
            steps=2,
            num_slices=2,
            num_filters=2,
            cached_copies=copies,
            intensity_augmentation=False,
        )
        fit = train_segmenter
    else:
        config = RegistrationConfig("intensity", steps=2, num_slices=2, num_filters=2, int_steps=1)
        fit = train_registration
    histories = []
    for name, share in (("memory", 1.0), ("disk", 0.0)):
        monkeypatch.setattr(stored, "MOST_OF_MEMORY", share)
        fit(tmp_path / name, config, train, validation, verbose=0)
        histories.append(read_history(tmp_path / name / "history.csv"))
        assert not [*(tmp_path / name).rglob(".images")]
    assert histories[0] == histories[1]
