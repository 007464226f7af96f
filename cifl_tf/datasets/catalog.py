"""Which dataset a folder is."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cifl_tf.datasets.bids import read_bids
from cifl_tf.datasets.cohorts import Cohort
from cifl_tf.datasets.ixi import read_ixi
from cifl_tf.datasets.oasis import read_oasis
from cifl_tf.datasets.virtual import virtual_cohort
from cifl_tf.images.atomic import expanded

VIRTUAL = 20  # subjects of the virtual cohort, where no number is given


def load_cohort(
    data,
    ndim: int = 2,
    segmentation: str | None = None,
    skip_incomplete: bool = False,
    needed: Sequence[str] = (),
) -> Cohort:
    """Open a dataset by what its folder holds.

    Args:
        data: a folder with ``subjects.txt`` (neurite-OASIS), folders ``sub-*`` (BIDS) or files
            ``IXI*`` (IXI); or "virtual" for the virtual cohort of 20 subjects, "virtual:N" of N.
            "FOLDER:ses-01,space-MNI152Lin" chooses the session and other entities of a BIDS
            dataset; see ``read_bids``. "space-" chooses files without one.
        ndim: for neurite-OASIS, which has 2D and 3D images.
        segmentation: which of several, as for ``read_bids`` and ``read_oasis``; None for the
            reader's own choice, "none" for the images of a BIDS dataset without labels.
        skip_incomplete: leave out subjects that lack an image or labels; a ``Note`` says which.
        needed: contrasts that will be asked for, as "T1w:inverted", without which a subject of a
            BIDS dataset is incomplete; others may be missing.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it is none of these datasets, it has no choice of segmentations, or what its
            reader raises.
    """
    virtual = re.fullmatch(r"virtual(?::(\d+))?", str(data))
    if virtual:
        count = int(virtual[1] or VIRTUAL)
        source = "virtual" if count == VIRTUAL else f"virtual:{count}"
        return replace(virtual_cohort(count), source=source)
    folder, entities = _entities(str(data))
    chosen: dict[str, Any] = {}
    if segmentation is not None:
        chosen["segmentation"] = None if segmentation == "none" else segmentation
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is no folder; give one of a dataset, or 'virtual' for the virtual cohort"
        )
    is_bids = any(folder.glob("sub-*"))
    if entities and not is_bids:
        raise ValueError(
            f"{data} chooses BIDS entities, but {folder} holds no sub-*; leave them out"
        )
    if (folder / "subjects.txt").exists():
        cohort = read_oasis(folder, ndim, skip_incomplete=skip_incomplete, **chosen)
    elif is_bids:
        cohort = read_bids(
            folder,
            session=entities.get("ses"),
            entities={key: value for key, value in entities.items() if key != "ses"},
            skip_incomplete=skip_incomplete,
            needed=tuple(dict.fromkeys(name.partition(":")[0] for name in needed)),
            **chosen,
        )
    elif any(folder.glob("IXI*")):
        if chosen:
            raise ValueError(f"segmentation is {segmentation!r}, but IXI has none; leave it out")
        cohort = read_ixi(folder, skip_incomplete=skip_incomplete)
    else:
        raise ValueError(
            f"{folder} holds neither subjects.txt (neurite-OASIS) nor sub-* (BIDS) nor IXI*; give "
            "the folder of one of these datasets"
        )
    names = ",".join(f"{key}-{value or ''}" for key, value in sorted(entities.items()))
    source = f"{folder.resolve()}{names and ':'}{names}"
    return replace(cohort, source=source, segmentation=segmentation)


def same_people(source: str | None, other: str | None) -> bool:
    """Whether subjects of the same names are the same, in cohorts of these sources.

    The first subjects of the virtual cohort are, however many there are.
    """
    virtual = all(one and one.partition(":")[0] == "virtual" for one in (source, other))
    return virtual or source == other


def _entities(data: str) -> tuple[Path, dict[str, str | None]]:
    """Folder and BIDS entities of "FOLDER:ses-01,space-MNI152Lin"."""
    folder, _, text = data.rpartition(":")
    pairs = [pair.partition("-") for pair in text.split(",")]
    chosen = folder and not expanded(data).is_dir()
    if chosen and all(key.isalnum() and dash for key, dash, _ in pairs):
        return expanded(folder), {key: value or None for key, _, value in pairs}
    return expanded(data), {}
