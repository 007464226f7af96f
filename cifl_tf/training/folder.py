"""A folder in which ``fit`` can be killed at any moment and goes on when it is called again."""

import json
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from cifl_tf._compat import keras
from cifl_tf._former_names import with_present_names
from cifl_tf._version import __version__
from cifl_tf.images.atomic import atomic_path, clear_leftovers
from cifl_tf.images.memory import available_memory, size_text
from cifl_tf.training.callbacks import (
    Checkpoints,
    HistoryCSV,
    SaveNetwork,
    StopAtStep,
    StopUnlessFinite,
)
from cifl_tf.training.progress import BACKUP_FOLDER, HISTORY_FILE, Progress

CONFIG_FILE, LOG_FOLDER = "config.json", "logs"
MAX_STEPS_PER_EPOCH = 100


def require_memory(count: int, shape: Sequence[int], channels: int, itemsize: int = 4) -> None:
    """Refuse arrays that cannot fit into memory together.

    Args:
        count: of images at a time.
        shape: of an image in voxels.
        channels: of all arrays of an image together. Of a network, those at full resolution that
            the gradient needs: the least it can do with, so what passes may still be too large.
        itemsize: bytes per number.

    Raises:
        ValueError: says what is needed and what is available.
    """
    needed, available = itemsize * count * math.prod(shape) * channels, available_memory()
    if available is not None and needed > available:
        raise ValueError(
            f"{count} images of shape {tuple(shape)} with {channels} channels need at least "
            f"{size_text(needed)}, but {size_text(available)} of memory are available; give "
            "smaller or fewer images at a time (shape, patch, batch size, copies), or fewer filters"
        )


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
    differing = [name for name in fields if found.get(name) != fields[name]]
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


def cosine_adam(config) -> keras.optimizers.Adam:
    """Adam, from ``config.learning_rate`` down to zero along a cosine over ``config.steps``."""
    schedule = keras.optimizers.schedules.CosineDecay(config.learning_rate, config.steps)
    return keras.optimizers.Adam(schedule)


def split_steps(steps: int) -> tuple[int, int]:
    """Epochs of at most ``MAX_STEPS_PER_EPOCH`` steps, and steps of each but the last."""
    epochs = math.ceil(steps / MAX_STEPS_PER_EPOCH)
    return epochs, math.ceil(steps / epochs)


def fit_in_folder(
    model: keras.Model,
    data: tf.data.Dataset,
    steps: int,
    out,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int | str = "auto",
    progress: Progress | None = None,
    **fit_arguments,
) -> None:
    """Fit a compiled model to a number of optimization steps over all calls.

    The folder gets ``history.csv``, ``checkpoints`` (of model, optimizer and epoch) and ``logs``
    (TensorBoard). After a kill at any moment, the same call goes on from the last complete epoch,
    and ends with the weights of a training that was not killed.

    Args:
        model: compiled; built the same way in every call.
        data: endless batches, from the step ``progress.steps`` on.
        steps: optimization steps in all.
        out: a folder that was claimed.
        callbacks: run before the epoch enters the history, so that their files are complete.
        verbose: as in ``keras.Model.fit``; "auto" shows a bar in a terminal, else a line per epoch.
        progress: of the folder; None for a new one.
        fit_arguments: further arguments of ``keras.Model.fit``.

    Raises:
        ValueError: the loss or a weight is no finite number, or the checkpoint does not fit.
    """
    out, progress = Path(out), progress or Progress()
    epochs, steps_per_epoch = split_steps(steps)
    if verbose == "auto":
        verbose = 1 if sys.stdout.isatty() else 2
    if not progress.steps:
        # What a kill left of the first checkpoint is not to be restored.
        shutil.rmtree(out / BACKUP_FOLDER, ignore_errors=True)
    savers = [one for one in callbacks if isinstance(one, SaveNetwork)]
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
            keras.callbacks.TensorBoard(out / LOG_FOLDER, write_graph=False),
            Checkpoints(out / BACKUP_FOLDER, savers if progress.lost else ()),
        ],
        **fit_arguments,
    )
