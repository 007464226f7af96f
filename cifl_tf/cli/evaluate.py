"""``cifl evaluate``: score an encoder, segmenter or registration on subjects it has not seen."""

import dataclasses
import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cifl_tf._checks import COUNT, NDIM, check_given
from cifl_tf._options import Option
from cifl_tf.cli.command_run import CommandRun, score_subjects
from cifl_tf.cli.config_options import command
from cifl_tf.cli.options import DATASET, OutFolder, Overwrite, Refine, Segmentation, SkipIncomplete
from cifl_tf.cli.output_folder import FIGURES
from cifl_tf.cli.parsing import parse_names, with_home
from cifl_tf.cli.run_report import DONE, Entry
from cifl_tf.features.pretrained import absolute_model
from cifl_tf.images.planes import PlaneName

SCORES_PICTURE = f"{FIGURES}/scores.png"


@dataclasses.dataclass(frozen=True)
class ViewOptions:
    """What of each subject is tested, where it is not as in training.

    Attributes:
        ndim: for 'intensity', 'syn', and encoders for slices: 2 for slices, 3 for volumes.
        plane: plane of the slices.
        num_slices: slices per subject.
        center_label: label on which the slices are centered.

    Raises:
        ValueError: a number is out of its range.
    """

    ndim: Annotated[int | None, Option(default="2")] = None
    plane: Annotated[PlaneName | None, Option(default="as in training, or coronal")] = None
    num_slices: Annotated[int | None, Option(default="as in training, or 9")] = None
    center_label: Annotated[str | None, Option(default="as in training, or the middle")] = None

    def __post_init__(self):
        check_given(self, ndim=NDIM, num_slices=COUNT)

    def of(self, training: dict) -> dict:
        """The view by names, as in a training where nothing else was asked for."""
        return {
            "ndim": training["ndim"],
            "plane": self.plane or training.get("plane", "coronal"),
            "num_slices": self.num_slices or training.get("num_slices", 9),
            "center_label": self.center_label or training.get("center_label"),
        }


@command
def evaluate_command(
    *,
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
            callback=with_home, help=DATASET.help, show_default="that of the training, or virtual"
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
            help="The data are of other people than the training, also those of the same names.",
        ),
    ] = False,
    moving_contrast: Annotated[
        str | None,
        typer.Option(
            help="Contrast of the moving images of registrations.",
            show_default="that of the training, or T1w",
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(callback=with_home, help="Folder of an earlier evaluation to compare with."),
    ] = None,
    optimize: Annotated[
        bool, typer.Option(help="Register by optimizing each pair's own warp.")
    ] = False,
    refine: Refine = False,
    view: ViewOptions,
    overwrite: Overwrite = False,
):
    """Score a model on subjects that training has not seen.

    Writes scores per subject, and prints means: Dice, distances and, of warps, folding.
    """
    import pandas as pd

    from cifl_tf.cli.evaluated import (
        SYN,
        People,
        comparable_report,
        open_model,
        read_subjects,
        tell_of_scaling,
        with_labels_of,
    )
    from cifl_tf.datasets.catalog import load_cohort
    from cifl_tf.datasets.geometry import resampled_for
    from cifl_tf.evaluation.report import (
        CSV_FILE,
        JSON_FILE,
        MARKDOWN_FILE,
        score_table,
        subject_scores,
        write_report,
    )
    from cifl_tf.evaluation.scores import feature_scores, registration_scores, segmentation_scores
    from cifl_tf.figures.panels import save_figure
    from cifl_tf.figures.scores import score_figure

    evaluated = open_model(model, optimize, view.ndim)
    training = evaluated.training
    data = data or training.get("data") or "virtual"
    contrasts = list(dict.fromkeys(parse_names(contrast)))
    registering = evaluated.task == "registration"
    if moving_contrast and not registering:
        raise ValueError("--moving-contrast is for registrations; leave it out")
    if refine and evaluated.task != "segmentation":
        raise ValueError(f"--refine is for segmenters, but {model} is none; leave it out")
    moving = moving_contrast or training.get("contrast", "T1w")
    needed = [moving, *contrasts] if registering else contrasts
    segmentation = segmentation or training.get("segmentation")
    cohort = load_cohort(data, training["ndim"], segmentation, skip_incomplete, needed)
    people = People(with_labels_of(cohort, training, data), training, other_people)
    cohort = resampled_for(evaluated.preprocessing, people.chosen(subjects))
    tell_of_scaling(evaluated.preprocessing)
    seen = view.of(training)
    if not registering:
        segmenting = partial(segmentation_scores, refined=refine)
        scores = segmenting if evaluated.task == "segmentation" else feature_scores
        score = partial(scores, evaluated.function, contrasts=contrasts, **seen)
        alone: Callable = score
        compared = contrasts
    else:
        score = partial(
            registration_scores,
            evaluated.function,
            moving_contrast=moving,
            fixed_contrasts=contrasts,
            **seen,
        )
        alone = partial(read_subjects, contrasts=[*contrasts, moving])
        compared = [f"{moving} to {name}" for name in contrasts]
    about = {
        "command": shlex.join(["cifl", *sys.argv[1:]]),
        "task": evaluated.task,
        "model": model if model == SYN else absolute_model(model),
        "optimize": optimize,
        "refine": refine,
        "training": training,
        "data": cohort.source,
        "subjects": sorted(cohort.names),
        "contrasts": sorted(compared),
        "against": str(against.resolve()) if against else None,
        **seen,
    }
    # Before the work: an evaluation may take hours.
    earlier = comparable_report(against, about) if against else None
    people.tell(cohort)
    read = {"model": about["model"], "data": about["data"]}
    if against:
        read["against"] = str(against.resolve() / JSON_FILE)
    report = Entry(read, [CSV_FILE, JSON_FILE, MARKDOWN_FILE, SCORES_PICTURE])
    subject_entries = [Entry({"subject": name, **read}, []) for name in cohort.names]
    chosen = {name: about[name] for name in ("model", "data", "subjects", *seen)}
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
