"""Any BIDS dataset, raw or derivative: anatomical images and segmentations of its subjects."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from cifl_tf._notes import listed, note, note_left_out
from cifl_tf.datasets.bids_names import (
    SUFFIXES,
    BidsImage,
    images_in,
    matching,
    parse_name,
    saying,
    telling_apart,
)
from cifl_tf.datasets.cohorts import Cohort, make_cohort
from cifl_tf.datasets.label_tables import occurring_rows, occurring_values, read_bids_table
from cifl_tf.datasets.subjects import ImageSource, Subject
from cifl_tf.images.atomic import expanded
from cifl_tf.images.file_names import is_leftover, missing_content


class _Place(NamedTuple):
    """Where the images of one subject are, and which there are."""

    subject: str
    anat: Path
    images: list[BidsImage]


def read_bids(
    folder,
    contrasts: Sequence[str] | None = None,
    segmentation: str | None = "tissue",
    session: str | None = None,
    entities: Mapping[str, str | None] | None = None,
    brain: Literal["labels", "image"] | None = None,
    skip_incomplete: bool = False,
    needed: Sequence[str] = (),
) -> Cohort:
    """Find the subjects of a BIDS dataset, raw or derivative.

    Images are ``sub-*/[ses-*/]anat/*_<contrast>.nii[.gz]``, segmentations
    ``*_desc-<segmentation>_dseg.nii[.gz]`` there. Label names are the abbreviations, or the names
    where there is none, in ``*desc-<segmentation>_dseg.tsv`` in the folder or beside the
    segmentations, as far as they occur in any subject; without such a table the labels are the
    values that occur, named by themselves, as "51".

    Args:
        folder: holds folders sub-*.
        contrasts: suffixes, as ("T1w", "FLAIR"), the first of which gives the grid; None for those
            that every subject has, with these entities. With ``skip_incomplete`` None stands for
            those that every subject has that has the ``needed`` ones, and those that most subjects
            have where none are needed.
        segmentation: the entity ``desc`` of the segmentation; "" for a file without it; None for
            images without labels, as in a raw dataset.
        session: which ses-*, without "ses-". None for the first of each subject, so that no subject
            is on both sides of a split.
        entities: what file names must say, where several would do, as {"space": "MNI152Lin"};
            None means without it, as {"space": None}. Numbers are compared as numbers: run-1 is
            run-01. ``desc`` is for the images only. Names of segmentations may leave entities out:
            one without a run serves every run, unless there is one of the same run.
        brain: see ``Subject``; None for "labels" where there are labels, and "image" else.
        skip_incomplete: leave out subjects that lack a contrast, the session or the segmentation,
            or have nothing but an empty file or a link of datalad in its place, instead of raising
            an error. A ``Note`` says which and why.
        needed: contrasts that every subject must have, where ``contrasts`` is None.

    Returns:
        Cohort of subjects named as their folders, "sub-01", sorted.

    Raises:
        FileNotFoundError: there are no subjects, or one lacks a contrast, session or segmentation.
        ValueError: several files would do, the table is wrong, or tables differ.

    Source: BIDS 1.10, https://bids-specification.readthedocs.io. pybids is not used: it would bring
    fourteen packages, an SQL database among them, for what is a glob here.
    """
    folder = expanded(folder)
    wanted = dict(entities or {})
    places = _places(folder, session)
    if contrasts is None:
        contrasts = _common_contrasts(folder, places, wanted, needed, skip_incomplete)
    complete: dict[str, tuple[dict[str, ImageSource], Path | None]] = {}
    lacking: dict[str, str] = {}
    for place in places:
        try:
            images: dict[str, ImageSource] = {
                contrast: _chosen(place, contrast, wanted) for contrast in contrasts
            }
            labels = None if segmentation is None else _segmentation(place, segmentation, wanted)
        except FileNotFoundError as error:
            if not skip_incomplete:
                raise FileNotFoundError(
                    f"subject {place.subject}: {error}; add it, or pass other contrasts, "
                    "segmentation=None or another one, other entities, or skip_incomplete=True"
                ) from error
            lacking[place.subject] = str(error)
        else:
            complete[place.subject] = images, labels
    if not complete:
        raise FileNotFoundError(
            f"{folder} has no complete subject: ask for fewer contrasts, or another segmentation "
            f"({lacking[places[0].subject]})"
        )
    note_left_out(folder, lacking, len(places))
    table = None
    if segmentation is not None:
        segmentations = [labels for _, labels in complete.values() if labels]
        table = _table(folder, segmentation, segmentations)
    brain = brain or ("labels" if table else "image")
    values = (0, *(table or ()))
    subjects = [Subject(name, *sources, values, brain) for name, sources in complete.items()]
    return make_cohort(subjects, table)


def _places(folder, session) -> list[_Place]:
    """The images of each subject in one session; says which session where there are several."""
    places, several = [], []
    for subject in sorted(folder.glob("sub-*")):
        # A link to nothing is a subject that was not downloaded.
        if is_leftover(subject) or not (subject.is_dir() or subject.is_symlink()):
            continue
        anat = subject / "anat"
        sessions = sorted(path for path in subject.glob("ses-*/anat") if not is_leftover(path))
        if session is not None:
            anat = subject / f"ses-{session}" / "anat"
        elif sessions and not anat.is_dir():
            anat = sessions[0]
            several += [f"{anat.parent.name} of {subject.name}"] if len(sessions) > 1 else []
        places.append(_Place(subject.name, anat, images_in(anat)))
    if not places:
        raise FileNotFoundError(f"{folder} holds no folders sub-*: give the root of a BIDS dataset")
    if several:
        note(
            f"{len(several)} subjects of {folder} have several sessions; the first is taken, "
            f"{listed(several)}: choose one by session in Python, or in --data as {folder}:ses-NAME"
        )
    return places


