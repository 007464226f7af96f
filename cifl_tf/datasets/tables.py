"""Tables of labels: BIDS ``dseg.tsv`` and FreeSurfer colour tables."""

import csv
from pathlib import Path


def read_bids_table(path) -> dict[int, str]:
    """Read a BIDS table of labels, columns ``index``, ``name`` and perhaps ``abbreviation``.

    Returns:
        For each value but 0, in the order of the table, the abbreviation, or the name where there
        is none.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing, an index is not a whole number, or one occurs twice.
    """
    with Path(path).open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    if not rows or not {"index", "name"} <= set(rows[0]):
        columns = list(rows[0]) if rows else []
        raise ValueError(f"{path} has the columns {columns}: it needs rows of index and name")
    return _table(path, [(row["index"], row.get("abbreviation") or row["name"]) for row in rows])


def read_freesurfer_table(path) -> dict[int, str]:
    """Read a FreeSurfer colour table, lines of value, name and colour; # begins a comment.

    Returns:
        The name of each value but 0, in the order of the table.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has no labels, a value is not a whole number, or one occurs twice.
    """
    lines = (line.partition("#")[0].split() for line in Path(path).read_text().splitlines())
    return _table(path, [(fields[0], fields[1]) for fields in lines if len(fields) >= 2])


def _table(path, rows):
    """Return the table of these pairs of value and name, without background."""
    table = {}
    for value, name in rows:
        try:
            index = int(value)
        except ValueError:
            raise ValueError(f"{path} has the label {value!r}: give whole numbers") from None
        if index in table:
            raise ValueError(f"{path} has the label {index} twice: give each once")
        table[index] = name
    table.pop(0, None)
    if not table:
        raise ValueError(f"{path} has no labels besides 0: give one at least")
    if len(set(table.values())) < len(table):
        raise ValueError(f"{path} has the same name for two labels: give each its own")
    return table
