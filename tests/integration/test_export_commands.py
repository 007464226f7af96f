import tensorflow as tf

import cifl_tf
from cifl_tf.registration.loading import REGISTRATION_FILE
from cifl_tf.segmentation.loading import SEGMENTER_FILE
from cifl_tf.training.claims import claim_folder
from command_runner import assert_one_line_error, run_here


def test_segment_export(tmp_path):
    labels = {"label_names": ["background", "a", "b"], "label_values": [5, 41, 8]}
    claim_folder(tmp_path / "model", {"plane": "coronal", **labels})
    cifl_tf.build_segmenter(None, 3, 2, 2, 2).save(tmp_path / "model" / SEGMENTER_FILE)
    arguments = ["segment", "export", "--model", tmp_path / "model", "--out", tmp_path / "out"]
    done = run_here(*arguments)
    assert done.output == f"The SavedModel is in {tmp_path / 'out'}.\n"
    told = run_here("info", tmp_path / "out").stdout.splitlines()
    assert told[0] == f"model        segmenter of cifl_tf {cifl_tf.__version__}"
    assert "slices       coronal" in told
    assert told[-1] == "labels       5 background, 41 a, 8 b"
    outputs = tf.saved_model.load(str(tmp_path / "out"))(tf.random.normal((2, 9, 10, 1)))
    expected = tf.gather([5, 41, 8], tf.argmax(outputs["probabilities"], axis=-1))
    assert tf.reduce_all(outputs["labels"] == expected)
    again = run_here(*arguments)
    assert again.exit_code == 1
    assert again.stderr == f"cifl: {tmp_path / 'out'} exists and is not empty; give a new folder\n"


def test_register_export(tmp_path):
    arguments = ["register", "export", "--model", tmp_path, "--out", tmp_path / "out"]
    missing = run_here(*arguments)
    assert missing.exit_code == 1
    assert missing.stderr.startswith(f"cifl: {tmp_path / REGISTRATION_FILE} does not exist; give")
    cifl_tf.RegistrationNetwork(None, (16, 20)).save(tmp_path / REGISTRATION_FILE)
    assert run_here(*arguments).output == f"The SavedModel is in {tmp_path / 'out'}.\n"
    images = tf.random.normal((2, 2, 16, 20, 1))
    outputs = tf.saved_model.load(str(tmp_path / "out"))(*images)
    assert outputs["displacement"].shape == (2, 16, 20, 2)
    assert outputs["warped"].shape == (2, 16, 20, 1)


def test_folders_that_are_no_saved_model(tmp_path):
    assert_one_line_error(run_here("info", tmp_path), "give the folder of a SavedModel")
    assert_one_line_error(run_here("info", tmp_path / "none"), "choose from")
