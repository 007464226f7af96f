"""Which machines train together, as the environment says."""

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest
import tensorflow as tf

from cifl_tf.training.workers import is_chief, num_workers, slurm_cluster, training_scope

SCRIPT = Path(__file__).parents[3] / "scripts" / "slurm_train.sh"
SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_NUM_TASKS": "3",
    "SLURM_STEP_NODELIST": "gpu1,node[9-10]",
    "SLURM_STEP_TASKS_PER_NODE": "1(x3)",
    "SLURM_PROCID": "1",
}


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    for name in ("TF_CONFIG", *SLURM):
        monkeypatch.delenv(name, raising=False)


def test_without_a_cluster_nothing_changes():
    assert num_workers() == 1
    before = tf.distribute.get_strategy()
    with training_scope():
        assert tf.distribute.get_strategy() is before
        assert is_chief()


def test_several_gpus_of_one_machine_are_mirrored(monkeypatch):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: ["GPU:0", "GPU:1"])
    mirrored = tf.distribute.OneDeviceStrategy("CPU:0")
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda: mirrored)
    with training_scope():
        assert tf.distribute.get_strategy() is mirrored
        assert is_chief()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}', 2),
        ('{"cluster": {"chief": ["a:1"], "worker": ["b:1", "c:1"]}}', 3),
        ('{"cluster": {}}', 0),
    ],
)
def test_workers_of_tf_config(monkeypatch, text, expected):
    monkeypatch.setenv("TF_CONFIG", text)
    assert num_workers() == expected


@pytest.mark.parametrize("text", ["no JSON", "[]", "{}", '{"cluster": 3}'])
def test_a_tf_config_that_is_none_is_refused(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match=r"TF_CONFIG is .*give"):
        num_workers()


def test_tasks_of_slurm(monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    assert num_workers() == 3
    found = slurm_cluster()
    assert found["task"] == {"type": "worker", "index": 1}
    hosts, ports = zip(*(one.split(":") for one in found["cluster"]["worker"]), strict=True)
    assert hosts == ("gpu1", "node9", "node10")
    assert all(20000 <= int(port) < 30000 for port in ports)
    monkeypatch.setenv("SLURM_JOB_ID", "4712")
    assert slurm_cluster()["cluster"] != found["cluster"]
    assert json.dumps(found)


@pytest.mark.parametrize("failures", [0, 1, 3])
def test_the_script_starts_again_what_ended_too_soon(tmp_path, failures):
    """With an ``srun`` that fails so many times before it writes what it was asked."""
    srun = tmp_path / "srun"
    srun.write_text(
        "#!/bin/bash\n"
        f'echo x >> {tmp_path}/runs; test "$(wc -l < {tmp_path}/runs)" -gt {failures} || exit 1\n'
        f'echo "$@" > {tmp_path}/asked\n'
    )
    srun.chmod(srun.stat().st_mode | stat.S_IXUSR)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [SCRIPT, "train", "--out", "a folder"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stderr.count("ended too soon") == failures
    assert done.returncode == (failures == 3)
    if failures < 3:
        asked = (tmp_path / "asked").read_text()
        assert asked == "--kill-on-bad-exit=1 cifl train --out a folder\n"
