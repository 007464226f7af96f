"""File names of BIDS: what they say, and which of several files is meant."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from cifl_tf.images.file_names import WRITABLE, is_leftover, suffix_of

# Entities whose values are numbers, so that run-1 is run-01 (BIDS 1.10, "index").
INDICES = ("run", "echo", "flip", "inv", "split", "chunk")
# Suffixes of images, not of masks and segmentations; those listed first come first.
SUFFIXES = (
    *("T1w", "T2w", "FLAIR", "PDw", "T2starw", "UNIT1", "inplaneT1", "inplaneT2", "PDT2", "angio"),
    *("T1map", "T2map", "PDmap", "CT"),
)


class BidsImage(NamedTuple):
    """An image of a subject, and what its name says."""

    entities: dict[str, str]
    suffix: str
    path: Path


def parse_name(path) -> tuple[dict[str, str], str, str]:
    """Split a BIDS file name into entities, suffix and extension.

    ``sub-01_desc-brain_T1w.nii.gz`` is ({"sub": "01", "desc": "brain"}, "T1w", ".nii.gz").
    """
    name = Path(path).name
    extension = suffix_of(name) or name[len(name.partition(".")[0]) :]
    *pairs, suffix = name[: len(name) - len(extension)].split("_")
    split = (pair.partition("-") for pair in pairs)
    return {key: value for key, _, value in split}, suffix, extension


def images_in(anat) -> list[BidsImage]:
    """Every image in a folder anat, in the order of the names; none where there is no folder.

    Raises:
        ValueError: a file lies in the folder of another subject or session.
        OSError: the folder cannot be read.
    """
    try:  # not by glob, for which a locked folder is empty
        names = sorted(os.listdir(anat))
    except (FileNotFoundError, NotADirectoryError):
        return []
    images = []
    for path in (anat / name for name in names):
        entities, suffix, extension = parse_name(path)
        if "sub" in entities and extension in WRITABLE and not is_leftover(path):
            _check_folders(path, entities)
            images.append(BidsImage(entities, suffix, path))
    return images


def _check_folders(path, entities):
    """Refuse a file in the folder of another subject or session."""
    inner, outer = (folder.name for folder in path.absolute().parents[1:3])
    for name in (inner, outer) if inner.startswith("ses-") else (inner,):
        key, _, value = name.partition("-")
        if key in ("sub", "ses") and entities.get(key, value) != value:
            raise ValueError(
                f"{path} lies in {name}, but its name says {key}-{entities[key]}; move or rename it"
            )


def matching(
    images: Collection[BidsImage],
    suffix: str,
    wanted: Mapping[str, str | None],
    optional: Collection[str] = (),
) -> list[Path]:
    """The files with a suffix and these entities.

    Args:
        images: of ``images_in``.
        suffix: as "T1w".
        wanted: values of entities; None for a name without the entity.
        optional: entities that a name may leave out. Of names that agree, those are taken that say
            most of them.
    """
    agreeing: dict[int, list[Path]] = {}
    for entities, other, path in images:
        said = {key: value for key, value in wanted.items() if key in entities}
        silent = [key for key, value in wanted.items() if key not in entities and value is not None]
        if (
            other == suffix
            and all(same_value(key, entities[key], value) for key, value in said.items())
            and all(key in optional for key in silent)
        ):
            agreeing.setdefault(len(said), []).append(path)
    return agreeing[max(agreeing)] if agreeing else []


def saying(wanted: Mapping[str, str | None]) -> str:
    """Entities as they are in file names, for messages."""
    return "".join(f"_{key}-{value}" for key, value in wanted.items() if value is not None)


def telling_apart(paths: Collection[Path]) -> tuple[str, str]:
    """An entity with a value that one of these files has and another has not."""
    names = [parse_name(path)[0] for path in paths]
    for entities in names:
        for pair in entities.items():
            if any(pair not in other.items() for other in names):
                return pair
    return "run", "1"


def same_value(key, value, wanted):
    """Whether two values of an entity are the same, run-1 and run-01 for example."""
    if wanted is not None and key in INDICES and value.isdigit() and wanted.isdigit():
        return int(value) == int(wanted)
    return value == wanted
