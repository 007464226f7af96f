"""A command at work on its inputs: it keeps a record, and one failure does not cost the rest."""

import contextlib
import dataclasses
import functools
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from tqdm import tqdm

from cifl_tf._notes import named, note, recorded_notes
from cifl_tf.cli.errors import REPORT, mendable, said
from cifl_tf.cli.html_report import check_html, write_html
from cifl_tf.cli.output_folder import FIGURES, check_files, done_before, state_of, states_read
from cifl_tf.cli.run_report import (
    DONE,
    FAILED,
    PENDING,
    RUN_FILE,
    SKIPPED,
    Entry,
    Request,
    digest,
    read_runs,
    report_of,
    write_runs,
)
from cifl_tf.images.atomic import clear_leftovers, locked

if TYPE_CHECKING:
    from cifl_tf.datasets import Cohort


class CommandRun:
    """A run of a command into a folder, from the claim of its files to the end of its record.

    To be used in ``with``. ``run.json`` of the folder is true at every moment, also after a kill;
    ``report.html`` shows the same, with pictures, since a run has ended.
    A run into a new folder that made nothing, by errors that the user can mend, leaves no folder.

    Args:
        asked: the context of the command, whose parameters are "overwrite", where it has this
            option, and those that the record holds; or what it gave.
        folder: of the results.
        entries: the inputs.
        keep: keep the record also of a run that made nothing.
        resolved: values of options that differ from what was given.

    Raises:
        ValueError: a file is in the way, or ``run.json`` is damaged.
    """

    def __init__(
        self,
        asked: typer.Context | Request,
        folder,
        entries: list[Entry],
        keep: bool = False,
        **resolved,
    ):
        request = asked if isinstance(asked, Request) else Request.of(asked, resolved)
        self.folder, self.keep = Path(folder), keep
        self.report = report_of(request, entries)
        self.overwrite, self.debug = request.overwrite, request.debug
        self._start = time.monotonic()
        self._earlier: list[dict] = []
        # Many inputs name the same model, or the folder of a dataset, which may hold thousands.
        self._state_of = functools.cache(state_of)
        parents = (self.folder, *self.folder.parents)
        self._made = [path for path in parents if not path.exists()]

    def __enter__(self):
        planned = [name for entry in self.report.inputs for name in entry.planned]
        for place in {self.folder, *((self.folder / name).parent for name in planned)}:
            clear_leftovers(place)
        with locked(self.folder):
            self._earlier = read_runs(self.folder)
            check_files(self.folder, self.report, self._earlier, self.overwrite)
            check_html(self.folder, self.overwrite)
            write_runs(self.folder, [*self._earlier, dataclasses.asdict(self.report)])
        return self

    def __exit__(self, kind, error, trace):
        for entry in self.report.inputs:
            if entry.outcome == PENDING:
                entry.outcome = SKIPPED
        self.report.seconds = round(time.monotonic() - self._start, 3)
        self._store()
        nothing = not any(entry.files or entry.traceback for entry in self.report.inputs)
        if self._made and nothing and not self.keep:
            self._withdraw()
        else:
            with locked(self.folder):
                write_html(self.folder, read_runs(self.folder))

    @contextlib.contextmanager
    def doing(self, entry: Entry):
        """Record what becomes of an input in the block; errors pass."""
        start, before = time.monotonic(), self._versions(entry)
        entry.read = states_read(self.report, entry, self._state_of)
        try:
            with recorded_notes(entry.notes, entry.names):
                yield
            entry.outcome = DONE
        except Exception as error:
            entry.outcome, entry.error = FAILED, said(error)
            if mendable(error) is None or self.debug:
                entry.traceback = "".join(traceback.format_exception(error))
            raise
        finally:
            after = self._versions(entry)
            written = [name for name in after if after[name] != before.get(name)]
            entry.files = {name: digest(self.folder / name) for name in written}
            entry.seconds = round(time.monotonic() - start, 3)
            if entry.outcome != PENDING:
                self._store()

    def each(self, work: Callable[[Entry], None], again: bool = True) -> None:
        """Do some work for every input, also when it fails for some.

        The first planned file of every input that was done is printed.

        Args:
            work: on an input.
            again: do it also where an earlier run did the same, see ``done_before``.

        Raises:
            typer.Exit: with status 1, where some failed; standard error names them.
        """
        if not again:
            self._keep()
        for entry in tqdm(self.report.inputs, unit="image", disable=None):
            if entry.outcome == PENDING:
                # The record holds the error.
                with contextlib.suppress(Exception), self.doing(entry):
                    work(entry)
            if entry.outcome == DONE:
                tqdm.write(str(self.folder / entry.planned[0]))
        self.end()

    def end(self) -> None:
        """Name on standard error what failed, if anything did.

        Raises:
            typer.Exit: with status 1, where some inputs failed.
        """
        name_failures(self.report.inputs, self.debug)

    def _keep(self):
        """Take what an earlier run did as it is."""
        entries = self.report.inputs
        for index, entry in enumerate(entries):
            entries[index] = done_before(self.folder, self.report, entry, self._earlier) or entry
        kept = sum(entry.outcome == DONE for entry in entries)
        if kept:
            note(
                f"{kept} of {len(entries)} were done before and stay as they are; --overwrite does "
                "them again"
            )
            self._store()

    def _versions(self, entry):
        """What tells a file that was written again from the one before, by name."""
        found = {}
        for name in entry.planned:
            with contextlib.suppress(FileNotFoundError):
                status = (self.folder / name).stat()
                found[name] = status.st_ino, status.st_mtime_ns
        return found

    def _store(self):
        with locked(self.folder):
            mine = dataclasses.asdict(self.report)
            runs = [mine if run["id"] == mine["id"] else run for run in read_runs(self.folder)]
            write_runs(self.folder, runs)

    def _withdraw(self):
        """Remove the record, and folders that were made for nothing."""
        with locked(self.folder):
            runs = [run for run in read_runs(self.folder) if run["id"] != self.report.id]
            if runs:
                write_runs(self.folder, runs)
                write_html(self.folder, runs)
            else:
                (self.folder / RUN_FILE).unlink()
        for path in (self.folder / FIGURES, *self._made):
            with contextlib.suppress(OSError):  # another run writes there
                path.rmdir()


