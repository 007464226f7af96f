"""What the subcommands of ``cifl`` share."""

import dataclasses
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from cifl_tf._checks import NDIM
from cifl_tf.cli.config_options import options_of
from cifl_tf.cli.output_folder import checked_out
from cifl_tf.cli.parsing import parse_names, with_home
from cifl_tf.features.pretrained import absolute_model, pretrained_encoders
from cifl_tf.registration.config import RegistrationConfig
from cifl_tf.segmentation.config import SegmentationConfig

if TYPE_CHECKING:  # the datasets take seconds to import
    from cifl_tf.datasets import Cohort

Config = TypeVar("Config", SegmentationConfig, RegistrationConfig)


OutFolder = Annotated[
    Path,
    typer.Option("--out", callback=checked_out, help="Folder to write to.", show_default=False),
]
Overwrite = Annotated[
    bool,
    typer.Option(
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
    typer.Option(help="Leave out subjects that lack an image or labels, and name them."),
]
TrainSubjects = Annotated[
    str | None,
    typer.Option(help="Names to train on, with commas between.", show_default="all others"),
]
TestSubjects = Annotated[str | None, typer.Option(help="Names to keep out, with commas between.")]
ValidationSubjects = Annotated[
    str | None,
    typer.Option(help="Names that choose the best epoch.", show_default="a fifth, at random"),
]
REMAPPINGS = options_of(RegistrationConfig)["remappings"]
Remappings = Annotated[str, typer.Option(help=REMAPPINGS.help)]
VolumeIndex = Annotated[int | None, typer.Option(help="Which image of a 4D file.")]
Window = Annotated[
    str | None,
    typer.Option(
        help="Two intensities that become black and white, such as 0,80 for a brain in CT.",
        show_default="percentiles; of a head in CT 0,80",
    ),
]


def chosen_model(model: str | None, ndim: int, option: str = "--model") -> str:
    """The model that was asked for; without one, the encoder that ships with the package.

    Raises:
        ValueError: ``ndim`` is neither 2 nor 3, or none was asked for, and no encoder of these
            dimensions ships with the package.
    """
    NDIM.check("ndim", ndim)
    shipped = f"shapes-{ndim}d"
    if model is None and shipped not in pretrained_encoders():
        raise ValueError(f"no encoder for {ndim}D images ships with the package; give {option}")
    return absolute_model(model or shipped)


def with_shipped_encoder(config: Config) -> Config:
    """The configuration of a training, with the encoder that ships where none was asked for."""
    return dataclasses.replace(
        config, encoder=chosen_model(config.encoder, config.ndim, "--encoder")
    )


def split_cohort(
    cohort: "Cohort",
    train: str | None,
    validation: str | None,
    test: str | None,
    seed: int,
    least: int = 1,
) -> "tuple[Cohort, Cohort]":
    """Training and validation cohorts without the test subjects.

    Args:
        cohort: all subjects.
        train: names with commas between; None for all that are in neither of the others.
        validation: names with commas between; None for a fifth of the rest, at random.
        test: names with commas between.
        seed: of the choice.
        least: subjects of a validation at random.

    Raises:
        ValueError: there is no subject of a name, one is in two of the three, or there are too few
            of them.
    """
    named = {
        "--test-subjects": parse_names(test),
        "--validation-subjects": parse_names(validation),
        "--train-subjects": parse_names(train),
    }
    for one, other in itertools.combinations(named, 2):
        both = [name for name in named[one] if name in named[other]]
        if both:
            raise ValueError(f"{both} are in {one} and {other}; choose one")
    tested, validated, trained = named.values()
    cohort.select([*trained, *validated, *tested])  # raises if a name is not there
    kept = trained or [name for name in cohort.names if name not in tested]
    rest = cohort.select([name for name in kept if name not in validated])
    if validated:
        return rest, cohort.select(validated)
    count = max(least, len(rest) // 5)
    chosen_train, chosen, _ = rest.split((len(rest) - count, count, 0), seed)
    return chosen_train, chosen
