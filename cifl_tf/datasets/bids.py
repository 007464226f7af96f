"""Any BIDS dataset, raw or derivative: anatomical images and segmentations of its subjects."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from cifl_tf.datasets.cohorts import Cohort, make_cohort
from cifl_tf.datasets.subjects import ImageSource, Subject
from cifl_tf.datasets.tables import read_bids_table
from cifl_tf.volumes import read_labels

# Suffixes of images, not of masks and segmentations; those listed first come first.
SUFFIXES = (
    *("T1w", "T2w", "FLAIR", "PDw", "T2starw", "UNIT1", "inplaneT1", "inplaneT2", "PDT2", "angio"),
    *("T1map", "T2map", "PDmap", "CT"),
)


def read_bids(
    folder,
    contrasts: Sequence[str] | None = None,
    segmentation: str | None = "tissue",
    session: str | None = None,
    entities: Mapping[str, str | None] | None = None,
    brain: Literal["labels", "image"] | None = None,
    skip_incomplete: bool = False,
) -> Cohort:
    """Find the subjects of a BIDS dataset, raw or derivative.

    Images are ``sub-*/[ses-*/]anat/*_<contrast>.nii[.gz]``, segmentations
    ``*_desc-<segmentation>_dseg.nii[.gz]`` there. Label names are the abbreviations, or the names
    where there is none, in ``*desc-<segmentation>_dseg.tsv`` in the folder or beside the
    segmentations; without such a table the labels are the values that occur in any subject, named
    by themselves, as "51".

    Args:
        folder: holds folders sub-*.
        contrasts: suffixes, as ("T1w", "FLAIR"), the first of which gives the grid; None for those
            that every subject has, with these entities.
        segmentation: the entity ``desc`` of the segmentation; "" for a file without it; None for
            images without labels, as in a raw dataset.
        session: which ses-*, without "ses-". None for the first of each subject, so that no subject
            is on both sides of a split.
        entities: what file names must say, where several would do, as {"space": "MNI152Lin"};
            None means without it, as {"space": None}. ``desc`` is for the images only.
        brain: see ``Subject``; None for "labels" where there are labels, and "image" else.
        skip_incomplete: leave out subjects that lack a contrast or the segmentation, instead of
            raising an error.

    Returns:
        Cohort of subjects named as their folders, "sub-01", sorted.

    Raises:
        FileNotFoundError: there are no subjects, or one lacks a contrast, session or segmentation.
        ValueError: several files would do, the table is wrong, or tables differ.

    Source: BIDS 1.10, https://bids-specification.readthedocs.io. pybids is not used: it would bring
    fourteen packages, an SQL database among them, for what is a glob here.
    """
    folder = Path(folder)
    wanted = dict(entities or {})
    found = {}
    for subject in sorted(path for path in folder.glob("sub-*") if path.is_dir()):
        found[subject.name] = _files(_anat(subject, session))
    if not found:
        raise FileNotFoundError(f"{folder} holds no folders sub-*: give the root of a BIDS dataset")
    if contrasts is None:
        contrasts = [
            suffix
            for suffix in SUFFIXES
            if all(_matching(files, suffix, wanted) for files in found.values())
        ]
        if not contrasts:
            raise FileNotFoundError(
                f"{folder} has no image{_saying(wanted)} that every subject has, of {SUFFIXES}: "
                "pass contrasts, or other entities"
            )
    complete: dict[str, tuple[dict[str, ImageSource], Path | None]] = {}
    for name, files in found.items():
        try:
            images: dict[str, ImageSource] = {
                contrast: _chosen(name, folder, files, contrast, wanted) for contrast in contrasts
            }
            labels = None
            if segmentation is not None:
                desc = {**wanted, "desc": segmentation or None}
                labels = _chosen(name, folder, files, "dseg", desc)
        except FileNotFoundError:
            if skip_incomplete:
                continue
            raise
        complete[name] = images, labels
    if not complete:
        raise FileNotFoundError(f"{folder} has no complete subject: ask for fewer contrasts")
    table = None
    if segmentation is not None:
        segmentations = [labels for _, labels in complete.values() if labels]
        table = _table(folder, segmentation, segmentations)
    brain = brain or ("labels" if table else "image")
    values = (0, *(table or ()))
    subjects = [Subject(name, *sources, values, brain) for name, sources in complete.items()]
    return make_cohort(subjects, table)


def parse_name(path) -> tuple[dict[str, str], str, str]:
    """Split a BIDS file name into entities, suffix and extension.

    ``sub-01_desc-brain_T1w.nii.gz`` is ({"sub": "01", "desc": "brain"}, "T1w", ".nii.gz").
    """
    stem, dot, extension = Path(path).name.partition(".")
    *pairs, suffix = stem.split("_")
    split = (pair.partition("-") for pair in pairs)
    return {key: value for key, _, value in split}, suffix, dot + extension


def _anat(subject, session):
    """Return the folder anat of a subject in one session."""
    if session is not None:
        return subject / f"ses-{session}" / "anat"
    sessions = sorted(subject.glob("ses-*/anat"))
    return sessions[0] if sessions and not (subject / "anat").is_dir() else subject / "anat"


def _files(anat):
    """Return entities, suffix and path of every image in a folder anat."""
    files = []
    for path in sorted(anat.glob("sub-*_*.nii*")):
        entities, suffix, extension = parse_name(path)
        if extension in (".nii", ".nii.gz"):
            files.append((entities, suffix, path))
    return files


def _matching(files, suffix, wanted):
    """Return the files with this suffix and these entities."""
    return [
        path
        for entities, other, path in files
        if other == suffix and all(entities.get(key) == value for key, value in wanted.items())
    ]


def _saying(wanted):
    """Return entities as they are in file names."""
    return "".join(f"_{key}-{value}" for key, value in wanted.items() if value is not None)


def _chosen(name, folder, files, suffix, wanted):
    """Return the one file of a subject with this suffix and these entities."""
    paths = _matching(files, suffix, wanted)
    if len(paths) == 1:
        return paths[0]
    pattern = f"{name}*{_saying(wanted)}_{suffix}.nii.gz"
    if not paths:
        advice = "segmentation=None or another one" if suffix == "dseg" else "other contrasts"
        raise FileNotFoundError(
            f"subject {name}: there is no {pattern} in {folder / name}; add it, or pass {advice}, "
            "other entities, or skip_incomplete=True"
        )
    raise ValueError(
        f"subject {name}: {pattern} may be any of {[path.name for path in paths]}; pass entities "
        f"that only one has, as {{'run': '1'}}, or in --data as {folder}:run-1"
    )


def _table(folder, segmentation, paths):
    """Return the table of labels: of the dataset, beside the segmentations, or of what occurs."""
    pattern = f"*desc-{segmentation}_dseg.tsv" if segmentation else "*dseg.tsv"
    places = [folder, *dict.fromkeys(path.parent for path in paths)]
    for group in (places[:1], places[1:]):
        files = [
            path
            for place in group
            for path in sorted(place.glob(pattern))
            if segmentation or "desc" not in parse_name(path)[0]
        ]
        tables = [read_bids_table(path) for path in files]
        for path, table in zip(files, tables, strict=True):
            if table != tables[0]:
                raise ValueError(f"{path} differs from {files[0]}: put one table into {folder}")
        if tables:
            return tables[0]
    occurring = np.unique(np.concatenate([np.unique(read_labels(path)) for path in paths]))
    return {int(value): str(value) for value in occurring if value != 0}
