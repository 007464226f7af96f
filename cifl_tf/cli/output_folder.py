"""Whether a run may write to a folder: nothing that another made is lost."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from cifl_tf.cli.run_report import DONE, PENDING, Entry, Request, RunReport, digest, settings
from cifl_tf.images.atomic import expanded
from cifl_tf.images.file_names import stem_of

MOST_NAMED = 3  # files, in one message
FIGURES = "figures"  # the folder of the pictures of ``report.html``


def checked_out(folder) -> Path:
    """``checked_folder`` of ``--out``."""
    return checked_folder(folder, "--out")


def checked_folder(folder, option: str) -> Path:
    """The folder to write to, with the home folder for ``~``, after a check that it can be used.

    Args:
        folder: as given.
        option: or argument, for errors.

    Raises:
        ValueError: it is a file or a broken link, or nobody may write there.
    """
    folder = expanded(folder)
    if folder.is_symlink() and not folder.exists():
        raise ValueError(f"{option} {folder} is a link to nowhere; give another folder")
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        what = "a file" if there.is_file() else "no folder"
        raise ValueError(f"{option} {folder} cannot be made, for {there} is {what}; give a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"{option} {folder} cannot be written to; give a folder that can be")
    return folder


def image_entries(
    images: Sequence[Path], out: Path, endings: Sequence[str], picture: str | None = None
) -> list[Entry]:
    """An entry for every image, which becomes files of these endings.

    Args:
        images: files.
        out: the folder of the results.
        endings: of the files, which begin as the image does.
        picture: ending of the last file, which lies in the folder ``figures``; None for no picture.

    Raises:
        ValueError: two images would become the same file.
    """
    entries: dict[str, Entry] = {}
    for image in images:
        stem = stem_of(image)
        if stem in entries:
            raise ValueError(
                f"{entries[stem].input['image']} and {image} would both become "
                f"{out / (stem + endings[0])}; run them one by one with different --out"
            )
        planned = [stem + ending for ending in endings]
        if picture is not None:
            planned.append(f"{FIGURES}/{stem}{picture}")
        entries[stem] = Entry({"image": os.path.abspath(image)}, planned)
    return list(entries.values())


def check_files(folder, report: RunReport, runs: Iterable[Mapping], overwrite: bool) -> None:
    """Refuse a run that would overwrite what it did not make.

    A file may be replaced where the same command, with the same options, made it from the same
    input, and nobody has changed it since.

    Args:
        folder: of the results.
        report: of the run that begins.
        runs: earlier ones into the folder.
        overwrite: whether files of others may be replaced too.

    Raises:
        ValueError: names the files.
    """
    folder, runs = Path(folder), list(runs)
    read = {os.path.realpath(path) for entry in report.inputs for path in entry.input.values()}
    in_the_way = []
    for entry in report.inputs:
        for name in (*entry.planned, *entry.removed):
            target = folder / name
            if os.path.realpath(target) in read:
                raise ValueError(f"{target} is an input of this command; give another folder")
            if os.path.lexists(target):
                owner = _owner(runs, name)
                if target.is_dir() or (owner is None and name in entry.removed):
                    raise ValueError(f"{target} is in the way; move it, or give another folder")
                reason = _difference(target, report, entry, owner)
            else:
                reason = _claim(runs, name, entry)
            if reason and not overwrite:
                in_the_way.append(f"{target} ({reason})")
    if in_the_way:
        named = ", ".join(in_the_way[:MOST_NAMED])
        if len(in_the_way) > MOST_NAMED:
            named += f" and {len(in_the_way) - MOST_NAMED} more"
        verb, object_ = ("is", "it") if len(in_the_way) == 1 else ("are", "them")
        raise ValueError(
            f"{named} {verb} in the way; give another folder, or --overwrite to replace {object_}"
        )


def done_before(
    folder,
    report: RunReport | Request,
    entry: Entry,
    runs: Iterable[Mapping],
    contents: bool = True,
) -> Entry | None:
    """What an earlier run recorded of an input, where the run would make the same of it again.

    That is, the same command of the same version, with the same options, did it last, nobody has
    changed its files, and the inputs and files of the options, such as a model, are the same.

    Args:
        folder: of the results.
        report: of the run, or what it was asked for.
        entry: of the run, of the input.
        runs: earlier ones into the folder.
        contents: compare the contents of its files; else a file that was changed counts as done,
            and nothing is read.
    """
    folder = Path(folder)
    for run in reversed([*runs]):
        found = [one for one in run["inputs"] if one["input"] == entry.input]
        if found and run["command"] == report.command:
            break
    else:
        return None
    last = Entry(**found[-1])
    mine, before = ({**settings(one)} for one in (report.options, run["options"]))
    versions = [one.get("cifl_tf") for one in (report.versions, run["versions"])]
    if last.outcome != DONE or mine != before or versions[0] != versions[1]:
        return None
    files = {folder / name: written for name, written in last.files.items()}
    if not {*last.files} <= {*entry.planned} or not all(path.is_file() for path in files):
        return None
    if last.read != states_read(report, entry):
        return None
    same = not contents or all(digest(path) == written for path, written in files.items())
    return last if same else None


def state_of(path) -> list[int] | None:
    """Size, and time of the last change in ns, of a file or folder; None where there is none.

    A file that takes the place of another may be older than this one: a copy keeps its time. Of a
    folder, what lies directly in it counts.
    """
    try:
        inner = os.scandir(path) if os.path.isdir(path) else ()
        found = [os.stat(path), *(one.stat() for one in inner)]
    except (OSError, ValueError):  # or no path
        return None
    return [sum(one.st_size for one in found), max(one.st_mtime_ns for one in found)]


def states_read(
    report: RunReport | Request, entry: Entry, state: Callable = state_of
) -> dict[str, list[int]]:
    """States of the files that an input and options name, by path; see ``state_of``.

    Args:
        report: of the run, or what it was asked for.
        entry: of the input.
        state: of a path.
    """
    options = {**settings(report.options)}.values()
    files = [value for value in options if isinstance(value, str) and os.path.isabs(value)]
    named = [*entry.input.values(), *files]
    states = {path: state(path) for path in named}
    return {path: found for path, found in states.items() if found}


def _owner(runs, name):
    """The last run that wrote a file, the input, and the digest; None where none did.

    A run that was killed may have written a file and not its digest.
    """
    for run in reversed(runs):
        for entry in run["inputs"]:
            if name in entry["files"]:
                return run, entry["input"], entry["files"][name]
            if entry["outcome"] == PENDING and name in entry["planned"]:
                return run, entry["input"], None
    return None


def _difference(target, report, entry, owner):
    """Why a file is not one that this run would make again; None if it is."""
    if owner is None:
        return "no run of cifl in this folder wrote it"
    run, source, written = owner
    if source != entry.input:
        return f"made from {_names(source, entry.input)}"
    if run["command"] != report.command:
        return f"made by cifl {run['command']}"
    mine, others = settings(report.options), settings(run["options"])
    changed = [name for name in mine if name in others and mine[name] != others[name]]
    if changed:
        pairs = [f"{name} {others[name]!r}, not {mine[name]!r}" for name in changed]
        return f"made with {', '.join(pairs)}"
    if written is not None and written != digest(target):
        return "changed since cifl wrote it"
    return None


def _claim(runs, name, entry):
    """Which run that has not ended is to make a file of another input; None if there is none."""
    for run in runs:
        if run["seconds"] is not None:
            continue
        for other in run["inputs"]:
            planned = other["outcome"] == PENDING and name in other["planned"]
            if planned and other["input"] != entry.input:
                source = _names(other["input"], entry.input)
                return f"a run that began at {run['started']} is to make it from {source}"
    return None


def _names(source, mine):
    """The inputs of another run that differ, by their roles where some are the same."""
    if not source.items() & mine.items():
        return " and ".join(source.values())
    roles = [role for role in source | mine if source.get(role) != mine.get(role)]
    return ", ".join(
        f"the {role} {source[role]}" if role in source else f"no {role}" for role in roles
    )
