"""``cifl segment``: train a segmenter on one contrast, apply it to any."""

from pathlib import Path
from typing import Annotated

import typer

from cifl_tf._device import describe_device
from cifl_tf._notes import note
from cifl_tf.cli.command_run import CommandRun, record_export
from cifl_tf.cli.options import (
    CenterLabel,
    Contrast,
    Dataset,
    FeaturesModel,
    Images,
    IntensityVaries,
    LabeledSlices,
    LearningRate,
    Ndim,
    OutFolder,
    Overwrite,
    Plane,
    RandomContrast,
    Remappings,
    Seed,
    Segmentation,
    SkipIncomplete,
    TestSubjects,
    TrainingVoxelSize,
    ValidationSubjects,
    Window,
    chosen_model,
    parse_numbers,
    parse_remappings,
    parse_window,
    split_cohort,
    with_home,
)
from cifl_tf.cli.output_folder import image_entries
from cifl_tf.cli.volume_table import VOLUMES_FILE, VolumeTable
from cifl_tf.datasets import load_cohort
from cifl_tf.export import export_segmenter
from cifl_tf.features.pretrained import INTENSITY
from cifl_tf.figures.segmentation import save_overlay
from cifl_tf.images.volumes import save_image
from cifl_tf.segmentation.config import SegmentationConfig
from cifl_tf.segmentation.images import segment_image
from cifl_tf.segmentation.loading import load_segmenter
from cifl_tf.segmentation.training import train_segmenter

BEYOND = "slices beyond training"  # a column of volumes.csv
DEFAULT = SegmentationConfig(INTENSITY)
DEFAULT_REMAPPINGS = ",".join(DEFAULT.remappings)
segment_app = typer.Typer(
    no_args_is_help=True, help="Segment images of contrasts that training has not seen."
)

SegmenterFolder = Annotated[
    Path,
    typer.Option(
        "--model",
        callback=with_home,
        help="Folder of `cifl segment train`, or its segmenter.keras.",
        show_default=False,
    ),
]


@segment_app.command("train")
def train_command(
    out: OutFolder,
    model: FeaturesModel = None,
    data: Dataset = "virtual",
    segmentation: Segmentation = None,
    skip_incomplete: SkipIncomplete = False,
    contrast: Contrast = DEFAULT.contrast,
    synthetic: Annotated[
        bool,
        typer.Option(help="Train on images made from the label maps instead (SynthSeg style)."),
    ] = DEFAULT.synthetic,
    test_subjects: TestSubjects = None,
    validation_subjects: ValidationSubjects = None,
    ndim: Ndim = DEFAULT.ndim,
    voxel_size: TrainingVoxelSize = DEFAULT.voxel_size,
    plane: Plane = "coronal",
    num_slices: LabeledSlices = DEFAULT.num_slices,
    center_label: CenterLabel = None,
    remappings: Remappings = DEFAULT_REMAPPINGS,
    steps: Annotated[int, typer.Option(help="Optimization steps at most.")] = DEFAULT.steps,
    batch_size: Annotated[
        int, typer.Option(help="Images per step.", show_default="8; of whole volumes 1")
    ] = 0,
    cached_copies: Annotated[
        int | None,
        typer.Option(
            help="Encode this many augmented copies of each image once, not new ones in every step."
        ),
    ] = DEFAULT.cached_copies,
    patch: Annotated[
        int | None, typer.Option(help="Train on random patches of this size in voxels.")
    ] = DEFAULT.patch,
    batch_norm: Annotated[
        bool | None,
        typer.Option(
            help="Normalize the channels after every level of the U-Net.",
            show_default="for volumes only",
        ),
    ] = None,
    learning_rate: LearningRate = DEFAULT.learning_rate,
    flip: Annotated[
        bool,
        typer.Option(
            help="Mirror left and right at random, and when applied average over both; not for "
            "lateralised labels."
        ),
    ] = False,
    zoom: Annotated[
        str | None,
        typer.Option(
            help="When applied, average over copies too that are zoomed by these factors, such as "
            "1.2 or 0.9,1.2."
        ),
    ] = None,
    intensity_augmentation: IntensityVaries = DEFAULT.intensity_augmentation,
    random_contrast: RandomContrast = DEFAULT.random_contrast,
    seed: Seed = DEFAULT.seed,
):
    """Train a segmenter; the same command goes on after an interruption."""
    if flip and ndim == 2 and plane == "sagittal":
        raise ValueError(
            "--flip mirrors left and right, which sagittal slices do not show; leave it out"
        )
    cohort = load_cohort(data, ndim, segmentation, skip_incomplete, [contrast])
    train, validation = split_cohort(cohort, test_subjects, validation_subjects, seed)
    config = SegmentationConfig(
        encoder=chosen_model(model, ndim),
        contrast=contrast,
        synthetic=synthetic,
        ndim=ndim,
        voxel_size=voxel_size,
        plane=plane,
        num_slices=num_slices,
        center_label=center_label,
        remappings=parse_remappings(remappings),
        batch_norm=batch_norm,
        steps=steps,
        batch_size=batch_size,
        cached_copies=cached_copies,
        patch=patch,
        learning_rate=learning_rate,
        flip_axis=0 if flip else None,
        zoom_factors=parse_numbers(zoom, "--zoom", float) if zoom else (),
        intensity_augmentation=intensity_augmentation,
        random_contrast=random_contrast,
        seed=seed,
    )
    typer.echo(f"Device: {describe_device()}")
    train_segmenter(out, config, train, validation)
    typer.echo(f"The segmenter is in {out}.")


