"""Scores of a run as files: CSV for statistics, JSON with where they come from, Markdown."""

import csv
import dataclasses
import json
import math
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from cifl_tf._version import __version__
from cifl_tf.evaluation.summary import compare, summary
from cifl_tf.images.atomic import atomic_path, expanded
from cifl_tf.metrics import Comparison, format_mean_sd

CSV_FILE, JSON_FILE, MARKDOWN_FILE = "scores.csv", "scores.json", "scores.md"
MOST_NAMES = 12  # of subjects, in the text
SHOWN = (
    *("hd95", "folded", "correlation", "unrelated"),
    *("matching", "match distance", "effective rank"),
)
COMPARED = ("dice", "correlation")  # the first one that a run has


def write_report(
    out, rows: Sequence[Mapping], about: Mapping, against: Mapping | None = None
) -> str:
    """Write the scores of a run to a folder, and replace those that are there.

    ``scores.csv`` holds the rows. ``scores.json`` holds "about", to which the versions of Python
    and of the packages are added, "rows", "summary" and "comparison". It is JSON by the standard:
    NaN is null, and infinity the text "Infinity". ``scores.md`` is a table with a line per
    contrast.

    Args:
        out: the folder.
        rows: of ``feature_scores``, ``segmentation_scores`` or ``registration_scores``.
        about: where the rows come from: command, model, data, seed and so on; what JSON can hold.
        against: an earlier run, as ``read_report`` gives it, with which to compare the Dice, or the
            correlation of features.

    Returns:
        The text of ``scores.md``.

    Raises:
        ValueError: no rows, or the earlier run is of other subjects or contrasts.
    """
    out = expanded(out)
    comparison = compare(rows, against["rows"], _compared(rows)) if against else {}
    text = _markdown(rows, comparison, about.get("data"))
    report = {
        "about": {**about, "versions": package_versions()},
        "rows": to_json(rows),
        "summary": to_json(summary(rows)),
        "comparison": to_json(
            {contrast: dataclasses.asdict(found) for contrast, found in comparison.items()}
        ),
    }
    with atomic_path(out / CSV_FILE) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with atomic_path(out / JSON_FILE) as temporary:
        temporary.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")
    with atomic_path(out / MARKDOWN_FILE) as temporary:
        temporary.write_text(text)
    return text


def write_study(out, name: str, lines: Sequence[str], about: Mapping, results: Mapping) -> str:
    """Write the tables of a study as ``name.md``, and the numbers as ``name.json``.

    Args:
        out: the folder.
        name: of both files, without ending.
        lines: Markdown; a first line is put before them, with command, seed and versions.
        about: "command", "seed", and what else made the numbers; what JSON can hold.
        results: by name, as they stand in the JSON file; see ``write_report`` for NaN and infinity.

    Returns:
        The text of ``name.md``.
    """
    versions = package_versions()
    pairs = ", ".join(" ".join(pair) for pair in versions.items())
    made_by = f"Made by `{about['command']}`, seed {about['seed']}, {pairs}."
    text = "\n".join([made_by, *lines]) + "\n"
    with atomic_path(Path(out) / f"{name}.md") as temporary:
        temporary.write_text(text)
    report = {**about, "versions": versions, **to_json(results)}
    with atomic_path(Path(out) / f"{name}.json") as temporary:
        temporary.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    return text


def package_versions() -> dict[str, str]:
    """Versions of Python and of what the numbers depend on."""
    return {
        "cifl_tf": __version__,
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def read_report(folder) -> dict:
    """Read the ``scores.json`` of ``write_report``, NaN and infinity as they were.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    file = Path(folder) / JSON_FILE
    try:
        report = json.loads(file.read_text())
        return {
            "about": report["about"],
            **{name: _from_json(report[name]) for name in ("rows", "summary", "comparison")},
        }
    except OSError as error:
        raise ValueError(
            f"{folder} holds no {JSON_FILE}; give a folder of `cifl evaluate` that finished"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file} is no report of `cifl evaluate` ({error!r}); evaluate that run again"
        ) from error


def to_json(value):
    """What JSON by the standard can hold: NaN as None, infinity as the text "Infinity"."""
    if isinstance(value, Mapping):
        return {name: to_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def _from_json(value):
    if isinstance(value, dict):
        return {name: _from_json(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    if value is None:
        return math.nan
    return float(value) if value in ("Infinity", "-Infinity") else value


def _compared(rows):
    return next(name for name in COMPARED if name in rows[0])


def _markdown(
    rows: Sequence[Mapping], comparison: Mapping[str, Comparison], data: str | None
) -> str:
    summaries = summary(rows)
    compared = _heading(_compared(rows))
    pairs = "fixed" in rows[0]
    subjects = {row["fixed" if pairs else "subject"] for row in rows}
    over = f"{len(subjects)} subjects"
    if len(subjects) <= MOST_NAMES:
        over += f" ({', '.join(sorted(subjects))})"
    over += f" of {data}" if data else ""
    if pairs:
        over = f"ordered pairs of {over}; pairs are not independent"
    lines = [f"Mean ± SD over {over}."]
    if comparison:
        lines += [
            f"p: two-sided paired Wilcoxon test of the {compared} against the other run, over "
            f"{'fixed ' if pairs else ''}subjects; Δ: mean difference, this run minus the other."
        ]
    # Distances of single labels would make the table too wide; they are in the other files.
    columns = [
        name for name in next(iter(summaries.values())) if name.startswith("dice") or name in SHOWN
    ]
    headings = ["contrast", *map(_heading, columns)]
    headings += [f"Δ {compared}", "p"] if comparison else []
    table = [headings, ["---"] * len(headings)]
    for contrast, numbers in summaries.items():
        cells = [contrast, *(_cell(name, numbers[name]) for name in columns)]
        if comparison:
            found = comparison[contrast]
            too_small = " (n too small for p < 0.05)" if found.too_small else ""
            cells += [f"{found.mean_difference:+.3f}", f"{found.p_value:.2g}{too_small}"]
        table.append(cells)
    lines += ["", *(f"| {' | '.join(cells)} |" for cells in table)]
    return "\n".join(lines) + "\n"


def _heading(name):
    if name == "hd95":
        return "HD95 (mm)"
    return "folded (%)" if name == "folded" else name.replace("dice", "Dice", 1)


def _cell(name, spread):
    """Mean and SD of one number, and how many infinite values are not in them."""
    scale, decimals = {"hd95": (1, 2), "folded": (100, 2)}.get(name, (1, 3))
    found = [format_mean_sd(spread["mean"] * scale, spread["sd"] * scale, decimals)]
    if np.isnan(spread["mean"]):
        found = []
    if spread["num_infinite"]:
        found.append(f"({spread['num_infinite']} of {spread['num']} infinite)")
    return " ".join(found) or "none"
