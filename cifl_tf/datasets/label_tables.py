"""Tables of labels: BIDS ``dseg.tsv`` and FreeSurfer color tables; and which labels occur."""

import csv
import io
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cifl_tf._notes import listed, note
from cifl_tf.images.atomic import file_state
from cifl_tf.images.volumes import read_labels

LONGEST_NAME = 200  # letters; a longer one is no name, but a table without line ends


def read_bids_table(path) -> dict[int, str]:
    """Read a BIDS table of labels, columns ``index``, ``name`` and perhaps ``abbreviation``.

    Returns:
        For each value but 0, in the order of the table, the abbreviation, or the name where there
        is none.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no table in UTF-8, a column or a name is missing, a name is over-long, an
            index is not a whole number, or one occurs twice.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(_text(path)), delimiter="\t"))
    except csv.Error as error:
        raise ValueError(f"{path} is no table with tabs ({error}): save it as TSV") from error
    if not rows or not {"index", "name"} <= set(rows[0]):
        columns = reprlib.repr(list(rows[0]) if rows else [])
        raise ValueError(f"{path} has the columns {columns}: it needs rows of index and name")
    return _table(path, [(row["index"], _name(row)) for row in rows])


def read_freesurfer_table(path) -> dict[int, str]:
    """Read a FreeSurfer color table, lines of value, name and color; # begins a comment.

    Returns:
        The name of each value but 0, in the order of the table.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no text in UTF-8, has no labels, a value is not a whole number or has no
            name, a name is over-long, or one occurs twice.
    """
    lines = (line.partition("#")[0].split() for line in _text(path).splitlines())
    return _table(path, [(*fields, "")[:2] for fields in lines if fields])


def occurring_values(paths: Iterable) -> list[int]:
    """The values that occur in any of these label maps, in ascending order."""
    found: set[int] = set()
    for path in _shown(paths):
        found.update(_values_of(path))
    return sorted(found)


def occurring_rows(table: Mapping[int, str], paths: Iterable, source) -> dict[int, str]:
    """Leave out the rows of a table whose labels occur in none of these label maps.

    A network has a channel for every label, and a loss that is a mean over labels hardly sees the
    few of a long table that are there. Files are read until every label was found, so most often
    one. A ``Note`` says what is left out.

    Args:
        table: names by value.
        paths: label maps of all subjects, so that every split of them has the same labels.
        source: file of the table, for messages.

    Raises:
        ValueError: none of the labels occurs, or as ``volumes.read_labels``.
    """
    missing = set(table)
    for path in _shown(paths):
        missing -= _values_of(path)
        if not missing:
            return dict(table)
    kept = {value: name for value, name in table.items() if value not in missing}
    if not kept:
        raise ValueError(
            f"{source} has the labels {listed(map(str, table))}, of which no segmentation holds "
            "any: give the table of these segmentations"
        )
    left_out = listed(name for value, name in table.items() if value in missing)
    note(
        f"{len(missing)} of the {len(table)} labels of {source} occur in no segmentation and are "
        f"left out: {left_out}"
    )
    return kept


def _shown(paths):
    return tqdm(paths, desc="labels", unit="file", disable=None, leave=False)


def _values_of(path) -> frozenset[int]:
    return _values_in(path, file_state(path))


@cache
def _values_in(path, state) -> frozenset[int]:
    """Values of a label map; read again only when the file has changed."""
    return frozenset(np.unique(read_labels(path)).tolist())


def _text(path):
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 ({error.reason}): save it as that") from error


def _name(row):
    """The abbreviation of a row of a BIDS table, or its name; n/a stands for none."""
    texts = ((row.get(column) or "").strip() for column in ("abbreviation", "name"))
    return next((text for text in texts if text not in ("", "n/a")), "")


def _table(path, rows: Sequence[tuple[str | None, str]]) -> dict[int, str]:
    """Return the table of these pairs of value and name, without background."""
    table: dict[int, str] = {}
    for value, name in rows:
        try:
            index = int(value or "")
        except ValueError:
            shown = reprlib.repr(value)
            raise ValueError(f"{path} has the label {shown}: give whole numbers") from None
        if abs(index) >= 2**31:
            raise ValueError(f"{path} has the label {index}: give whole numbers below 2**31")
        if index in table:
            raise ValueError(f"{path} has the label {index} twice: give each once")
        if index != 0 and not 0 < len(name) <= LONGEST_NAME:
            raise ValueError(
                f"{path} has a name of {len(name)} letters for the label {index}: give 1 to "
                f"{LONGEST_NAME}"
            )
        table[index] = name
    table.pop(0, None)
    if not table:
        raise ValueError(f"{path} has no labels besides 0: give one at least")
    if len(set(table.values())) < len(table):
        raise ValueError(f"{path} has the same name for two labels: give each its own")
    return table
