"""Scores of a run as files: CSV for statistics, JSON with where they come from, Markdown."""

import dataclasses
import json
import math
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cifl_tf._former_names import with_present_names
from cifl_tf._version import __version__
from cifl_tf.evaluation.summary import Rows, compare, mean_sd_text, summary, to_markdown
from cifl_tf.images.atomic import atomic_path, expanded
from cifl_tf.metrics import Comparison

CSV_FILE, JSON_FILE, MARKDOWN_FILE = "scores.csv", "scores.json", "scores.md"
MOST_NAMES = 12  # of subjects, in the text
SHOWN = (
    *("hd95", "folded", "correlation", "unrelated"),
    *("matching", "match distance", "effective rank"),
)
COMPARED = ("dice", "correlation")  # the first one that a run has


def write_report(out, rows: Rows, about: Mapping, against: Mapping | None = None) -> str:
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
    out, rows = expanded(out), pd.DataFrame(rows)
    earlier = against["rows"] if against else None
    text = _markdown(rows, earlier, about.get("data"))
    report = {
        "about": {**about, "versions": package_versions()},
        "rows": to_json(rows.to_dict("records")),
        "summary": to_json(summary(rows)),
        "comparison": to_json(
            {name: dataclasses.asdict(found) for name, found in _comparison(rows, earlier).items()}
        ),
    }
    with atomic_path(out / CSV_FILE) as temporary:
        rows.to_csv(temporary, index=False, na_rep="nan")
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
    import tensorflow as tf  # slow to import

    return {
        "cifl_tf": __version__,
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def read_report(folder) -> dict[str, Any]:
    """Read the ``scores.json`` of ``write_report``, NaN and infinity as they were.

    Returns:
        "about" in names of today, "rows" as a DataFrame, "summary" and "comparison".

    Raises:
        ValueError: there is none, or it is damaged.
    """
    file = Path(folder) / JSON_FILE
    try:
        report = json.loads(file.read_text())
        return {
            "about": with_present_names(report["about"], optimise="optimize"),
            "rows": pd.DataFrame(_from_json(report["rows"])),
            **{name: _from_json(report[name]) for name in ("summary", "comparison")},
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


def score_table(rows: Rows, against: Rows | None = None) -> pd.DataFrame:
    """Mean ± SD as text, a line per contrast.

    Distances of single labels would make the table too wide, and are left out.

    Args:
        rows: as for ``write_report``.
        against: rows of another run; adds the mean difference and the p-value.
    """
    rows, lines = pd.DataFrame(rows), []
    comparison = _comparison(rows, against)
    compared = _heading(_compared(rows))
    for contrast, numbers in summary(rows).items():
        line = {"contrast": contrast}
        for name, spread in numbers.items():
            if name.startswith("dice") or name in SHOWN:
                scale, decimals = {"hd95": (1, 2), "folded": (100, 2)}.get(name, (1, 3))
                line[_heading(name)] = mean_sd_text(spread, decimals, scale)
        if comparison:
            found = comparison[contrast]
            too_small = " (n too small for p < 0.05)" if found.too_small else ""
            line |= {f"Δ {compared}": f"{found.mean_difference:+.3f}"}
            line |= {"p": f"{found.p_value:.2g}{too_small}"}
        lines.append(line)
    return pd.DataFrame(lines)


def subject_scores(rows: Rows) -> dict[str, dict[str, float]]:
    """By subject (or fixed subject), the mean Dice or correlation of each contrast, if finite."""
    rows = pd.DataFrame(rows)
    value, subject = _compared(rows), "fixed" if "fixed" in rows else "subject"
    means = rows.groupby([subject, "contrast"], sort=False)[value].mean()
    return {
        name: {
            f"{_heading(value)}, {contrast}": number
            for contrast, number in means[name].items()
            if math.isfinite(number)
        }
        for name in means.index.unique(subject)
    }


def _comparison(rows: pd.DataFrame, against: Rows | None) -> dict[str, Comparison]:
    return {} if against is None else compare(rows, against, _compared(rows))


def _markdown(rows: pd.DataFrame, against: Rows | None, data: str | None) -> str:
    pairs = "fixed" in rows
    subjects = sorted(set(rows["fixed" if pairs else "subject"]))
    over = f"{len(subjects)} subjects"
    if len(subjects) <= MOST_NAMES:
        over += f" ({', '.join(subjects)})"
    over += f" of {data}" if data else ""
    if pairs:
        over = f"ordered pairs of {over}; pairs are not independent"
    text = f"Mean ± SD over {over}.\n"
    if against is not None:
        text += (
            f"p: two-sided paired Wilcoxon test of the {_heading(_compared(rows))} against the "
            f"other run, over {'fixed ' if pairs else ''}subjects; Δ: mean difference, this run "
            "minus the other.\n"
        )
    return f"{text}\n{to_markdown(score_table(rows, against))}"


def _compared(rows):
    return next(name for name in COMPARED if name in rows)


def _heading(name):
    if name == "hd95":
        return "HD95 (mm)"
    return "folded (%)" if name == "folded" else name.replace("dice", "Dice", 1)
