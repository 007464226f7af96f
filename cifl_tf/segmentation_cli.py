"""``cifl segment``: train a segmenter on one contrast, apply it to any."""

import csv
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from cifl_tf.cli_options import OutFolder, output_paths
from cifl_tf.datasets import open_cohort
from cifl_tf.figures import save_overlay
from cifl_tf.files import written_whole
from cifl_tf.segmentation_training import (
    INTENSITY,
    SegmentationConfig,
    load_segmenter,
    segment_image,
    train_segmenter,
)
from cifl_tf.volumes import PlaneName, save_image

DEFAULT = SegmentationConfig(INTENSITY)
segment_app = typer.Typer(
    no_args_is_help=True, help="Segment images of contrasts that training has not seen."
)


@segment_app.command("train")
def train_command(
    out: OutFolder,
    model: Annotated[
        str,
        typer.Option(
            help="Folder of `cifl train`, a .keras file, or 'intensity', the baseline.",
            show_default=False,
        ),
    ],
    data: Annotated[
        str,
        typer.Option(help="A BIDS, neurite-OASIS or IXI folder; or 'virtual', made from MNI152."),
    ] = "virtual",
    contrast: Annotated[str, typer.Option(help="The contrast to train on.")] = DEFAULT.contrast,
    test_subjects: Annotated[
        str | None, typer.Option(help="Names to keep out, with commas between.")
    ] = None,
    validation_subjects: Annotated[
        str | None,
        typer.Option(help="Names that choose the best epoch.  [default: a fifth, at random]"),
    ] = None,
    ndim: Annotated[int, typer.Option(help="2 for slices, 3 for volumes.")] = DEFAULT.ndim,
    plane: Annotated[PlaneName, typer.Option(help="Of the slices.")] = "coronal",
    num_slices: Annotated[int, typer.Option(help="Slices per subject.")] = DEFAULT.num_slices,
    around: Annotated[
        str | None, typer.Option(help="Label on which the slices are centred.  [the middle]")
    ] = None,
    average_inverted: Annotated[
        bool, typer.Option(help="Average the features of an image and of its inversion.")
    ] = DEFAULT.average_inverted,
    steps: Annotated[int, typer.Option(help="Optimisation steps at most.")] = DEFAULT.steps,
    batch_size: Annotated[int, typer.Option(help="Images per step.")] = DEFAULT.batch_size,
    learning_rate: Annotated[float, typer.Option(help="At the start.")] = DEFAULT.learning_rate,
    flip: Annotated[
        bool, typer.Option(help="Mirror left and right at random; not for lateralised labels.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = DEFAULT.seed,
):
    """Train a segmenter; the same command goes on after an interruption."""
    cohort = open_cohort(data, ndim)
    train, validation = _split(cohort, _names(test_subjects), _names(validation_subjects), seed)
    config = SegmentationConfig(
        model=model if model == INTENSITY else str(Path(model).resolve()),
        contrast=contrast,
        ndim=ndim,
        plane=plane,
        num_slices=num_slices,
        around=around,
        average_inverted=average_inverted,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        flip_axis=0 if flip else None,
        seed=seed,
    )
    train_segmenter(out, config, train, validation)
    typer.echo(f"The segmenter is in {out}.")


@segment_app.command("apply")
def apply_command(
    images: Annotated[list[Path], typer.Argument(help="NIfTI or MGZ files.", show_default=False)],
    out: OutFolder,
    model: Annotated[
        Path, typer.Option(help="Folder of `cifl segment train`.", show_default=False)
    ],
    voxel_size: Annotated[
        float | None, typer.Option(help="Resample to this size in mm before.")
    ] = None,
    frame: Annotated[int | None, typer.Option(help="Which image of a 4D file.")] = None,
    probabilities: Annotated[bool, typer.Option(help="Write these too, as 4D NIfTI.")] = False,
):
    """Write label maps on the images' own grids, a picture each, and volumes.csv in mm³."""
    targets = output_paths(images, out, "_dseg.nii.gz")
    segmenter = load_segmenter(model)
    rows = []
    for target, image in tqdm(targets.items(), unit="image", disable=None):
        found = segment_image(image, model, voxel_size, frame, progress=True, segmenter=segmenter)
        save_image(found.labels, target)
        stem = target.name.removesuffix("_dseg.nii.gz")
        if probabilities:
            save_image(found.probabilities, out / f"{stem}_probseg.nii.gz")
        save_overlay(found.image, found.labels, out / f"{stem}_dseg.png")
        rows.append({"image": str(image), **found.volumes})
        tqdm.write(str(target))
    with written_whole(out / "volumes.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def _names(text):
    return [name.strip() for name in text.split(",")] if text else []


def _split(cohort, test, validation, seed):
    """Training and validation cohorts without the test subjects."""
    cohort.select([*test, *validation])  # raises if a name is not there
    rest = cohort.select([name for name in cohort.names if name not in test])
    if validation:
        train = rest.select([name for name in rest.names if name not in validation])
        return train, cohort.select(validation)
    count = max(1, len(rest) // 5)
    train, chosen, _ = rest.split((len(rest) - count, count, 0), seed)
    return train, chosen
