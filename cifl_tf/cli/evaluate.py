"""``cifl evaluate``: score an encoder, segmenter or registration on subjects it has not seen."""

import dataclasses
import reprlib
import shlex
import sys
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from cifl_tf._checks import COUNT, NDIM
from cifl_tf._notes import listed, note
from cifl_tf.cli.command_run import CommandRun, score_subjects
from cifl_tf.cli.options import (
    DATASET,
    OutFolder,
    Overwrite,
    Segmentation,
    SkipIncomplete,
    absolute_model,
    parse_names,
    with_home,
)
from cifl_tf.cli.output_folder import FIGURES
from cifl_tf.cli.run_report import DONE, Entry
from cifl_tf.datasets import Cohort, load_cohort
from cifl_tf.datasets.geometry import resampled_for
from cifl_tf.evaluation.report import (
    CSV_FILE,
    JSON_FILE,
    MARKDOWN_FILE,
    read_report,
    score_table,
    subject_scores,
    write_report,
)
from cifl_tf.evaluation.scores import feature_scores, registration_scores, segmentation_scores
from cifl_tf.features.pretrained import INTENSITY, load_features, pretrained_encoders
from cifl_tf.figures.panels import save_figure
from cifl_tf.figures.scores import score_figure
from cifl_tf.images.volumes import PlaneName
from cifl_tf.models.image_model import Preprocessing, preprocessing_of
from cifl_tf.registration.instance import InstanceSettings
from cifl_tf.registration.loading import REGISTRATION_FILE, load_registration
from cifl_tf.registration.methods import InstanceMethod, NetworkMethod
from cifl_tf.registration.syn import MISSING, SYN, has_ants, register_syn
from cifl_tf.segmentation.loading import SEGMENTER_FILE, load_segmenter
from cifl_tf.training.folder import read_config

SCORES_PICTURE = f"{FIGURES}/scores.png"
# What two runs must share to be compared.
SHARED = ("task", "data", "subjects", "contrasts", "ndim", "plane", "num_slices", "center_label")


