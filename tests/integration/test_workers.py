"""Trainings of several processes together, as on several machines."""

import json
import os
import socket
import sys
import time

import numpy as np
import pytest

import cifl_tf
from cifl_tf.cli.main import app
from cifl_tf.training import folder as training_folder
from cifl_tf.training.callbacks import read_history
from command_runner import PROCESSES, run_here

SMALL = ["--shape", "28,28", "--num-features", "3", "--num-filters", "2", "--window", 0]


def work(cluster, index, command, errors):
    """``cifl`` in a process that is one of a cluster; a step is an epoch."""
    task = {"type": "worker", "index": index}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": cluster}, "task": task})
    training_folder.MAX_STEPS_PER_EPOCH = 1
    with open(errors, "w") as sys.stderr:
        app(command)


def start(tmp_path, *arguments, count=2):
    """Start a command in several processes; their errors go to files by their number."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    cluster = [f"localhost:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    command = [*map(str, arguments)]
    started = []
    for index in range(count):
        given = cluster, index, command, tmp_path / f"errors-{index}"
        started.append(PROCESSES.Process(target=work, args=given))
        started[-1].start()
    return started


def ended(processes):
    """Exit codes of processes, once all have ended."""
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


def losses(folder):
    return [float(row["loss"]) for row in read_history(folder / "history.csv")]


@pytest.fixture
def epochs_of_a_step(monkeypatch):
    monkeypatch.setattr(training_folder, "MAX_STEPS_PER_EPOCH", 1)


def test_an_encoder_of_two_processes_is_that_of_one_also_after_one_was_killed(
    tmp_path, epochs_of_a_step
):
    together, alone = tmp_path / "together", tmp_path / "alone"
    options = [*SMALL, "--steps", 8]
    training = ["train", "--out", together, "--batch-size", 2, *options]
    processes = start(tmp_path, *training)
    while len(losses(together)) < 2 and all(process.is_alive() for process in processes):
        time.sleep(0.01)
    processes[1].kill()
    first, second = ended(processes)
    assert first == 1
    assert second < 0
    (line,) = (tmp_path / "errors-0").read_text().splitlines()
    assert line.startswith("cifl: another process of this training has ended; start all of them")
    assert 2 <= len(losses(together)) < 8

    assert ended(start(tmp_path, *training)) == [0, 0]
    assert run_here("train", "--out", alone, "--batch-size", 4, *options).exit_code == 0
    np.testing.assert_allclose(losses(together), losses(alone), rtol=1e-3)
    weights = [cifl_tf.load_encoder(one).get_weights() for one in (together, alone)]
    for shared, whole in zip(*weights, strict=True):
        np.testing.assert_allclose(shared, whole, atol=1e-3)
    assert not [path.name for path in together.rglob("*") if path.name.startswith("workertemp")]


@pytest.mark.parametrize("task", ["segment", "register"])
def test_networks_of_two_processes_are_those_of_one(task, dataset, tmp_path, epochs_of_a_step):
    together, alone = tmp_path / "together", tmp_path / "alone"
    encoder = "intensity" if task == "register" else "shapes-2d"
    options = ["--encoder", encoder, "--data", dataset, "--num-slices", 2, "--steps", 2]
    options += ["--num-filters", 2, "--validation-subjects", "sub-3,sub-4"]
    if task == "segment":
        options += ["--random-contrast", 0.5, "--random-strip", 0.5, "--flip"]
    training = [task, "train", *options]
    processes = start(tmp_path, *training, "--out", together, "--batch-size", 2)
    assert ended(processes) == [0, 0], (tmp_path / "errors-0").read_text()
    assert run_here(*training, "--out", alone, "--batch-size", 4).exit_code == 0
    rows = [read_history(one / "history.csv") for one in (together, alone)]
    assert [*rows[0][0]] == [*rows[1][0]]
    for shared, whole in zip(*rows, strict=True):
        found, expected = (
            {name: float(value) for name, value in row.items()} for row in (shared, whole)
        )
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)
