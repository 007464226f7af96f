"""``cifl segment``: train a segmenter on one contrast, apply it to any."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from cifl_tf.cli_options import (
    Around,
    Contrast,
    Dataset,
    Ensemble,
    FeaturesModel,
    LabeledSlices,
    LearningRate,
    Ndim,
    OutFolder,
    Plane,
    Remapped,
    Seed,
    Segmentation,
    SkipIncomplete,
    TestSubjects,
    TrainingVoxelSize,
    ValidationSubjects,
    VaryIntensity,
    chosen_model,
    for_each_image,
    output_paths,
    parse_ensemble,
    parse_numbers,
    split_cohort,
)
from cifl_tf.datasets import open_cohort
from cifl_tf.export import export_segmenter
from cifl_tf.figures import save_overlay
from cifl_tf.files import written_whole
from cifl_tf.pretrained import INTENSITY
from cifl_tf.segmentation_training import (
    SegmentationConfig,
    load_segmenter,
    segment_image,
    train_segmenter,
)
from cifl_tf.training_folder import read_config
from cifl_tf.volumes import save_image

DEFAULT = SegmentationConfig(INTENSITY)
DEFAULT_ENSEMBLE = ",".join(DEFAULT.ensemble)
segment_app = typer.Typer(
    no_args_is_help=True, help="Segment images of contrasts that training has not seen."
)

VOLUMES_FILE = "volumes.csv"

SegmenterFolder = Annotated[
    Path,
    typer.Option("--model", help="Folder of `cifl segment train`.", show_default=False),
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
    around: Around = None,
    ensemble: Ensemble = DEFAULT_ENSEMBLE,
    steps: Annotated[int, typer.Option(help="Optimisation steps at most.")] = DEFAULT.steps,
    batch_size: Annotated[
        int, typer.Option(help="Images per step.", show_default="8; of whole volumes 1")
    ] = 0,
    copies: Annotated[
        int | None,
        typer.Option(
            help="Encode this many augmented copies of each image once, not new ones in every step."
        ),
    ] = DEFAULT.copies,
    patch: Annotated[
        int | None, typer.Option(help="Train on random patches of this size in voxels.")
    ] = DEFAULT.patch,
    batch_norm: Annotated[
        bool | None,
        typer.Option(
            help="Normalise the channels after every level of the U-Net.",
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
    vary_intensity: VaryIntensity = DEFAULT.vary_intensity,
    remapped: Remapped = DEFAULT.remapped,
    seed: Seed = DEFAULT.seed,
):
    """Train a segmenter; the same command goes on after an interruption."""
    if flip and ndim == 2 and plane == "sagittal":
        raise ValueError(
            "--flip mirrors left and right, which sagittal slices do not show; leave it out"
        )
    cohort = open_cohort(data, ndim, segmentation, skip_incomplete, [contrast])
    train, validation = split_cohort(cohort, test_subjects, validation_subjects, seed)
    config = SegmentationConfig(
        model=chosen_model(model, ndim),
        contrast=contrast,
        synthetic=synthetic,
        ndim=ndim,
        voxel_size=voxel_size,
        plane=plane,
        num_slices=num_slices,
        around=around,
        ensemble=parse_ensemble(ensemble),
        batch_norm=batch_norm,
        steps=steps,
        batch_size=batch_size,
        copies=copies,
        patch=patch,
        learning_rate=learning_rate,
        flip_axis=0 if flip else None,
        zoom_factors=parse_numbers(zoom, "--zoom", float) if zoom else (),
        vary_intensity=vary_intensity,
        remapped=remapped,
        seed=seed,
    )
    train_segmenter(out, config, train, validation)
    typer.echo(f"The segmenter is in {out}.")


@segment_app.command("apply")
def apply_command(
    images: Annotated[list[Path], typer.Argument(help="NIfTI or MGZ files.", show_default=False)],
    out: OutFolder,
    model: SegmenterFolder,
    voxel_size: Annotated[
        float | None, typer.Option(help="Resample to this size in mm before.")
    ] = None,
    frame: Annotated[int | None, typer.Option(help="Which image of a 4D file.")] = None,
    probabilities: Annotated[bool, typer.Option(help="Write these too, as 4D NIfTI.")] = False,
):
    """Write label maps on the images' own grids, a picture each, and volumes.csv in mm³.

    volumes.csv keeps the rows of images that were segmented into the same folder before.
    """
    segmenter = load_segmenter(model)
    names = read_config(model)["label_names"][1:]
    table = VolumeTable(out / VOLUMES_FILE, names)

    def write(image, target):
        found = segment_image(image, model, voxel_size, frame, progress=True, segmenter=segmenter)
        save_image(found.labels, target)
        stem = target.name.removesuffix("_dseg.nii.gz")
        if probabilities:
            save_image(found.probabilities, out / f"{stem}_probseg.nii.gz")
        save_overlay(found.image, found.labels, out / f"{stem}_dseg.png")
        table.add(str(image), found.volumes)

    for_each_image(output_paths(images, out, "_dseg.nii.gz"), write)


class VolumeTable:
    """A CSV file of the volumes of each image, written whole after every one of them.

    Args:
        path: the file; rows that are there stay, if they are of the same labels.
        names: of the labels.
    """

    def __init__(self, path: Path, names: Sequence[str]):
        self.path, self.columns = path, ["image", *names]
        self.rows: dict[str, dict] = {}
        if path.exists():
            with path.open(newline="") as file:
                reader = csv.DictReader(file)
                if reader.fieldnames == self.columns:
                    self.rows = {row["image"]: row for row in reader}

    def add(self, image: str, volumes: Mapping[str, float]) -> None:
        """Add the row of an image, or replace it."""
        self.rows[image] = {"image": image, **volumes}
        with written_whole(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(self.rows.values())


@segment_app.command("export")
def export_command(
    out: OutFolder,
    model: SegmenterFolder,
):
    """Write a segmenter as a SavedModel that needs TensorFlow only."""
    export_segmenter(load_segmenter(model), out, read_config(model)["label_values"])
    typer.echo(f"The SavedModel is in {out}.")
