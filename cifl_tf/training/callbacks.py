"""Keras callbacks that keep a training folder complete and readable at any moment."""

import contextlib
import csv
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from cifl_tf._compat import keras
from cifl_tf.images.atomic import atomic_path
from cifl_tf.training.workers import is_chief


class HistoryCSV(keras.callbacks.Callback):
    """Write one row of logs per epoch to a CSV file, going on from the rows of an earlier run.

    Keras's own ``CSVLogger`` appends: after a kill its file holds an epoch twice, or half a row.

    Args:
        path: the file; rows of epochs that are now trained again are replaced.
    """

    def __init__(self, path):
        super().__init__()
        self.path = Path(path)
        self.rows: list[dict] | None = None

    def on_epoch_begin(self, epoch, logs=None):
        """Read the rows of earlier epochs, once."""
        if self.rows is None:
            self.rows = [row for row in read_history(self.path) if int(row["epoch"]) < epoch]

    def on_epoch_end(self, epoch, logs=None):
        """Add a row and write the file."""
        step = int(self.model.optimizer.iterations.numpy())
        values = {name: f"{value:.6g}" for name, value in (logs or {}).items()}
        if self.rows is None:
            raise RuntimeError("HistoryCSV saw the end of an epoch without its beginning")
        self.rows.append({"epoch": epoch, "step": step, **values})
        if not is_chief():
            return
        with atomic_path(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.rows[-1], restval="")
            writer.writeheader()
            writer.writerows(self.rows)


def read_history(path) -> list[dict[str, str]]:
    """Rows of a history file; none when there is no file."""
    path = Path(path)
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def epochs_since_best(values: Sequence[float]) -> int:
    """How many values came after the first of the highest ones; 0 where there are none."""
    return len(values) - 1 - list(values).index(max(values)) if values else 0


def save_by_chief(network: Callable[[], keras.Model], path) -> None:
    """Save a network whole or not at all, once where several processes train together.

    All of them must call this: weights may be a mean over them.

    Args:
        network: gives it.
        path: a .keras file.
    """
    with contextlib.ExitStack() as stack:
        if is_chief():
            temporary = stack.enter_context(atomic_path(path))
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            temporary = Path(folder) / Path(path).name
        network().save(temporary)


class SaveNetwork(keras.callbacks.Callback):
    """Save a network after epochs, whole or not at all.

    Args:
        path: a .keras file.
    """

    def __init__(self, path):
        super().__init__()
        self.path = Path(path)

    def save(self):
        """Save the network as it is now."""
        save_by_chief(self._network, self.path)

    def _network(self) -> keras.Model:
        raise NotImplementedError


class KeepBest(SaveNetwork):
    """Save the model whenever a validation metric rises, and stop when it has not for long.

    Keras's own early stopping forgets the best value when training is interrupted; this one reads
    those of earlier epochs from the history. The file is written whole or not at all.

    Args:
        path: a .keras file for the best model.
        history_path: the CSV file of ``HistoryCSV``.
        monitor: name of a metric to be high; None saves after every epoch.
        patience: epochs without a rise after which training stops; None never stops.
        network: the model to save, where it is not the one that is fitted but shares its weights.
    """

    def __init__(
        self,
        path,
        history_path,
        monitor: str | None,
        patience: int | None = None,
        network: keras.Model | None = None,
    ):
        super().__init__(path)
        self.network = network
        self.history_path = Path(history_path)
        self.values: list[float] | None = None
        self.monitor = monitor
        self.patience = patience

    def on_epoch_end(self, epoch, logs=None):
        """Save and stop as due."""
        if self.monitor is None:
            self.save()
            return
        if self.values is None:  # of an earlier run; later ones may not be seen by all processes
            rows = read_history(self.history_path)
            self.values = [float(row[self.monitor]) for row in rows if int(row["epoch"]) < epoch]
        values = self.values
        values.append((logs or {})[self.monitor])
        alone = tf.distribute.get_strategy().num_replicas_in_sync == 1
        lost = alone and not self.path.exists()
        if lost or values[-1] > max(values[:-1], default=float("-inf")):
            self.save()
        if self.patience is not None and epochs_since_best(values) >= self.patience:
            self.model.stop_training = True

    def _network(self):
        return self.network or self.model


class StopAtStep(keras.callbacks.Callback):
    """Stop once the optimizer has made a number of steps, also in the middle of an epoch.

    Args:
        steps: the number of steps, over all runs.
    """

    def __init__(self, steps: int):
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch, logs=None):
        """Stop when the last step is made."""
        if int(self.model.optimizer.iterations.numpy()) >= self.steps:
            self.model.stop_training = True


class StopUnlessFinite(keras.callbacks.Callback):
    """Stop with an error once the loss or a weight is NaN or infinite, before anything is saved.

    Args:
        out: the training folder, for the error.
    """

    def __init__(self, out):
        super().__init__()
        self.out = out

    def on_train_batch_end(self, batch, logs=None):
        """Look at the loss."""
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            self._stop(f"the loss became {loss}")

    def on_epoch_end(self, epoch, logs=None):
        """Look at the weights: the last step of an epoch may have broken them."""
        if not all(np.isfinite(weight).all() for weight in self.model.trainable_variables):
            self._stop("a weight became NaN or infinite")

    def _stop(self, event):
        step = int(self.model.optimizer.iterations.numpy())
        raise ValueError(
            f"{event} at step {step}; give a lower learning rate (--learning-rate) and another "
            f"folder: {self.out} keeps what the epochs before left"
        )


class Checkpoints(keras.callbacks.BackupAndRestore):
    """Checkpoint after every epoch, of model, optimizer and epoch, from which ``fit`` goes on.

    Args:
        folder: of the checkpoints.
        lost: callbacks whose files the restored weights are to give again.
    """

    def __init__(self, folder, lost: Sequence[SaveNetwork] = ()):
        super().__init__(str(folder), delete_checkpoint=False)
        self.lost = lost

    def on_train_begin(self, logs=None):
        """Restore the checkpoint, if there is one."""
        try:
            super().on_train_begin(logs)
        except (ValueError, tf.errors.OpError) as error:
            raise ValueError(
                f"{self.backup_dir} does not fit the network ({str(error).splitlines()[0]}); bring "
                "it back, or delete it to train anew"
            ) from error
        for saver in self.lost:
            saver.save()
