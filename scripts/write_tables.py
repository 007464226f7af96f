"""Write the tables of README, docs and model cards from the numbers in ``benchmarks/results``.

    python scripts/write_tables.py
    python scripts/write_tables.py --check
    python scripts/write_tables.py --add cards/shapes-2d "shapes-2d | sub-13 to sub-16" scores

A table stands between the lines ``<!-- results: NAME begin -->`` and ``<!-- results: NAME end -->``
of a page. NAME is one of ``TABLES``; STUDY/TASK for all that a study has of a task, such as
``cards/shapes-2d/features``; or a file of ``benchmarks/results`` that a benchmark wrote with
``--json``, such as ``tissues``. The third command puts the scores of a folder of `cifl evaluate`
into a study, ``benchmarks/results/cards/shapes-2d.json``, under a name, in which ``|`` separates
the cells of the first columns.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cifl_tf  # noqa: F401  isort: skip  (first: it selects Keras 2 for TensorFlow)
import pandas as pd

from cifl_tf.evaluation.report import read_report, to_json
from cifl_tf.evaluation.summary import mean_sd_text, summary, to_markdown
from cifl_tf.images.atomic import atomic_path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = ("README.md", "docs/**/*.md", "cifl_tf/weights/*/README.md")
PART = re.compile(r"(<!-- results: (\S+) begin -->\n)(.*?)(<!-- results: \2 end -->)", re.DOTALL)

DICE = {"T1w": "dice", "inverted T1w": "dice", "FLAIR": "dice"}
# By task, the number in every column.
COLUMNS = {
    "features": {"inverted T1w": "correlation", "FLAIR": "correlation", "unrelated": "unrelated"},
    "segmentation": DICE,
    "registration": {"before": "dice before", **DICE},
}
BORDERS = "features/"  # studies of encoders, and of what places the borders of labels
# By heading, the contrast of the images; for pairs, the contrast of the fixed image.
CONTRASTS = {"inverted T1w": "T1w:inverted", "unrelated": "FLAIR", "before": "T1w"}


@dataclass(frozen=True)
class Line:
    """One line of a table.

    Attributes:
        label: text of the first cell.
        study: file in ``benchmarks/results``, without its ending.
        task: in this file.
        method: of this task.
    """

    label: str
    study: str
    task: str
    method: str


TABLES = {
    "readme": [
        *(
            Line(f"segmentation, {text}", "features/slices", "segmentation", method)
            for text, method in (
                ("intensities", "none, intensities | network"),
                ("features of an untrained encoder", "untrained | network"),
                ("features of `shapes-2d-v2`", "`shapes-2d-v2` | network"),
                ("the same, borders by intensities", "`shapes-2d-v2` | intensities"),
            )
        ),
        *(
            Line(f"{text}{method}", "slices", task, method)
            for task, text, methods in (
                (
                    "registration",
                    "registration, optimized on ",
                    ("intensities", "intensities, squared correlation"),
                ),
                (
                    "registration",
                    "registration, optimized on intensities and ",
                    (
                        "MIND-SSC",
                        "features of an untrained encoder",
                        "features of `shapes-2d-wide`",
                    ),
                ),
            )
            for method in methods
        ),
    ],
}


def table(name: str) -> str:
    """The Markdown table of a name.

    Raises:
        ValueError: there is none.
    """
    if name in TABLES:
        rows = [
            {"method": line.label, **_cells(found, DICE)}
            for line in TABLES[name]
            for found in [_read(line.study)["results"][line.task][line.method]]
        ]
        return to_markdown(pd.DataFrame(rows))
    if (RESULTS / f"{name}.json").is_file() and isinstance(_read(name), list):
        return to_markdown(pd.DataFrame(_read(name)))
    study, _, task = name.rpartition("/")
    known = task in COLUMNS and (RESULTS / f"{study}.json").is_file()
    methods = _read(study)["results"].get(task) if known else None
    if not methods:
        raise ValueError(
            f"there is no table {name!r}; give one of {', '.join(TABLES)}, or STUDY/TASK of a file "
            f"in {RESULTS} and of {', '.join(COLUMNS)}"
        )
    rows = []
    for method, found in methods.items():
        first, _, second = method.partition(" | ")
        about = {"subjects": second, "encoder": f"`{first}`"}
        if study.startswith(BORDERS):
            about = {"encoder": first, "borders": second}
        rows.append({**about, **_cells(found, COLUMNS[task])})
    return to_markdown(pd.DataFrame(rows))


def with_tables(text: str) -> str:
    """A page with its tables written anew."""
    return PART.sub(lambda part: f"{part[1]}{table(part[2])}{part[4]}", text)


def add_scores(study: str, method: str, folder: Path) -> None:
    """Put the scores of a folder of `cifl evaluate` into a study, of which the file may be new."""
    report = read_report(folder)
    about, rows = _portable(report["about"]), report["rows"]
    file = RESULTS / f"{study}.json"
    content = json.loads(file.read_text()) if file.is_file() else {}
    for part, value in (
        ("about", {name: about[name] for name in about if name not in ("command", "against")}),
        ("results", summary(rows)),
        ("scores", rows.to_dict("split", index=False)),
    ):
        of_task = content.setdefault(part, {}).setdefault(about["task"], {})
        of_task[method] = to_json(value)
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    _read.cache_clear()


@cache
def _read(study):
    return json.loads((RESULTS / f"{study}.json").read_text())


def _cells(found: Mapping, columns: Mapping[str, str]) -> dict[str, str]:
    """Mean ± SD of a summary by heading."""
    cells = {}
    for heading, value in columns.items():
        contrast = CONTRASTS.get(heading, heading)
        of = next(c for c in found if c == contrast or c.endswith(f" to {contrast}"))
        cells[heading] = mean_sd_text(found[of][value])
    return cells


def _portable(value):
    """Values with names in place of absolute paths, which say something on one machine only."""
    if isinstance(value, Mapping):
        return {name: _portable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_portable(item) for item in value]
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value


def main(argv=None):
    """Write the tables, or check them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if pages differ")
    parser.add_argument(
        "--add", nargs=3, metavar=("STUDY", "NAME", "FOLDER"), help="scores to put into a study"
    )
    args = parser.parse_args(argv)
    if args.add:
        study, method, folder = args.add
        add_scores(study, method, Path(folder))
    differing = []
    for page in sorted(page for pattern in PAGES for page in ROOT.glob(pattern)):
        old = page.read_text()
        new = with_tables(old)
        if new != old:
            differing.append(str(page.relative_to(ROOT)))
            if not args.check:
                with atomic_path(page) as temporary:
                    temporary.write_text(new)
    if args.check and differing:
        raise ValueError(
            f"tables differ from the results in {', '.join(differing)}: run "
            "python scripts/write_tables.py"
        )


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:  # what the user can mend
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
