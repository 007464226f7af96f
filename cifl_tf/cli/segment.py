"""``cifl segment``: train a segmenter on one contrast, apply it to any."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cifl_tf.cli.command_run import CommandRun, record_export
from cifl_tf.cli.config_options import command
from cifl_tf.cli.default_command import DefaultGroup
from cifl_tf.cli.options import (
    Images,
    Memory,
    OutFolder,
    Overwrite,
    Refine,
    VolumeIndex,
    Window,
    resampling,
    trained_model,
    with_shipped_encoder,
)
from cifl_tf.cli.output_folder import image_entries
from cifl_tf.cli.parsing import parse_memory, parse_window
from cifl_tf.cli.scan_work import write_labels
from cifl_tf.cli.segment_tissues import tissues_command
from cifl_tf.cli.subject_options import SubjectOptions
from cifl_tf.cli.volume_table import VOLUMES_FILE, VolumeTable
from cifl_tf.models.shipped import TISSUES
from cifl_tf.segmentation.config import SegmentationConfig

BEYOND = "slices beyond training"  # a column of volumes.csv


class SegmentGroup(DefaultGroup):
    """The commands of ``cifl segment``."""

    default = TISSUES


segment_app = typer.Typer(
    cls=SegmentGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Segment the tissues of heads or brains of any contrast: `cifl segment IMAGE... --out "
    "FOLDER`, which is short for `cifl segment tissues`. Or train a segmenter for other labels.",
)
segment_app.command(TISSUES)(tissues_command)

SegmenterFolder = Annotated[Path, trained_model("segment train", "segmenter.keras")]


@segment_app.command("train")
@command
def train_command(
    *,
    out: OutFolder,
    subjects: SubjectOptions,
    config: SegmentationConfig,
):
    """Train a segmenter on one contrast.

    The same command goes on after an interruption.
    """
    config = with_shipped_encoder(config, "shapes-{ndim}d-v2")
    from cifl_tf._device import describe_device
    from cifl_tf.segmentation.training import train_segmenter
    from cifl_tf.training.workers import training_scope

    with training_scope():
        train, validation = subjects.cohorts(config)
        typer.echo(f"Device: {describe_device()}")
        train_segmenter(out, config, train, validation)
    typer.echo(f"The segmenter is in {out}.")


@segment_app.command("apply")
@command
def apply_command(
    ctx: typer.Context,
    images: Images,
    out: OutFolder,
    model: SegmenterFolder,
    voxel_size: Annotated[float | None, resampling("that of the training")] = None,
    volume_index: VolumeIndex = None,
    probabilities: Annotated[
        bool, typer.Option(help="Write probabilities too, as 4D NIfTI.")
    ] = False,
    refine: Refine = False,
    window: Window = None,
    memory: Memory = None,
    overwrite: Overwrite = False,
):
    """Write label maps on the images' own grids, and volumes.csv.

    volumes.csv is in mm³, and report.html shows a picture of each label map. Images are resampled
    to the voxel size of the training before. volumes.csv keeps the rows of images that were
    segmented into the same folder before; of a segmenter for slices, it counts the slices with
    labels where training had none. run.json tells what became of every image.
    """
    limits, most = parse_window(window), parse_memory(memory)
    from cifl_tf.segmentation.loading import load_segmenter

    segmenter = load_segmenter(model)
    columns = [*segmenter.label_names[1:], *([BEYOND] if segmenter.coverage else [])]
    table = VolumeTable(out / VOLUMES_FILE, columns, overwrite)
    kinds = {"labels": "_dseg.nii.gz"}
    kinds |= {"probabilities": "_probseg.nii.gz"} if probabilities else {}

    def write(entry):
        image = entry.input["image"]
        paths = (out / name for name in entry.planned)
        found = write_labels(
            image,
            segmenter,
            dict(zip((*kinds, "picture"), paths, strict=True)),
            entry,
            voxel_size=voxel_size,
            volume_index=volume_index,
            window=limits,
            memory=most,
            refined=refine,
        )
        counted = {BEYOND: found.slices_beyond} if segmenter.coverage else {}
        table.add(image, {**found.volumes, **counted})

    entries = image_entries(images, out, [*kinds.values()], "_dseg.png")
    with CommandRun(ctx, out, entries) as run:
        run.each(write)


@segment_app.command("export")
def export_command(
    ctx: typer.Context,
    out: OutFolder,
    model: SegmenterFolder,
):
    """Write a segmenter as a SavedModel to a new folder.

    The SavedModel needs TensorFlow only.
    """
    from cifl_tf.export import export_segmenter
    from cifl_tf.segmentation.loading import load_segmenter

    segmenter = load_segmenter(model)
    record_export(ctx, out, partial(export_segmenter, segmenter), model)
