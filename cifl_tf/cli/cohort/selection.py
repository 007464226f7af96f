"""Which subjects and scans of a BIDS dataset are wanted."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cifl_tf._notes import listed
from cifl_tf.cli.cohort.names import ORDER, Scan
from cifl_tf.datasets.bids_names import SUFFIXES, images_in, same_value
from cifl_tf.images.file_names import is_leftover, suffix_of

# As pybids, and so the filter files of fMRIPrep, name entities.
LONG_NAMES = {
    **{"subject": "sub", "session": "ses", "acquisition": "acq", "ceagent": "ce", "tracer": "trc"},
    **{"staining": "stain", "reconstruction": "rec", "direction": "dir", "modality": "mod"},
    **{"inversion": "inv", "mtransfer": "mt", "processing": "proc", "resolution": "res"},
    **{"density": "den", "description": "desc"},
}
IMAGE, SUFFIX = "image", "suffix"
ANATOMICAL = "anat"
NO_MAGNITUDE = ("phase", "real", "imag")  # parts of complex images, in which no brain shows


@dataclasses.dataclass(frozen=True)
class Selection:
    """Which scans are wanted of each subject.

    Attributes:
        contrasts: endings of their names; none for all anatomical images.
        sessions: folders, as "ses-01"; none for all, and for subjects without sessions.
        entities: values that each of these must have; None stands for a name without it. Images of
            phase, and real and imaginary parts, are wanted where "part" is among these only.
    """

    contrasts: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    entities: Mapping[str, Sequence[str | None]] = dataclasses.field(default_factory=dict)

    def scans(self, bids: Path, subject: str) -> list[Scan]:
        """The scans that are wanted of a subject, in the order of their names.

        Args:
            bids: the dataset.
            subject: folder, as "sub-01".
        """
        folder = bids / subject
        places = sorted(path for path in folder.glob("ses-*/anat") if not is_leftover(path.parent))
        places = [path for path in places if path.parent.name in self.sessions or not self.sessions]
        if not self.sessions:
            places.insert(0, folder / "anat")
        return [
            Scan(image.path, place.relative_to(folder).as_posix(), image.entities, image.suffix)
            for place in places
            for image in images_in(place)
            if self._wanted(image)
        ]

    def _wanted(self, image):
        said = {**image.entities, SUFFIX: image.suffix, "extension": suffix_of(image.path)}
        if "part" not in self.entities and said.get("part") in NO_MAGNITUDE:
            return False
        if image.suffix not in (self.contrasts or self.entities.get(SUFFIX, SUFFIXES)):
            return False
        return all(
            any(_has(said, key, value) for value in values) for key, values in self.entities.items()
        )


def read_filter(file: Path) -> dict[str, list[str | None]]:
    """The values of entities that a filter file asks for.

    Args:
        file: JSON as for fMRIPrep: an object "image" with values of entities by their short or long
            names, and of "suffix"; a list for any of several values, null for none.

    Raises:
        ValueError: there is something else in it.
        OSError: it cannot be read.
    """
    advice = 'give JSON such as {"image": {"suffix": "T1w", "acquisition": "iso", "run": [1, 2]}}'
    try:
        content = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is no JSON ({error}); {advice}") from error
    if not isinstance(content, dict) or not isinstance(content.get(IMAGE), dict):
        raise ValueError(f"{file} has no object {IMAGE!r}; {advice}")
    if len(content) > 1:
        others = sorted({*content} - {IMAGE})
        raise ValueError(f"{file} has {', '.join(others)} beside {IMAGE!r}; {advice}")
    found: dict[str, list[str | None]] = {}
    for key, value in content[IMAGE].items():
        values = value if isinstance(value, list) else [value]
        if not values or not all(isinstance(one, str | int | None) for one in values):
            raise ValueError(f"{file}: {key} is {value!r}; give text, a number or null, or a list")
        texts = [None if one is None else str(one) for one in values]
        name = LONG_NAMES.get(key, key)
        if name == "datatype":
            if ANATOMICAL not in texts:
                raise ValueError(f"{file}: {key} is {value!r}; only {ANATOMICAL!r} can be read")
        elif name == "extension":
            found[name] = [one and "." + one.lstrip(".") for one in texts]
        elif name in (*ORDER, SUFFIX):
            found[name] = texts
        else:
            raise ValueError(f"{file}: there is no entity {key!r}; {advice}")
    return found


def subjects_in(
    bids: Path, participants: Sequence[str] = (), share: tuple[int, int] = (1, 1)
) -> list[str]:
    """The folders of the subjects of a dataset, or of a share of them, in the order of their names.

    Every subject is in one of the shares.

    Args:
        bids: the dataset.
        participants: those that are wanted; none for all.
        share: which, from 1, of how many.

    Raises:
        FileNotFoundError: there are none, or not those that are wanted.
    """
    with os.scandir(bids) as found:
        names = sorted(
            one.name
            for one in found
            if one.name.startswith("sub-") and one.is_dir() and not is_leftover(one.name)
        )
    if not names:
        raise FileNotFoundError(f"{bids} holds no folders sub-*: give the root of a BIDS dataset")
    missing = sorted({*participants} - {*names})
    if missing:
        raise FileNotFoundError(f"{bids} has no {listed(missing)}; it has {listed(names)}")
    number, count = share
    return sorted({*participants} or names)[number - 1 :: count]


def _has(entities, key, value):
    return same_value(key, entities[key], value) if key in entities else value is None
