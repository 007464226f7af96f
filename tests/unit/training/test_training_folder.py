"""One process trains in a folder, and what it claims is written only when nothing can be wrong."""

import subprocess
import sys

import pytest

from cifl_tf.images.atomic import LOCK_FILE
from cifl_tf.models.files import ENCODER
from cifl_tf.training.claims import check_folder, claim_folder
from cifl_tf.training.folder import train_in_folder
from cifl_tf.training.progress import Goal

CLAIM, GOAL = {"steps": 4}, Goal("encoder.keras", ENCODER, 4)
HOLD_THE_LOCK = """
import sys
from cifl_tf.images.atomic import locked
with locked(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def finish(tiny_encoder):
    """A ``fit`` that leaves a complete training without one step."""

    def fit(folder):
        claim_folder(folder.out, CLAIM)
        tiny_encoder.save(folder.out / GOAL.file)
        (folder.out / "history.csv").write_text("epoch,step,loss\n0,4,0.5\n")

    return fit


def unreachable(folder):
    raise AssertionError("a second training began")


def test_another_process_in_the_folder_is_said_at_once(tmp_path, finish):
    command = [sys.executable, "-c", HOLD_THE_LOCK, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(ValueError, match=r"another process trains in .*; wait until it ends"):
            train_in_folder(tmp_path, CLAIM, GOAL, unreachable)
        other.stdin.close()
        other.wait(60)
    assert train_in_folder(tmp_path, CLAIM, GOAL, finish).input_shape == (None, None, None, 1)
    assert not (tmp_path / LOCK_FILE).exists()


def test_a_lock_that_a_kill_left_is_taken_over(tmp_path, finish):
    (tmp_path / LOCK_FILE).touch()
    train_in_folder(tmp_path, CLAIM, GOAL, finish)
    assert not (tmp_path / LOCK_FILE).exists()


def test_a_complete_training_is_loaded_also_where_nobody_may_write(tmp_path, finish):
    train_in_folder(tmp_path, CLAIM, GOAL, finish)

    def load(_):
        train_in_folder(tmp_path, CLAIM, GOAL, unreachable)

    # Beside a training of more steps, which has the lock.
    train_in_folder(tmp_path, CLAIM, GOAL._replace(steps=5), load)


def test_a_mistake_that_shows_late_leaves_no_folder(tmp_path):
    def fail(folder):
        raise ValueError("the images do not fit")

    with pytest.raises(ValueError, match="the images do not fit"):
        train_in_folder(tmp_path / "new" / "model", CLAIM, GOAL, fail)
    assert not list(tmp_path.iterdir())


def test_a_folder_of_version_0_2_goes_on(tmp_path):
    (tmp_path / "config.json").write_text('{"version": "0.2.0", "model": "shapes-2d", "steps": 4}')
    check_folder(tmp_path, {"encoder": "shapes-2d", "steps": 4})
    with pytest.raises(ValueError, match="encoder 'shapes-2d' there, 'shapes-3d' asked"):
        check_folder(tmp_path, {"encoder": "shapes-3d", "steps": 4})