@segment_app.command("apply")
def apply_command(
    ctx: typer.Context,
    images: Images,
    out: OutFolder,
    model: SegmenterFolder,
    voxel_size: Annotated[
        float | None,
        typer.Option(
            help="Resample to this size in mm before.", show_default="that of the training"
        ),
    ] = None,
    volume_index: Annotated[int | None, typer.Option(help="Which image of a 4D file.")] = None,
    probabilities: Annotated[bool, typer.Option(help="Write these too, as 4D NIfTI.")] = False,
    window: Window = None,
    overwrite: Overwrite = False,
):
    """Write label maps on the images' own grids, volumes.csv in mm³, and report.html with pictures.

    Images are resampled to the voxel size of the training before. volumes.csv keeps the rows of
    images that were segmented into the same folder before; of a segmenter for slices, it counts the
    slices with labels where training had none. run.json tells what became of every image.
    """
    segmenter, limits = load_segmenter(model), parse_window(window)
    columns = [*segmenter.label_names[1:], *([BEYOND] if segmenter.coverage else [])]
    table = VolumeTable(out / VOLUMES_FILE, columns, overwrite)
    endings = ["_dseg.nii.gz", *(["_probseg.nii.gz"] if probabilities else [])]

    def write(entry):
        image = entry.input["image"]
        labels, *rest, picture = (out / name for name in entry.planned)
        found = segment_image(
            image,
            model,
            voxel_size,
            volume_index,
            progress=True,
            segmenter=segmenter,
            window=limits,
        )
        save_image(found.labels, labels)
        for file in rest:
            save_image(found.probabilities, file)
        save_overlay(found.image, found.labels, picture)
        counted = {BEYOND: found.slices_beyond} if segmenter.coverage else {}
        table.add(image, {**found.volumes, **counted})
        entry.numbers = {f"{name} (mm³)": volume for name, volume in found.volumes.items()}
        if found.slices_beyond:
            note(
                f"{found.slices_beyond} slices of {image} have labels, but show a part of the body "
                "of which training had no slices; look at these"
            )

    with CommandRun(ctx, out, image_entries(images, out, endings, "_dseg.png")) as run:
        run.each(write)


@segment_app.command("export")
def export_command(
    ctx: typer.Context,
    out: OutFolder,
    model: SegmenterFolder,
):
    """Write a segmenter as a SavedModel that needs TensorFlow only, to a new folder."""
    segmenter = load_segmenter(model)
    record_export(ctx, out, lambda: export_segmenter(segmenter, out), model=model)
    typer.echo(f"The SavedModel is in {out}.")
