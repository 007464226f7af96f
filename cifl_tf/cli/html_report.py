"""``report.html``: what all runs into a folder made, with pictures, for reading in a browser."""

import base64
import dataclasses
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from cifl_tf.cli.run_report import DONE, FAILED, PENDING, SKIPPED, Entry
from cifl_tf.images.atomic import atomic_path

HTML_FILE = "report.html"
GENERATOR = '<meta name="generator" content="cifl_tf">'
MOST_EMBEDDED = 200  # pictures, about 50 MB; a browser is slow with more
MEANINGS = {
    DONE: "done",
    FAILED: "failed",
    SKIPPED: "not reached",
    PENDING: "not finished",
}


def write_html(folder: Path, runs: Sequence[Mapping]) -> None:
    """Write the report of all runs into a folder, whole or not at all; to be called in ``locked``.

    Every input is shown as its last run left it. The page needs no other file: pictures are in it,
    but for those beyond the last ``MOST_EMBEDDED``, which it links to.

    Args:
        folder: of the results.
        runs: of ``read_runs``.
    """
    last = _last_entries(runs)
    names = [name for entry in last for name in _pictures(folder, entry)]
    embedded = set(names[-MOST_EMBEDDED:])
    for entry in last:
        entry["title"] = _title(entry["input"])
        entry["meaning"] = MEANINGS[entry["outcome"]]
        entry["pictures"] = {
            name: _data_uri(folder / name) if name in embedded else quote(name)
            for name in _pictures(folder, entry)
        }
    text = (
        environment()
        .get_template("report.html.jinja")
        .render(
            folder=folder.resolve(),
            entries=last,
            columns=list(dict.fromkeys(name for entry in last for name in entry["numbers"])),
            counts={
                meaning: count
                for outcome, meaning in MEANINGS.items()
                if (count := sum(entry["outcome"] == outcome for entry in last))
            },
            runs=[_with_counts(run) for run in reversed(runs)],
        )
    )
    with atomic_path(folder / HTML_FILE) as temporary:
        temporary.write_text(text, encoding="utf-8")


def environment():
    """What pages are made in: templates beside this module, and ways to show numbers."""
    from jinja2 import Environment, PackageLoader  # slow to import

    found = Environment(
        loader=PackageLoader("cifl_tf.cli", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"number": number_text, "command": shlex.join, "duration": duration_text}
    found.globals["generator"] = GENERATOR
    return found


def check_html(folder: Path, overwrite: bool) -> None:
    """Refuse to replace a ``report.html`` that is none of cifl's.

    Raises:
        ValueError: there is one.
    """
    file = folder / HTML_FILE
    if file.exists() and not overwrite and GENERATOR not in file.read_text("utf-8", "replace"):
        raise ValueError(
            f"{file} is in the way, as no run of cifl wrote it; give another folder, or "
            "--overwrite to replace it"
        )


def number_text(value: float | None) -> str:
    """A number with as many decimals as its size asks for; nothing for None."""
    if value is None:
        return ""
    if not math.isfinite(value):
        return str(value)
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def duration_text(seconds: float | None) -> str:
    """Seconds in words, such as "2 min 5 s"; nothing for None."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _last_entries(runs):
    """Every input of every command once, as its last run left it."""
    last = {}
    for run in runs:
        for entry in run["inputs"]:
            last[run["command"], *sorted(entry["input"].items())] = entry
    return [dataclasses.asdict(Entry(**entry)) for entry in last.values()]


def _title(source):
    """What an entry is about: its subject, image or pair of images."""
    if "subject" in source:
        return source["subject"]
    names = {role: Path(path).name for role, path in source.items()}
    if "moving" in names:
        return f"{names['moving']} to {names['fixed']}"
    if "data" in names:
        return f"all subjects of {names['data']}"
    return names.get("image") or ", ".join(names.values())


def _pictures(folder, entry):
    return [name for name in entry["files"] if name.endswith(".png") and (folder / name).is_file()]


def _data_uri(file):
    return f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"


def _with_counts(run):
    outcomes = [entry["outcome"] for entry in run["inputs"]]
    counts = {MEANINGS[outcome]: outcomes.count(outcome) for outcome in dict.fromkeys(outcomes)}
    return {**run, "counts": counts}