def evaluate_command(
    ctx: typer.Context,
    out: OutFolder,
    model: Annotated[
        str,
        typer.Option(
            callback=with_home,
            help="Folder of `cifl segment train` or `cifl register train`, or an encoder: its "
            "name, folder or .keras file; with --optimize also 'intensity'; or 'syn', for SyN with "
            "mutual information by ANTsPy.",
            show_default=False,
        ),
    ],
    contrast: Annotated[
        str,
        typer.Option(
            help="Contrasts to test, with commas between, such as T1w,T1w:inverted,FLAIR; an "
            "encoder's features are compared with those of the first.",
            show_default=False,
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            callback=with_home, help=DATASET, show_default="that of the training, or virtual"
        ),
    ] = None,
    segmentation: Segmentation = None,
    skip_incomplete: SkipIncomplete = False,
    subjects: Annotated[
        str | None,
        typer.Option(
            help="Names, with commas between; these are tested even if training has seen them.",
            show_default="all whose names were in neither training nor validation",
        ),
    ] = None,
    other_people: Annotated[
        bool,
        typer.Option(
            "--other-people",
            help="The data are of other people than the training, also those of the same names.",
        ),
    ] = False,
    moving_contrast: Annotated[
        str | None,
        typer.Option(help="Of registrations.", show_default="that of the training, or T1w"),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(callback=with_home, help="Folder of an earlier evaluation to compare with."),
    ] = None,
    optimize: Annotated[
        bool, typer.Option("--optimize", help="Register by optimizing each pair's own warp.")
    ] = False,
    ndim: Annotated[
        int | None,
        typer.Option(
            help="For 'intensity' and 'syn': 2 for slices, 3 for volumes.", show_default="2"
        ),
    ] = None,
    plane: Annotated[
        PlaneName | None,
        typer.Option(help="Of the slices.", show_default="as in training, or coronal"),
    ] = None,
    num_slices: Annotated[
        int | None, typer.Option(help="Slices per subject.", show_default="as in training, or 9")
    ] = None,
    center_label: Annotated[
        str | None,
        typer.Option(
            help="Label on which they are centered.", show_default="as in training, or the middle"
        ),
    ] = None,
    overwrite: Overwrite = False,
):
    """Write scores per subject, and print means: Dice, distances and, of warps, folding."""
    for name, number, expected in (("ndim", ndim, NDIM), ("num_slices", num_slices, COUNT)):
        if number is not None:
            expected.check(name, number)
    evaluated = _open(model, optimize, ndim)
    training = evaluated.training
    data = data or training.get("data") or "virtual"
    contrasts = list(dict.fromkeys(parse_names(contrast)))
    registering = evaluated.task == "registration"
    if moving_contrast and not registering:
        raise ValueError("--moving-contrast is for registrations; leave it out")
    moving = moving_contrast or training.get("contrast", "T1w")
    needed = [moving, *contrasts] if registering else contrasts
    cohort = load_cohort(data, training["ndim"], segmentation, skip_incomplete, needed)
    cohort = resampled_for(evaluated.preprocessing, cohort)
    people = _People(_with_labels_of(cohort, training, data), training, other_people)
    cohort = people.chosen(subjects)
    view = {
        "ndim": training["ndim"],
        "plane": plane or training.get("plane", "coronal"),
        "num_slices": num_slices or training.get("num_slices", 9),
        "center_label": center_label or training.get("center_label"),
    }
    if not registering:
        scores = segmentation_scores if evaluated.task == "segmentation" else feature_scores
        score = partial(scores, evaluated.function, contrasts=contrasts, **view)
        alone: Callable[[Cohort], Any] = score
        compared = contrasts
    else:
        score = partial(
            registration_scores,
            evaluated.function,
            moving_contrast=moving,
            fixed_contrasts=contrasts,
            **view,
        )
        alone = partial(_read, contrasts=[*contrasts, moving])
        compared = [f"{moving} to {name}" for name in contrasts]
    about = {
        "command": shlex.join(["cifl", *sys.argv[1:]]),
        "task": evaluated.task,
        "model": model if model == SYN else absolute_model(model),
        "optimize": optimize,
        "training": training,
        "data": cohort.source,
        "subjects": sorted(cohort.names),
        "contrasts": sorted(compared),
        "against": str(against.resolve()) if against else None,
        **view,
    }
    # Before the work: an evaluation may take hours.
    earlier = _comparable(against, about) if against else None
    people.tell(cohort)
    read = {"model": about["model"], "data": about["data"]}
    if against:
        read["against"] = str(against.resolve() / JSON_FILE)
    report = Entry(read, [CSV_FILE, JSON_FILE, MARKDOWN_FILE, SCORES_PICTURE])
    subject_entries = [Entry({"subject": name, **read}, []) for name in cohort.names]
    chosen = {name: about[name] for name in ("model", "data", "subjects", *view)}
    with CommandRun(ctx, out, [report, *subject_entries], **chosen) as run:
        found = score_subjects(run, alone, cohort, subject_entries)
        left = [entry.input["subject"] for entry in subject_entries if entry.outcome == DONE]
        rows = score(cohort.select(left)) if registering else pd.concat(found, ignore_index=True)
        if earlier and len(left) < len(cohort):
            typer.echo(f"Note: without all subjects, no comparison with {against}.", err=True)
            about["against"] = earlier = None
        by_subject = subject_scores(rows)
        for name, numbers in by_subject.items():
            subject_entries[cohort.names.index(name)].numbers = numbers
        with run.doing(report):
            report.table = score_table(rows, earlier and earlier["rows"]).to_dict("records")
            save_figure(score_figure(by_subject), out / SCORES_PICTURE)
            text = write_report(out, rows, {**about, "subjects": sorted(left)}, earlier)
        typer.echo(text)
        typer.echo(f"The scores of every subject are in {out}.")
        run.end()


def _read(cohort: Cohort, contrasts: Collection[str]) -> None:
    """Read all that a registration needs of the subjects of a cohort."""
    for subject in cohort:
        subject.labels()
        for contrast in contrasts:
            subject.image(contrast)


@dataclasses.dataclass(frozen=True)
class _Evaluated:
    """A model, the task it does, and the configuration of its training, at least "ndim"."""

    task: str
    function: Callable[..., np.ndarray]
    training: dict
    preprocessing: Preprocessing


