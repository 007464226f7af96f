"""What the subcommands of ``cifl`` share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cifl_tf.datasets import Cohort
from cifl_tf.downstream import INTENSITY
from cifl_tf.image_files import READABLE
from cifl_tf.volumes import PlaneName

OutFolder = Annotated[Path, typer.Option("--out", help="Folder to write to.", show_default=False)]
ModelFolder = Annotated[
    Path,
    typer.Option("--model", help="Folder of `cifl train`, or a .keras file.", show_default=False),
]
FeaturesModel = Annotated[
    str,
    typer.Option(
        "--model",
        help="Folder of `cifl train`, a .keras file, or 'intensity', the baseline.",
        show_default=False,
    ),
]
Dataset = Annotated[
    str, typer.Option(help="A BIDS, neurite-OASIS or IXI folder; or 'virtual', made from MNI152.")
]
Contrast = Annotated[str, typer.Option(help="The contrast to train on.")]
TestSubjects = Annotated[str | None, typer.Option(help="Names to keep out, with commas between.")]
ValidationSubjects = Annotated[
    str | None,
    typer.Option(help="Names that choose the best epoch.", show_default="a fifth, at random"),
]
Ndim = Annotated[int, typer.Option(help="2 for slices, 3 for volumes.")]
Plane = Annotated[PlaneName, typer.Option(help="Of the slices.")]
NumSlices = Annotated[int, typer.Option(help="Slices per subject.")]
Around = Annotated[
    str | None,
    typer.Option(help="Label on which the slices are centred.", show_default="the middle"),
]
AverageInverted = Annotated[
    bool, typer.Option(help="Average the features of an image and of its inversion.")
]
LearningRate = Annotated[float, typer.Option(help="At the start.")]
Seed = Annotated[int, typer.Option(help="Of everything random.")]


def output_paths(images: Sequence[Path], out: Path, ending: str) -> dict[Path, Path]:
    """The image that each output file is made from.

    Raises:
        ValueError: two images would become the same file.
    """
    targets: dict[Path, Path] = {}
    for image in images:
        target = out / f"{_stem(image)}{ending}"
        if target in targets:
            raise ValueError(
                f"{targets[target]} and {image} would both become {target}; run them one by one "
                "with different --out"
            )
        targets[target] = image
    return targets


def absolute_model(model: str) -> str:
    """What stands for a model in a configuration: "intensity", or a path that holds anywhere."""
    return model if model == INTENSITY else str(Path(model).resolve())


def split_cohort(
    cohort: Cohort, test: str | None, validation: str | None, seed: int, least: int = 1
) -> tuple[Cohort, Cohort]:
    """Training and validation cohorts without the test subjects.

    Args:
        cohort: all subjects.
        test: names with commas between.
        validation: names with commas between; None for a fifth of the rest, at random.
        seed: of the choice.
        least: subjects of a validation at random.

    Raises:
        ValueError: there is no subject of a name, or there are too few of them.
    """
    tested, validated = parse_names(test), parse_names(validation)
    cohort.select([*tested, *validated])  # raises if a name is not there
    rest = cohort.select([name for name in cohort.names if name not in tested])
    if validated:
        train = rest.select([name for name in rest.names if name not in validated])
        return train, cohort.select(validated)
    count = max(least, len(rest) // 5)
    train, chosen, _ = rest.split((len(rest) - count, count, 0), seed)
    return train, chosen


def parse_names(text: str | None) -> list[str]:
    """The names of an option, with commas between."""
    return [name.strip() for name in text.split(",")] if text else []


def _stem(path: Path) -> str:
    """The name of a file without the ending of an image."""
    endings = [ending for ending in READABLE if path.name.endswith(ending)]
    return path.name.removesuffix(max(endings, key=len, default=""))
