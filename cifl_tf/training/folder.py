"""A folder in which ``fit`` can be killed at any moment and goes on when it is called again."""

import contextlib
import math
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from cifl_tf._compat import keras
from cifl_tf._notes import note
from cifl_tf.images.atomic import expanded, locked
from cifl_tf.models.files import load_network
from cifl_tf.models.fitting import build_optimizer
from cifl_tf.training.callbacks import (
    Checkpoints,
    HistoryCSV,
    KeepBest,
    SaveNetwork,
    StopAtStep,
    StopUnlessFinite,
)
from cifl_tf.training.claims import CONFIG_FILE, check_folder, claim_folder, read_config
from cifl_tf.training.progress import (
    BACKUP_FOLDER,
    HISTORY_FILE,
    Goal,
    Progress,
    read_progress,
)
from cifl_tf.training.workers import (
    in_parts,
    is_chief,
    outside,
    task_index,
    wait_for_all,
    whole_on_each,
)

LOG_FOLDER = "logs"
IMAGES_FOLDER, REPLICAS = ".images", "other_replicas"
MAX_STEPS_PER_EPOCH = 100


def split_steps(steps: int) -> tuple[int, int]:
    """Epochs of at most ``MAX_STEPS_PER_EPOCH`` steps, and steps of each but the last."""
    epochs = math.ceil(steps / MAX_STEPS_PER_EPOCH)
    return epochs, math.ceil(steps / epochs)


def fit_in_folder(
    model: keras.Model,
    data: tf.data.Dataset | Callable[..., tf.data.Dataset],
    steps: int,
    out,
    callbacks: Sequence[keras.callbacks.Callback],
    verbose: int | str,
    progress: Progress,
    **fit_arguments,
) -> None:
    """Fit a compiled model to a number of optimization steps over all calls.

    The folder gets ``history.csv``, ``checkpoints`` (of model, optimizer and epoch) and ``logs``
    (TensorBoard). After a kill at any moment, the same call goes on from the last complete epoch,
    and ends with the weights of a training that was not killed.

    Args:
        model: compiled; built the same way in every call.
        data: endless batches, from the step ``progress.steps`` on; for trainings that several
            machines may share, a function of the ``share`` of each batch.
        steps: optimization steps in all.
        out: a folder that was claimed.
        callbacks: run before the epoch enters the history, so that their files are complete.
        verbose: as in ``keras.Model.fit``; "auto" shows a bar in a terminal, else a line per epoch.
        progress: of the folder.
        fit_arguments: further arguments of ``keras.Model.fit``.

    Raises:
        ValueError: the loss or a weight is no finite number, or the checkpoint does not fit.
    """
    out = Path(out)
    epochs, steps_per_epoch = split_steps(steps)
    together = tf.distribute.get_strategy().num_replicas_in_sync > 1
    if verbose == "auto":
        verbose = 1 if sys.stdout.isatty() else 2
    if not is_chief():
        verbose = 0
    if callable(data):
        data = in_parts(data)
    elif together:
        raise ValueError("this training runs on one device; unset TF_CONFIG, or run it alone")
    if together:
        # Results of metrics are those of all already; Keras would sum them over machines.
        model.distribute_reduction_method = "first"
    if together and "validation_data" in fit_arguments:
        fit_arguments |= whole_on_each(fit_arguments["validation_data"])
    if not progress.steps and is_chief():
        # What a kill left of the first checkpoint is not to be restored.
        shutil.rmtree(out / BACKUP_FOLDER, ignore_errors=True)
    build_optimizer(model)
    savers = [one for one in callbacks if isinstance(one, SaveNetwork)]
    logs = [keras.callbacks.TensorBoard(out / LOG_FOLDER, write_graph=False)]
    model.fit(
        data,
        steps_per_epoch=steps_per_epoch,
        epochs=epochs,
        verbose=verbose,
        callbacks=[
            StopUnlessFinite(out),
            StopAtStep(steps),
            *callbacks,
            HistoryCSV(out / HISTORY_FILE),
            *(logs if is_chief() else []),
            Checkpoints(out / BACKUP_FOLDER, savers if progress.lost else ()),
        ],
        **fit_arguments,
    )


