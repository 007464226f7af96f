"""``cifl cohort``: the commands."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from functools import partial

import typer

from cifl_tf._notes import listed, note
from cifl_tf.cli.cohort.analyses import Analysis, Features, Strip
from cifl_tf.cli.cohort.options import (
    AnalysisLevel,
    BidsFolder,
    CohortCommand,
    CohortOptions,
    DerivativeFolder,
    Engine,
    Level,
    OverwriteScans,
)
from cifl_tf.cli.cohort.segmentation import Segment
from cifl_tf.cli.cohort.template import ToTemplate
from cifl_tf.cli.config_options import command, options_of
from cifl_tf.cli.run_report import DONE, FAILED, SKIPPED, Request

OUTCOMES = {DONE: "", SKIPPED: "done before, and kept", FAILED: "see below"}
cohort_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Do all scans of a BIDS dataset, as a BIDS App.",
)


@cohort_app.command("features", cls=CohortCommand)
@command
def features_command(
    ctx: typer.Context,
    bids_dir: BidsFolder,
    out_dir: DerivativeFolder,
    analysis_level: AnalysisLevel,
    cohort: CohortOptions,
    analysis: Features,
    overwrite: OverwriteScans = False,
):
    """Write the features of every scan as 4D NIfTI files on the scan's own grid."""
    _run(ctx, bids_dir, out_dir, analysis_level, cohort, analysis)


@cohort_app.command("strip", cls=CohortCommand)
@command
def strip_command(
    ctx: typer.Context,
    bids_dir: BidsFolder,
    out_dir: DerivativeFolder,
    analysis_level: AnalysisLevel,
    cohort: CohortOptions,
    analysis: Strip,
    overwrite: OverwriteScans = False,
):
    """Take the skull away from every head: write brains and their masks."""
    _run(ctx, bids_dir, out_dir, analysis_level, cohort, analysis)


@cohort_app.command("segment", cls=CohortCommand)
@command
def segment_command(
    ctx: typer.Context,
    bids_dir: BidsFolder,
    out_dir: DerivativeFolder,
    analysis_level: AnalysisLevel,
    cohort: CohortOptions,
    analysis: Segment,
    overwrite: OverwriteScans = False,
):
    """Write a label map of every scan, and the volumes of its labels."""
    _run(ctx, bids_dir, out_dir, analysis_level, cohort, analysis)


@cohort_app.command("register-to-template", cls=CohortCommand)
@command
def register_command(
    ctx: typer.Context,
    bids_dir: BidsFolder,
    out_dir: DerivativeFolder,
    analysis_level: AnalysisLevel,
    cohort: CohortOptions,
    analysis: ToTemplate,
    overwrite: OverwriteScans = False,
):
    """Warp every scan to a template: write warped scans and the transforms both ways.

    The MNI152 template is a brain without its skull. Of a scan that shows a head, the brain is
    registered, and the whole head is warped.
    """
    _run(ctx, bids_dir, out_dir, analysis_level, cohort, analysis)


def _run(ctx, bids, out, level, options: CohortOptions, analysis: Analysis):
    if not bids.is_dir():
        raise ValueError(f"BIDS_DIR {bids} is no folder; give the root of a BIDS dataset")
    from cifl_tf.cli.cohort.dataset import claim_dataset
    from cifl_tf.cli.cohort.group import write_group
    from cifl_tf.cli.cohort.processes import limit_threads
    from cifl_tf.cli.cohort.selection import subjects_in
    from cifl_tf.cli.cohort.work import Job

    bids = bids.resolve()  # a scan is the same, whatever way leads to the dataset
    subjects = subjects_in(bids, options.participants, options.share)
    job = Job(
        _request(ctx, analysis),
        bids,
        out,
        options.selection(),
        analysis,
        options.n_procs,
        options.mem_mb,
    )
    if level == Level.GROUP:
        for file in write_group(job, subjects):
            typer.echo(str(file))
        return
    if not subjects:
        note(f"shard {options.shard} has no subject; {bids} has fewer than there are shards")
        return
    processes = min(options.n_procs, len(subjects))
    each_result = _engine(options, processes)
    claim_dataset(out, bids, analysis.about, job.request)
    limit_threads(options.omp_nthreads, processes)
    _do_subjects(job, subjects, each_result)


def _engine(options: CohortOptions, processes: int) -> Callable:
    """What gives the entries of each of many subjects, in the order in which they are done."""
    if options.engine == Engine.PROCESSES:
        from cifl_tf.cli.cohort.processes import each_result

        return partial(each_result, processes=processes)
    try:
        from cifl_tf.cli.cohort.pipeline import pipeline_results, runner_options
    except ModuleNotFoundError as error:
        if error.name != "apache_beam":
            raise
        raise ValueError(
            "--engine beam needs Apache Beam, which is not installed; make an environment for "
            'both, and say pip install ".[beam]" there, in a clone of cifl_tf'
        ) from None
    return partial(pipeline_results, options=runner_options(options.beam_options, processes))


def _do_subjects(job, subjects, each_result):
    """Do the scans of all subjects, and end with a table of outcomes."""
    from tqdm import tqdm

    from cifl_tf.cli.cohort.processes import ProcessDied
    from cifl_tf.cli.cohort.work import failed_subject
    from cifl_tf.cli.command_run import name_failures

    failed, without, counts = [], [], Counter[str]()
    results = each_result(job, subjects)
    for subject, result in tqdm(results, total=len(subjects), unit="subject", disable=None):
        entries = [failed_subject(subject, result)] if isinstance(result, ProcessDied) else result
        without += [] if entries else [subject]
        counts.update(entry.outcome for entry in entries)
        failed += [entry for entry in entries if entry.outcome == FAILED]
        for entry in entries:
            if entry.outcome == DONE:
                tqdm.write(str(job.out / subject / entry.planned[0]))
    if without:
        note(f"{len(without)} subjects have no such scan: {listed(without)}")
    if not counts:
        raise ValueError(
            f"{job.bids} has no such scan in any sub-*/anat or sub-*/ses-*/anat of the "
            f"{len(subjects)} subjects; give another --contrast, or fewer limits"
        )
    typer.echo("\noutcome   scans")
    for outcome, meaning in OUTCOMES.items():
        if counts[outcome]:
            typer.echo(f"{outcome:9} {counts[outcome]:5}   {meaning}".rstrip())
    name_failures(failed, job.request.debug)


def _request(ctx, analysis) -> Request:
    """What the command was asked for, with the options that results depend on only."""
    request = Request.of(ctx, analysis.resolved)
    names = [option.name for option in options_of(type(analysis)).values()]
    return dataclasses.replace(request, options={name: request.options[name] for name in names})
