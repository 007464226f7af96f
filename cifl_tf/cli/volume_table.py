"""A table of the volumes of labels, to which several runs add at the same time."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from cifl_tf.images.atomic import atomic_path, locked

VOLUMES_FILE = "volumes.csv"
IMAGE = "image"
DIGITS = 7


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
            table = self._empty() if self._anew else self._read()
            self._anew = False
            texts = {name: f"{value:.{DIGITS}g}" for name, value in volumes.items()}
            table.loc[image] = texts
            with atomic_path(self.path) as temporary:
                table.to_csv(temporary)

    def _read(self):
        """The table by image, as text."""
        import pandas as pd  # slow to import

        advice = "give another folder, or --overwrite to begin the table anew"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)  # lines that are too long
                table = pd.read_csv(
                    self.path, dtype=object, index_col=False, encoding="utf-8-sig", na_filter=False
                )
            if (table == "").any(axis=None):
                raise ValueError("some lines are too short")
        except FileNotFoundError:
            return self._empty()
        except (ValueError, pd.errors.ParserWarning) as error:
            raise ValueError(f"{self.path} is damaged ({error}); {advice}") from error
        if list(table) != self.columns:
            raise ValueError(
                f"{self.path} has the columns {list(table)}, but the segmenter gives "
                f"{self.columns}; {advice}"
            )
        return table.set_index(IMAGE)

    def _empty(self):
        import pandas as pd

        return pd.DataFrame(columns=self.columns, dtype=object).set_index(IMAGE)