def _common_contrasts(folder, places, wanted, needed, skip_incomplete):
    """The contrasts that subjects share: see ``read_bids``."""
    having = {
        suffix: {
            place.subject
            for place in places
            if any(not missing_content(path) for path in matching(place.images, suffix, wanted))
        }
        for suffix in dict.fromkeys((*SUFFIXES, *needed))
    }
    there = [suffix for suffix, names in having.items() if names]
    for suffix in needed:
        if suffix not in there:
            raise FileNotFoundError(f"{folder} has no contrast {suffix!r}: choose from {there}")
    everyone = {place.subject for place in places}
    if skip_incomplete:
        # Without those who lack what is needed, be it said or what most have.
        usual = needed or [name for name in there if 2 * len(having[name]) > len(places)]
        everyone = everyone.intersection(*(having[suffix] for suffix in usual))
        needed = usual
    contrasts = [suffix for suffix in there if suffix in needed or everyone <= having[suffix]]
    if not contrasts:
        raise FileNotFoundError(
            f"{folder} has no image{saying(wanted)} that every subject has, of {SUFFIXES}: pass "
            "contrasts, or other entities"
        )
    return contrasts


def _segmentation(place, segmentation, wanted):
    """Return the segmentation of a subject, whose name may leave out what chooses images."""
    optional = [key for key in wanted if key != "desc"]
    return _chosen(place, "dseg", {**wanted, "desc": segmentation or None}, optional)


def _chosen(place, suffix, wanted, optional=()):
    """Return the one file of a subject with this suffix and these entities."""
    paths = matching(place.images, suffix, wanted, optional)
    pattern = f"{place.subject}*{saying(wanted)}_{suffix}.nii.gz"
    if not paths:
        raise FileNotFoundError(f"there is no {pattern} in {place.anat}")
    if len(paths) > 1:
        key, value = telling_apart(paths)
        raise ValueError(
            f"subject {place.subject}: {pattern} may be any of {[path.name for path in paths]}; "
            f"pass entities that only one has, as {{{key!r}: {value!r}}}, or in --data as "
            f"FOLDER:{key}-{value}"
        )
    missing = missing_content(paths[0])
    if missing:
        raise FileNotFoundError(missing)
    return paths[0]


def _table(folder, segmentation, paths):
    """Return the table of labels: of the dataset, beside the segmentations, or of what occurs."""
    pattern = f"*desc-{segmentation}_dseg.tsv" if segmentation else "*dseg.tsv"
    places = [folder, *dict.fromkeys(path.parent for path in paths)]
    for group in (places[:1], places[1:]):
        files = [
            path
            for place in group
            for path in sorted(place.glob(pattern))
            if not is_leftover(path) and (segmentation or "desc" not in parse_name(path)[0])
        ]
        tables = [read_bids_table(path) for path in files]
        for path, table in zip(files, tables, strict=True):
            if table != tables[0]:
                raise ValueError(f"{path} differs from {files[0]}: put one table into {folder}")
        if tables:
            return occurring_rows(tables[0], paths, files[0])
    return {value: str(value) for value in occurring_values(paths) if value != 0}