class TrainingFolder:
    """A folder that this process alone trains in, as ``train_in_folder`` gives it.

    Args:
        out: the folder.
        claim: what it is for, which JSON can hold.
        goal: when the training is complete, and what it leaves.
        progress: of the folder.

    Attributes:
        steps: optimization steps that were made before, from which the data are to go on.
        goal: as given.
    """

    def __init__(self, out: Path, claim: Mapping, goal: Goal, progress: Progress):
        self.out, self.steps = out, progress.steps
        self._claim, self.goal, self._progress = claim, goal, progress

    def images(self, name: str) -> Path:
        """Where to keep images that do not fit into memory, until the training is complete.

        Args:
            name: of what they are for.
        """
        # Processes that train together may lie on several machines. A hidden name is no result.
        return self.out / IMAGES_FOLDER / f"{name}-{task_index()}"

    def keep_best(self, network: keras.Model | None = None) -> KeepBest:
        """The callback that saves the network by the goal's metric.

        Args:
            network: where it is not the model that is fitted but shares its weights.
        """
        goal = self.goal
        history = self.out / HISTORY_FILE
        return KeepBest(self.out / goal.file, history, goal.monitor, goal.patience, network)

    def fit(
        self,
        model: keras.Model,
        data: tf.data.Dataset,
        callbacks: Sequence[keras.callbacks.Callback],
        verbose: int | str,
        **fit_arguments,
    ) -> None:
        """Claim the folder, and fit a model to the goal's steps, as ``fit_in_folder`` says."""
        claim_folder(self.out, self._claim)
        steps, progress = self.goal.steps, self._progress
        fit_in_folder(model, data, steps, self.out, callbacks, verbose, progress, **fit_arguments)


def _with_replicas(out, claim):
    """The claim, with how many replicas train beside the first, where any did or does.

    With another number the batches would be others.
    """
    count = tf.distribute.get_strategy().num_replicas_in_sync - 1
    known = (out / CONFIG_FILE).exists() and REPLICAS in read_config(out)
    return {**claim, REPLICAS: count} if count or known else claim


def train_in_folder(
    out, claim: Mapping, goal: Goal, fit: Callable[[TrainingFolder], None]
) -> keras.Model:
    """Train a network in a folder, or go on with it, or load it when it is complete.

    Args:
        out: the folder; new, empty, or of the same claim.
        claim: configuration, subjects, labels: what JSON can hold.
        goal: when the training is complete, and what it leaves.
        fit: builds model and data, and calls ``TrainingFolder.fit``. Until then the folder takes
            any other claim, as a mistake in this claim may show only here.

    Returns:
        The network of the goal's file.

    Raises:
        ValueError: the folder holds something else or damaged files, was made with another claim,
            or another process trains in it.
    """
    out = expanded(out)
    claim = _with_replicas(out, claim)
    check_folder(out, claim)
    network = outside(read_progress, out, goal).network
    if network is not None:
        if is_chief():
            shutil.rmtree(out / IMAGES_FOLDER, ignore_errors=True)
        return network
    with contextlib.ExitStack() as stack:
        try:
            if is_chief():
                stack.enter_context(locked(out, wait=False))
        except TimeoutError:
            raise ValueError(
                f"another process trains in {out}; wait until it ends, or give another folder"
            ) from None
        # Again, as another process may have trained there until now.
        check_folder(out, claim)
        progress = outside(read_progress, out, goal)
        if progress.network is not None:
            return progress.network
        if progress.remark:
            note(progress.remark)
        fit(TrainingFolder(out, claim, goal, progress))
        wait_for_all()
        if is_chief():
            shutil.rmtree(out / IMAGES_FOLDER, ignore_errors=True)
        return outside(load_network, out / goal.file, goal.kind)
