"""A table of the volumes of labels, to which several runs add at the same time."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from cifl_tf.images.atomic import atomic_path, locked

VOLUMES_FILE = "volumes.csv"
IMAGE = "image"


class VolumeTable:
    """A CSV file with a row per image, written whole after every one of them.

    Rows that other runs wrote stay, also those of runs that are at work now.

    Args:
        path: the file.
        names: of the labels, the columns after "image".
        overwrite: begin anew where the file holds something else.

    Raises:
        ValueError: the file holds other columns, or is damaged.
    """

    def __init__(self, path: Path, names: Sequence[str], overwrite: bool = False):
        self.path, self.columns = path, [IMAGE, *names]
        self._anew = False
        try:
            self._read()
        except ValueError:
            if not overwrite:
                raise
            self._anew = True

    def add(self, image: str, volumes: Mapping[str, float]) -> None:
        """Add the row of an image, or replace it.

        Args:
            image: absolute path: files of different folders may have the same name.
            volumes: by the names of the labels.

        Raises:
            ValueError: another run wrote other columns to the file since the table was opened.
        """
        with locked(self.path.parent):
            rows = {} if self._anew else self._read()
            self._anew = False
            rows[image] = {IMAGE: image, **volumes}
            with (
                atomic_path(self.path) as temporary,
                temporary.open("w", newline="", encoding="utf-8") as file,
            ):
                writer = csv.DictWriter(file, self.columns)
                writer.writeheader()
                writer.writerows(rows.values())

    def _read(self) -> dict[str, dict]:
        """The rows by image."""
        advice = "give another --out, or --overwrite to begin the table anew"
        try:
            with self.path.open(newline="", encoding="utf-8-sig") as file:
                columns, *lines = (line for line in csv.reader(file, strict=True) if line)
            rows = [dict(zip(columns, line, strict=True)) for line in lines]
        except FileNotFoundError:
            return {}
        except (csv.Error, ValueError) as error:
            raise ValueError(f"{self.path} is damaged ({error}); {advice}") from error
        if columns != self.columns:
            raise ValueError(
                f"{self.path} has the columns {columns}, but the segmenter gives {self.columns}; "
                f"{advice}"
            )
        return {row[IMAGE]: row for row in rows}