def name_failures(entries: Iterable[Entry], debug: bool = False) -> None:
    """Name on standard error what failed, if anything did.

    Args:
        entries: of runs that have ended.
        debug: every error has a traceback, not those that are a fault of the program only.

    Raises:
        typer.Exit: with status 1, where some inputs failed.
    """
    failed = [entry for entry in entries if entry.outcome == FAILED]
    for entry in failed:
        if entry.traceback:
            typer.echo(entry.traceback, err=True, nl=False)
    if any(entry.traceback for entry in failed) and not debug:
        typer.echo(f"cifl: {REPORT}", err=True)
    for entry in failed:
        typer.echo(f"cifl: {named(entry.error or '', entry.names)}", err=True)
    if failed:
        raise typer.Exit(1)


def score_subjects(
    run: CommandRun, score: "Callable[[Cohort], Any]", cohort: "Cohort", entries: list[Entry]
) -> list:
    """What a function gives for every subject alone, of those for which it does not fail.

    Args:
        run: at work.
        score: from a cohort of one subject.
        cohort: the subjects.
        entries: of the run, one per subject.

    Raises:
        Exception: that of the first subject, where all failed in the same way.
        typer.Exit: all failed, but not in the same way; standard error says how.
    """
    found: list = []
    errors: list[Exception] = []
    ways: set[str] = set()
    for entry, name in zip(tqdm(entries, unit="subject", disable=None), cohort.names, strict=True):
        try:
            with run.doing(entry):
                found.append(score(cohort.select([name])))
        except Exception as error:
            errors.append(error)
            ways.add(str(error).replace(name, ""))
    if len(errors) == len(entries):
        if len(ways) == 1:
            raise errors[0]
        run.end()
    return found


def record_export(ctx: typer.Context, folder: Path, export: Callable[[Path], None], model) -> None:
    """Make a SavedModel, a folder that must be new, put the record of the run into it, and say so.

    Args:
        ctx: of the command.
        folder: of the SavedModel.
        export: makes it.
        model: that is exported: its name or place.
    """
    start = time.monotonic()
    clear_leftovers(folder.parent)
    export(folder)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = [path.relative_to(folder).as_posix() for path in files]
    entry = Entry({"model": str(model)}, names, outcome=DONE)
    entry.files = dict(zip(names, map(digest, files), strict=True))
    report = report_of(Request.of(ctx, {"model": model}), [entry])
    report.seconds = entry.seconds = round(time.monotonic() - start, 3)
    with locked(folder):
        write_runs(folder, [dataclasses.asdict(report)])
    typer.echo(f"The SavedModel is in {folder}.")
