import random
import time

import numpy as np

import cifl_tf
from cifl_tf.cli.main import app
from cifl_tf.training import folder as training_folder
from cifl_tf.training.callbacks import read_history
from command_runner import PROCESSES, run_here

STEPS, STEPS_PER_EPOCH = 90, 20
OPTIONS = ["--steps", STEPS, "--shape", "24,24", "--num-features", "3", "--num-filters", "2"]


def work(command):
    """``cifl`` in a process, with short epochs."""
    training_folder.MAX_STEPS_PER_EPOCH = STEPS_PER_EPOCH
    app(command)


def test_training_survives_kills_at_random_moments(tmp_path, monkeypatch):
    monkeypatch.setattr(training_folder, "MAX_STEPS_PER_EPOCH", STEPS_PER_EPOCH)
    folder = tmp_path / "model"
    command = [*map(str, ("train", "--out", folder, *OPTIONS))]
    history = folder / "history.csv"
    done = 0
    for _ in range(2):
        process = PROCESSES.Process(target=work, args=(command,))
        process.start()
        # Somewhere in the first two epochs of this run, saving included.
        while len(read_history(history)) <= done and process.is_alive():
            time.sleep(0.01)
        time.sleep(random.SystemRandom().uniform(0, 1))
        process.kill()
        process.join()
        done = len(read_history(history))
        assert done > 0
        cifl_tf.load_encoder(folder)  # complete at any moment
    process = PROCESSES.Process(target=work, args=(command,))
    process.start()
    process.join()
    assert process.exitcode == 0
    rows = read_history(history)
    assert [int(row["epoch"]) for row in rows] == list(range(5))
    steps = [int(row["step"]) for row in rows]
    assert steps == sorted(set(steps))
    assert steps[-1] == STEPS
    undisturbed = tmp_path / "undisturbed"
    assert run_here("train", "--out", undisturbed, *OPTIONS).exit_code == 0
    weights = [cifl_tf.load_encoder(one).get_weights() for one in (folder, undisturbed)]
    for killed, whole in zip(*weights, strict=True):
        np.testing.assert_array_equal(killed, whole)
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]