def _open(model: str, optimize: bool, ndim: int | None) -> _Evaluated:
    """Find out what a model is, and load it."""
    if model == SYN:
        if optimize:
            raise ValueError(f"'{SYN}' optimizes each pair by itself; leave --optimize out")
        if not has_ants():
            raise ValueError(MISSING)
        return _Evaluated("registration", register_syn, {"ndim": ndim or 2}, Preprocessing())
    shipped = pretrained_encoders()
    folder = shipped[model].folder if model in shipped else Path(model)
    task = "registration"
    if (folder / SEGMENTER_FILE).is_file():
        if optimize:
            raise ValueError(f"{model} holds a segmenter, but --optimize is for registrations")
        task = "segmentation"
        loaded: Any = load_segmenter(folder)
        function: Callable = partial(loaded.predict, batch_size=8, verbose=0)
        training = read_config(folder)
    elif (folder / REGISTRATION_FILE).is_file():
        refine = InstanceSettings() if optimize else None
        loaded = load_registration(folder)
        function = NetworkMethod(loaded, refine=refine).displace
        training = read_config(folder)
    else:
        loaded = encoder = load_features(model)
        training = {"ndim": (ndim or 2) if encoder is None else len(encoder.input_shape) - 2}
        if optimize:
            function = InstanceMethod(encoder, training["ndim"]).displace
        elif encoder is not None:
            task, function = "features", partial(encoder.predict, batch_size=8, verbose=0)
        else:
            raise ValueError(
                f"'{INTENSITY}' has no features to compare; add --optimize to register with it"
            )
    if ndim not in (None, training["ndim"]):
        raise ValueError(
            f"--ndim is {ndim}, but {model} is for {training['ndim']}D images; leave it out"
        )
    return _Evaluated(task, function, training, preprocessing_of(loaded))


def _with_labels_of(cohort: Cohort, training: dict, data: str) -> Cohort:
    """The cohort with the labels of the training, of which some may occur in no subject."""
    labels = list(cohort.label_names.values())
    _, *trained = training.get("label_names", ["background"])
    if not trained or trained == labels:  # a registration may be trained without labels
        return cohort
    if not labels or not set(labels) <= set(trained):
        raise ValueError(
            f"{data} has the labels {reprlib.repr(labels)}, but the model was trained with "
            f"{reprlib.repr(trained)}; give data with the same table of labels"
        )
    return cohort.with_labels(trained)


class _People:
    """Who of a cohort may be tested.

    Another path, session or space may show the same people: names count, not where data are.

    Args:
        cohort: all subjects of the data.
        training: configuration of the training.
        other_people: the user says that those of the same names are others.

    Raises:
        ValueError: they cannot be others, as the data are those of the training.
    """

    def __init__(self, cohort: Cohort, training: dict, other_people: bool):
        self.cohort = cohort
        seen = {*training.get("train", ()), *training.get("validation", ())}
        same = training.get("data") == cohort.source
        if other_people and same:
            raise ValueError(
                f"--other-people says that {cohort.source} shows other people than the training, "
                "but the model was trained on it; leave the option out"
            )
        self.seen = [name for name in cohort.names if name in seen and not other_people]
        self.advice = "" if same else "; if these are other people, add --other-people"

    def chosen(self, subjects: str | None) -> Cohort:
        """The subjects of these names, with commas between, or all that training has not seen."""
        if subjects is not None:
            return self.cohort.select(parse_names(subjects))
        names = [name for name in self.cohort.names if name not in self.seen]
        if not names:
            raise ValueError(
                f"all {len(self.cohort)} subjects of {self.cohort.source} were in training or "
                "validation; train with --test-subjects, give other data, or name --subjects to "
                f"test them all the same{self.advice}"
            )
        return self.cohort.select(names)

    def tell(self, chosen: Cohort) -> None:
        """Tell who is tested though training has seen them, and who is left out as it has."""
        tested = [name for name in self.seen if name in chosen.names]
        if tested:
            note(f"subjects {listed(tested)} were in training or validation{self.advice}")
        elif self.seen and len(chosen) + len(self.seen) == len(self.cohort):
            note(
                f"{len(self.seen)} subjects were in training or validation and are left out: "
                f"{listed(self.seen)}{self.advice}"
            )


def _comparable(against: Path, about: dict) -> dict:
    """The report of an earlier run, after a check that it is of the same images."""
    earlier = read_report(against)
    differing = [
        f"{name} {earlier['about'].get(name)!r} there, {about[name]!r} here"
        for name in SHARED
        if earlier["about"].get(name) != about[name]
    ]
    if differing or len(about["subjects"]) < 2:
        reason = ", ".join(differing) or "one subject only, where a test needs two"
        raise ValueError(
            f"the run cannot be compared with {against} ({reason}); evaluate both on the same "
            "subjects and contrasts"
        )
    return earlier
