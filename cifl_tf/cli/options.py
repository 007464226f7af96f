"""What the subcommands of ``cifl`` share."""

import os
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from cifl_tf.cli.output_folder import checked_out
from cifl_tf.datasets import Cohort
from cifl_tf.features.frozen import checked_remappings
from cifl_tf.features.pretrained import INTENSITY, pretrained_encoders
from cifl_tf.images.atomic import expanded
from cifl_tf.images.intensity import IntensityScaling
from cifl_tf.images.volumes import PlaneName

Number = TypeVar("Number", int, float)


def with_home(value):
    """A path, text or list of an option or argument, with the home folder for ``~`` at its start.

    A shell leaves the ``~`` of ``--out=~/folder`` as it is.
    """
    if isinstance(value, list | tuple):
        return [with_home(item) for item in value]
    if isinstance(value, Path):
        return expanded(value)
    return os.path.expanduser(value) if isinstance(value, str) else value


OutFolder = Annotated[
    Path,
    typer.Option("--out", callback=checked_out, help="Folder to write to.", show_default=False),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace files in --out that this command did not make from the same input before.",
    ),
]
Images = Annotated[
    list[Path],
    typer.Argument(callback=with_home, help="NIfTI or MGZ files.", show_default=False),
]
EncoderModel = Annotated[
    str,
    typer.Option(
        "--model",
        callback=with_home,
        help="A name of `cifl info`, a folder of `cifl train`, or a .keras file.",
    ),
]
FeaturesModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        callback=with_home,
        help="A name of `cifl info`, a folder of `cifl train`, a .keras file, or 'intensity', the "
        "baseline.",
        show_default="shapes-2d or shapes-3d",
    ),
]
DATASET = (
    "A BIDS, neurite-OASIS or IXI folder; or 'virtual', made from MNI152. FOLDER:ses-01,"
    "space-MNI152Lin chooses among the files of a BIDS folder."
)
Dataset = Annotated[str, typer.Option(callback=with_home, help=DATASET)]
Segmentation = Annotated[
    str | None,
    typer.Option(
        help="Which label maps: of BIDS *_desc-NAME_dseg.nii.gz, or 'none' for images alone; of "
        "neurite-OASIS seg4, seg24 or seg35.",
        show_default="tissue, or seg4",
    ),
]
SkipIncomplete = Annotated[
    bool,
    typer.Option(
        "--skip-incomplete", help="Leave out subjects that lack an image or labels, and name them."
    ),
]
Contrast = Annotated[str, typer.Option(help="The contrast to train on.")]
TestSubjects = Annotated[str | None, typer.Option(help="Names to keep out, with commas between.")]
ValidationSubjects = Annotated[
    str | None,
    typer.Option(help="Names that choose the best epoch.", show_default="a fifth, at random"),
]
Ndim = Annotated[int, typer.Option(help="2 for slices, 3 for volumes.")]
TrainingVoxelSize = Annotated[
    float | None,
    typer.Option(
        help="Resample all images to this size in mm before.",
        show_default="their own, which must be the same",
    ),
]
Plane = Annotated[PlaneName, typer.Option(help="Of the slices.")]
NumSlices = Annotated[int, typer.Option(help="Slices per subject.")]
LabeledSlices = Annotated[
    int | None,
    typer.Option(
        help="Neighboring slices per subject.",
        show_default="the whole extent of the labels, 40 at most; 9 with --center-label",
    ),
]
CenterLabel = Annotated[
    str | None,
    typer.Option(help="Label on which the slices are centered.", show_default="the middle"),
]
Remappings = Annotated[
    str,
    typer.Option(
        help="Average the features of an image and of remapped copies of it: names out of "
        "inverted, gamma and folded with commas between, or none."
    ),
]
IntensityVaries = Annotated[
    bool, typer.Option(help="Vary gamma, bias field, slice thickness and noise at random.")
]
RandomContrast = Annotated[
    float,
    typer.Option(help="Share of the training images that get a random contrast, also alone."),
]
Window = Annotated[
    str | None,
    typer.Option(
        help="Two intensities that become black and white, such as 0,80 for a brain in CT.",
        show_default="percentiles; of a head in CT 0,80",
    ),
]
LearningRate = Annotated[float, typer.Option(help="At the start.")]
Seed = Annotated[int, typer.Option(help="Of everything random.")]


def chosen_model(model: str | None, ndim: int) -> str:
    """The model that was asked for; without one, the encoder that ships with the package.

    Raises:
        ValueError: none was asked for, and no encoder of these dimensions ships with the package.
    """
    shipped = f"shapes-{ndim}d"
    if model is None and shipped not in pretrained_encoders():
        raise ValueError(f"no encoder for {ndim}D images ships with the package; give --model")
    return absolute_model(model or shipped)


def absolute_model(model: str) -> str:
    """What stands for a model in a configuration: "intensity", a name, or an absolute path."""
    named = model == INTENSITY or model in pretrained_encoders()
    return model if named else str(expanded(model).resolve())


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
        ValueError: there is no subject of a name, one is in both, or there are too few of them.
    """
    tested, validated = parse_names(test), parse_names(validation)
    both = [name for name in tested if name in validated]
    if both:
        raise ValueError(f"{both} are in --test-subjects and --validation-subjects; choose one")
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


def parse_numbers(text: str, option: str, kind: type[Number]) -> tuple[Number, ...]:
    """The numbers of an option, with commas between.

    Raises:
        ValueError: there is something else; says the option.
    """
    try:
        return tuple(kind(number) for number in text.split(","))
    except ValueError:
        wanted = "whole numbers, such as 96,96" if kind is int else "numbers, such as 0.9,1.5"
        raise ValueError(f"{option} is {text!r}; give {wanted}") from None


def parse_range(text: str, option: str) -> tuple[float, float]:
    """The lowest and the highest number of an option, with a comma between.

    Raises:
        ValueError: there are not two numbers; says the option.
    """
    numbers = parse_numbers(text, option, float)
    if len(numbers) != 2:
        raise ValueError(f"{option} is {text!r}; give the lowest and the highest, such as 0,1.5")
    return numbers[0], numbers[1]


def parse_window(text: str | None, option: str = "--window") -> tuple[float, float] | None:
    """The window of ``--window``; None where there is none.

    Raises:
        ValueError: it is not two finite numbers, the lower first.
    """
    return None if text is None else IntensityScaling(window=parse_range(text, option)).window


def parse_remappings(text: str) -> tuple[str, ...]:
    """The remapped copies of ``--remappings``.

    Raises:
        ValueError: there is no such remapping, or it is there twice.
    """
    return checked_remappings(() if text == "none" else parse_names(text))
