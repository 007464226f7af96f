"""A folder in which ``fit`` can be killed at any moment and goes on when it is called again."""

import contextlib
import json
import math
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from cifl_tf._compat import keras
from cifl_tf._former_names import with_present_names
from cifl_tf._notes import note
from cifl_tf._version import __version__
from cifl_tf.images.atomic import atomic_path, clear_leftovers, expanded, locked
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

CONFIG_FILE, LOG_FOLDER = "config.json", "logs"
IMAGES_FOLDER = ".images"
MAX_STEPS_PER_EPOCH = 100


def check_folder(out, config: Mapping) -> None:
    """Compare a configuration with that of a folder, without a change to it.

    Args:
        out: the folder; new, empty, or of the same configuration.
        config: what JSON can hold.

    Raises:
        ValueError: the folder holds something else, or was made with another configuration.
    """
    out = Path(out)
    fields = json.loads(json.dumps(config))
    if not (out / CONFIG_FILE).exists():
        # Hidden names are temporary files of a run that was killed.
        if out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir()):
            raise ValueError(
                f"{out} holds files but no {CONFIG_FILE}: it is not a training folder; "
                "give a new or empty one"
            )
        return
    found = read_config(out)
    # What an older version did not write, it did not do.
    differing = [
        name
        for name, value in fields.items()
        if found.get(name) != value and (name in found or value)
    ]
    if differing:
        changes = ", ".join(
            f"{name} {found.get(name)!r} there, {fields[name]!r} asked" for name in differing
        )
        raise ValueError(
            f"{out} was made with another configuration ({changes}); "
            "give the same options to go on, or another folder"
        )


def claim_folder(out, config: Mapping) -> None:
    """Write the configuration to a new folder, or compare it with the one that is there.

    Temporary files that a killed run left there are removed. To be called once nothing of the
    configuration can be wrong any more: a folder that is claimed takes no other.

    Args:
        out: the folder; new, empty, or of the same configuration.
        config: what JSON can hold.

    Raises:
        ValueError: as ``check_folder``.
    """
    check_folder(out, config)
    file = Path(out) / CONFIG_FILE
    if not is_chief():
        return
    if not file.exists():
        with atomic_path(file) as temporary:
            text = json.dumps({"version": __version__, **config}, indent=2)
            temporary.write_text(text + "\n")
    clear_leftovers(out)


def read_config(out) -> dict:
    """The configuration of a folder.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    file = Path(out) / CONFIG_FILE
    try:
        config = json.loads(file.read_text())
        if not isinstance(config, dict):
            raise ValueError(f"it holds a {type(config).__name__} instead of names and values")
        return with_present_names(config, model="encoder")
    except OSError as error:
        raise ValueError(f"{out} holds no {CONFIG_FILE}; give a folder of a training") from error
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}); give another folder") from error


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
    check_folder(out, claim)
    network = outside(read_progress, out, goal).network
    if network is not None:
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
