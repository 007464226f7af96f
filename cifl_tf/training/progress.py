"""How far the training of a folder is: its history and its checkpoint, and whether they agree."""

import csv
import dataclasses
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from cifl_tf._compat import keras
from cifl_tf.models.files import Kind, load_network
from cifl_tf.training.callbacks import epochs_since_best, read_history

HISTORY_FILE, BACKUP_FOLDER = "history.csv", "checkpoints"
STEPS = "model/optimizer/_iterations/.ATTRIBUTES/VARIABLE_VALUE"
EPOCH = "ckpt_saved_epoch/.ATTRIBUTES/VARIABLE_VALUE"


class Goal(NamedTuple):
    """When a training is complete, and what it leaves.

    Attributes:
        file: name of the network's file in the folder.
        kind: of the network.
        steps: optimization steps in all.
        monitor: see ``KeepBest``; None where the last network is the one to keep.
        patience: epochs without a better value after which training stops; None never stops.
    """

    file: str
    kind: Kind
    steps: int
    monitor: str | None = None
    patience: int | None = None


@dataclasses.dataclass(frozen=True)
class Progress:
    """What a training folder holds.

    Attributes:
        steps: optimization steps of the checkpoint, from which weights and data go on; 0 where
            there is none.
        network: the trained one, where the training is complete.
        lost: the checkpoint is to give the network again, whose file is missing or damaged.
        remark: what a person should know of how the training goes on; empty where all is as usual.
    """

    steps: int = 0
    network: keras.Model | None = None
    lost: bool = False
    remark: str = ""


class Checkpoint(NamedTuple):
    """Epochs and optimization steps that a checkpoint was written after."""

    epochs: int
    steps: int


def read_progress(out, goal: Goal) -> Progress:
    """How far the training of a folder is, without a change to it.

    The checkpoint decides, as weights, optimizer and data go on from there. An epoch that the
    history has and the checkpoint lacks was cut off in between, and is trained again. A folder
    without checkpoints, such as one that ships, is complete if its history is and its network is
    whole; if not, training begins anew.

    Args:
        out: the folder; may be new.
        goal: of the training.

    Raises:
        ValueError: a file is damaged and cannot be made again from the others.
    """
    out = Path(out)
    rows = read_checked_history(out / HISTORY_FILE)
    folder = out / BACKUP_FOLDER
    saved = _usable_checkpoint(folder, rows)
    if saved is not None:
        rows = rows[: saved.epochs]
        if len(rows) < saved.epochs or int(rows[-1]["step"]) != saved.steps:
            raise ValueError(
                f"{out / HISTORY_FILE} lacks epochs of the checkpoint, which has {saved.epochs} "
                f"with {saved.steps} steps; bring it back, or delete {folder} to train anew"
            )
    waited = epochs_since_best(_scores(out / HISTORY_FILE, rows, goal.monitor))
    made = int(rows[-1]["step"]) if rows else 0
    impatient = goal.patience is not None and waited >= goal.patience
    network = _whole_network(out / goal.file, goal.kind)
    if (made >= goal.steps or impatient) and network is not None:
        return Progress(made, network)
    if saved is None:
        lost_epochs = len(rows) > 1
        return Progress(
            remark=f"{folder} holds no checkpoint: training {out} anew" if lost_epochs else ""
        )
    if network is None and waited:
        raise ValueError(
            f"{out / goal.file} is missing or damaged, and the checkpoint has the weights of a "
            f"later epoch than the best; bring it back, or delete {folder} to train anew"
        )
    return Progress(saved.steps, lost=network is None)


def read_checked_history(path) -> list[dict[str, str]]:
    """Rows of a history file, each of which is an epoch; none when there is no file.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        rows = read_history(path)
        for epoch, row in enumerate(rows):
            if None in row or None in row.values() or int(row["epoch"]) != epoch:
                raise ValueError(f"row {epoch + 1} is not that of epoch {epoch}")
            int(row["step"])
            for value in row.values():
                float(value or "nan")  # empty where a metric came later
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise ValueError(
            f"{path} is damaged ({error}); bring it back, or delete it and {BACKUP_FOLDER} beside "
            "it to train anew"
        ) from error
    return rows


def read_checkpoint(folder) -> Checkpoint:
    """What the checkpoint of a training says, all of which is read to see that it is whole.

    Args:
        folder: of ``Checkpoints``.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    try:
        path = tf.train.latest_checkpoint(Path(folder) / "chief")
        if path is None:
            raise ValueError("it names no checkpoint that is there")
        reader = tf.train.load_checkpoint(path)
        values = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
        return Checkpoint(int(values[EPOCH]) + 1, int(values[STEPS]))
    except (OSError, ValueError, LookupError, RuntimeError, tf.errors.OpError) as error:
        message = str(error).splitlines()[0]
        raise ValueError(
            f"{folder} is damaged ({message}); bring it back, or delete it to train anew"
        ) from error


def _usable_checkpoint(folder, rows):
    """The checkpoint; None where there is none, or a kill cut off the first one."""
    if not any(path.is_file() for path in folder.rglob("*")):
        return None
    try:
        return read_checkpoint(folder)
    except ValueError:
        if len(rows) > 1:
            raise
        return None


def _scores(path, rows, monitor):
    """The values of what is monitored."""
    if monitor is None:
        return []
    try:
        return [float(row[monitor]) for row in rows]
    except (KeyError, ValueError):
        raise ValueError(
            f"{path} lacks values of {monitor!r}; bring it back, or delete it and {BACKUP_FOLDER} "
            "beside it to train anew"
        ) from None


def _whole_network(file, kind):
    """The network of a file; None where there is none, or it is damaged."""
    try:
        return load_network(file, kind)
    except ValueError:
        return None
