"""``run.json``: what every run into a folder read, wrote, and could not do."""

import dataclasses
import datetime
import functools
import hashlib
import importlib.metadata
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path

import typer

from cifl_tf._former_names import with_present_names
from cifl_tf._version import __version__
from cifl_tf.cli.former_names import COMMANDS
from cifl_tf.images.atomic import atomic_path

RUN_FILE = "run.json"
PENDING, DONE, FAILED, SKIPPED = "pending", "done", "failed", "skipped"
PACKAGES = ("tf-keras", "neurite", "voxelmorph", "nibabel", "nilearn", "scipy")
# Not among the options that a result depends on: where it lies, and what is told of the input.
ELSEWHERE = {"out", "overwrite", "images", "moving", "fixed", "labels", "only", "against"}


@dataclasses.dataclass
class Entry:
    """One input of a run: what is read, and what became of it.

    Attributes:
        input: by role, such as "image", absolute paths and names.
        planned: names of the files that it may become, in the folder of the run.
        removed: names of files that the result makes wrong, in the same folder.
        read: size and time of change of each file that was read, when the work began; see
            ``states_read``.
        outcome: "pending" until it is "done" or "failed"; "skipped" after an interruption.
        seconds: that it took.
        error: one line, where it failed.
        traceback: where it failed by a fault of the program.
        files: SHA-256 of the files that were written, by name.
        numbers: what was measured, by name with unit.
        notes: what a user should know of it, though it is no error.
        table: rows of text, where numbers are not enough.
    """

    input: dict[str, str]
    planned: list[str]
    removed: list[str] = dataclasses.field(default_factory=list)
    read: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    outcome: str = PENDING
    seconds: float | None = None
    error: str | None = None
    traceback: str | None = None
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    numbers: dict[str, float] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    table: list[dict[str, str]] = dataclasses.field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """What messages call it: the moving and the fixed image, or the first that is read."""
        pair = [self.input[role] for role in ("moving", "fixed") if role in self.input]
        return pair or [*self.input.values()][:1]


@dataclasses.dataclass
class RunReport:
    """One run, as ``run.json`` holds it.

    Attributes:
        command: such as "segment apply".
        arguments: as given.
        directory: in which it was given.
        options: as resolved, defaults included; paths are absolute.
        inputs: in their order.
        versions: of Python and packages.
        device: see ``describe_device``.
        started: date and time with time zone, ISO 8601.
        id: of the run.
        seconds: that the whole run took; None while it runs, and for ever once it was killed.
    """

    command: str
    arguments: list[str]
    directory: str
    options: dict
    inputs: list[Entry]
    versions: dict[str, str]
    device: str
    started: str
    id: str
    seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class Request:
    """What a command was asked for; unlike the context of the command, other processes can have it.

    Attributes:
        command: such as "segment apply".
        arguments: as given.
        directory: in which it was given.
        options: as resolved, defaults included; paths are absolute.
        overwrite: whether files of others may be replaced.
        debug: whether the traceback of every error is wanted.
    """

    command: str
    arguments: list[str]
    directory: str
    options: dict
    overwrite: bool = False
    debug: bool = False

    @classmethod
    def of(cls, ctx: typer.Context, resolved: Mapping) -> "Request":
        """What a command was asked for.

        Args:
            ctx: of the command.
            resolved: values of options that differ from what was given.
        """
        return cls(
            command=ctx.command_path.partition(" ")[2],
            arguments=ctx.meta["arguments"],
            directory=os.getcwd(),
            options={name: _plain(value) for name, value in {**ctx.params, **resolved}.items()},
            overwrite=bool(ctx.params.get("overwrite")),
            debug=bool(ctx.find_root().params.get("debug")),
        )

    @property
    def versions(self) -> dict[str, str]:
        """The version that results depend on first, known without an import that takes seconds."""
        return {"cifl_tf": __version__}


def report_of(request: Request, inputs: list[Entry]) -> RunReport:
    """The report of a command that begins.

    Args:
        request: what it was asked for.
        inputs: what it is to do.
    """
    from cifl_tf._device import describe_device

    return RunReport(
        command=request.command,
        arguments=request.arguments,
        directory=request.directory,
        options=request.options,
        inputs=inputs,
        versions=run_versions(),
        device=describe_device(),
        started=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        id=uuid.uuid4().hex,
    )


def settings(options: Mapping) -> dict:
    """The options that a result depends on."""
    return {name: value for name, value in options.items() if name not in ELSEWHERE}


@functools.cache
def run_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    from cifl_tf.evaluation.report import package_versions

    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {**package_versions(), **found}


def read_runs(folder) -> list[dict]:
    """All runs into a folder, the oldest first, in names of today.

    Raises:
        ValueError: the file is damaged.
    """
    return _read_runs(Path(folder) / RUN_FILE)


def options_of_last_run(file: Path, command: str) -> dict:
    """What the last run of a command was asked for, but for ``--overwrite``.

    Args:
        file: a ``run.json``.
        command: such as "segment apply".

    Raises:
        ValueError: the file is damaged, or holds no run of the command.
    """
    runs = _read_runs(file)
    options = [run["options"] for run in runs if run["command"] == command]
    if not options:
        found = sorted({f"cifl {run['command']}" for run in runs})
        raise ValueError(
            f"{file} has no run of cifl {command}, but of {', '.join(found) or 'nothing'}; give "
            "another file"
        )
    return {name: value for name, value in options[-1].items() if name != "overwrite"}


def write_runs(folder, runs: list[dict]) -> None:
    """Write all runs into a folder, whole or not at all; to be called in ``locked``."""
    with atomic_path(Path(folder) / RUN_FILE) as temporary:
        temporary.write_text(json.dumps({"runs": runs}, indent=1) + "\n", encoding="utf-8")


def digest(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _plain(value):
    """A value of an option as JSON holds it."""
    if isinstance(value, Path):
        return os.path.abspath(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _read_runs(file):
    try:
        runs = [_in_present_names(run) for run in json.loads(file.read_text("utf-8"))["runs"]]
        for run in runs:
            RunReport(**{**run, "inputs": [Entry(**entry) for entry in run["inputs"]]})
        return runs
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{file} is no record of cifl's runs ({error!r}), so nobody knows whose the files "
            "beside it are; move it away, or give another folder"
        ) from error


def _in_present_names(run):
    """A run as version 0.3 and later record it."""
    *group, command = run["command"].split()
    options = with_present_names(run["options"], optimise="optimize")
    command = " ".join([*group, COMMANDS.get(command, command)])
    return {**run, "command": command, "options": options}
