"""The group level of ``cifl cohort``: one table and one page of what became of all subjects."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from cifl_tf._notes import listed, note
from cifl_tf.cli.cohort.dataset import IGNORE_FILE, claim_dataset
from cifl_tf.cli.cohort.names import Scan
from cifl_tf.cli.cohort.work import Job, failed_subject, write_json
from cifl_tf.cli.html_report import HTML_FILE, MEANINGS, check_html, environment
from cifl_tf.cli.output_folder import done_before
from cifl_tf.cli.run_report import DONE, Entry, read_runs
from cifl_tf.images.atomic import atomic_path

TABLE_FILE, SIDECAR_FILE = "cohort.tsv", "cohort.json"
COSTS = ("(s)", "(MB)")  # endings of numbers that differ from run to run
OUTDATED = "outdated"
UNKNOWN = "n/a"  # as BIDS writes it
COLUMNS = {
    "participant_id": "Subject",
    "session_id": "Session; n/a where the subject has none",
    "scan": "Path of the scan in the dataset of the scans",
    "outcome": "done, failed, not finished (a run was killed), not reached, or outdated (of other "
    "options, another scan, or another version, or its files are gone)",
    "error": "Why it failed; n/a else",
}


def write_group(job: Job, subjects: Sequence[str]) -> list[Path]:
    """Write ``report.html`` and ``cohort.tsv`` of a derivative dataset.

    Args:
        job: of the participant level.
        subjects: folders of those that are reported on.

    Returns:
        The files.

    Raises:
        ValueError: there are no results of this analysis in the folder.
    """
    if not (job.out / IGNORE_FILE).exists():
        raise ValueError(f"{job.out} has no results yet; run the level 'participant' first")
    claim_dataset(job.out, job.bids, job.analysis.about, job.request, write=False)
    check_html(job.out, job.request.overwrite)
    rows = [row for subject in subjects for row in _rows_or_error(job, subject)]
    numbers = list(dict.fromkeys(name for row in rows for name in row["numbers"]))
    _write_table(job.out, rows, numbers)
    counts = Counter(row["outcome"] for row in rows)
    _write_page(job, rows, numbers, counts)
    others = [f"{count} {what}" for what, count in counts.items() if what != MEANINGS[DONE]]
    if others:
        note(f"scans: {len(rows)}, of these {listed(others)}; {job.out / TABLE_FILE} says which")
    return [job.out / name for name in (HTML_FILE, TABLE_FILE)]


def _rows_or_error(job, subject) -> list[dict]:
    """What became of the scans of a subject; one row with the error where this cannot be told."""
    try:
        return [*_rows(job, subject)]
    except (OSError, ValueError) as error:
        return [_row(subject, failed_subject(subject, error))]


def _rows(job, subject) -> Iterator[dict]:
    """What became of the scans of a subject, also of those that no run has reached."""
    last: dict[tuple, Entry] = {}
    runs = read_runs(job.out / subject)
    for run in runs:
        if run["command"] == job.request.command:
            last |= {tuple(entry["input"].items()): Entry(**entry) for entry in run["inputs"]}
    for scan, planned in job.entries(subject):
        entry = last.get(tuple(planned.input.items()))
        row = _row(subject, entry, scan)
        if entry and entry.outcome == DONE:
            same = done_before(job.out / subject, job.request, planned, runs, contents=False)
            if not same:
                row["outcome"] = OUTDATED
        yield row


def _row(subject: str, entry: Entry | None, scan: Scan | None = None) -> dict:
    """What became of a scan; without an entry nothing yet, without a scan of the whole subject."""
    session = scan and scan.entities.get("ses")
    return {
        "subject": subject,
        "session": session and f"ses-{session}",
        "scan": scan and scan.place,
        "outcome": MEANINGS[entry.outcome] if entry else "not reached",
        "error": " ".join(entry.error.split()) if entry and entry.error else None,
        "numbers": {
            name: value
            for name, value in (entry.numbers if entry else {}).items()
            if not name.endswith(COSTS)
        },
        "notes": entry.notes if entry else [],
        "seconds": entry.seconds if entry else None,
    }


def _write_table(out, rows, numbers):
    lines = [[*COLUMNS, *numbers]]
    for row in rows:
        known = [row[name] for name in ("subject", "session", "scan", "outcome", "error")]
        measured = [row["numbers"].get(name) for name in numbers]
        values = [None if value is None else f"{value:.8g}" for value in measured]
        lines.append([value or UNKNOWN for value in (*known, *values)])
    with atomic_path(out / TABLE_FILE) as temporary:
        text = "".join("\t".join(line) + "\n" for line in lines)
        temporary.write_text(text, encoding="utf-8")
    described = {**COLUMNS, **dict.fromkeys(numbers, "Measured by cifl_tf")}
    write_json(
        out / SIDECAR_FILE, {name: {"Description": text} for name, text in described.items()}
    )


def _write_page(job, rows, numbers, counts):
    description = json.loads((job.out / "dataset_description.json").read_text("utf-8"))
    text = (
        environment()
        .get_template("group.html.jinja")
        .render(
            title=description["Name"],
            made_by=description["GeneratedBy"][0],
            folder=job.out.resolve(),
            rows=rows,
            numbers=numbers,
            counts=counts,
            summary=[_summary(name, rows) for name in numbers],
            done=MEANINGS[DONE],
        )
    )
    with atomic_path(job.out / HTML_FILE) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _summary(name, rows):
    """Number, mean, SD and extremes of something that was measured."""
    import numpy as np

    values = np.array([row["numbers"][name] for row in rows if name in row["numbers"]], float)
    return {
        "name": name,
        "count": len(values),
        "mean": values.mean(),
        "sd": values.std(ddof=1) if len(values) > 1 else None,
        "lowest": values.min(),
        "highest": values.max(),
    }
