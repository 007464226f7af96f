"""What the subcommands of ``cifl`` share."""

import dataclasses
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from cifl_tf._checks import NDIM
from cifl_tf.cli.config_options import options_of
from cifl_tf.cli.output_folder import checked_out
from cifl_tf.cli.parsing import with_home
from cifl_tf.cli.subject_options import SubjectOptions
from cifl_tf.features.pretrained import absolute_model, pretrained_encoders
from cifl_tf.images.channel_types import ChannelType
from cifl_tf.registration.config import RegistrationConfig
from cifl_tf.segmentation.config import SegmentationConfig

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
ENCODER, PLANE, REMAPPINGS = (
    options_of(RegistrationConfig)[name] for name in ("encoder", "plane", "remappings")
)
FeaturesModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        callback=with_home,
        help=ENCODER.help,
        show_default=ENCODER.shown,
    ),
]
DATASET, SEGMENTATION, SKIP_INCOMPLETE = (
    options_of(SubjectOptions)[name] for name in ("data", "segmentation", "skip_incomplete")
)
Refine = Annotated[
    bool,
    typer.Option(
        help="Place the borders between labels by the intensities of the scan itself; for labels "
        "that fill what it shows, such as tissues.",
    ),
]
Segmentation = Annotated[
    str | None, typer.Option(help=SEGMENTATION.help, show_default=SEGMENTATION.shown)
]
SkipIncomplete = Annotated[bool, typer.Option(help=SKIP_INCOMPLETE.help)]
Remappings = Annotated[str, typer.Option(help=REMAPPINGS.help)]
VolumeIndex = Annotated[int | None, typer.Option(help="Which image of a 4D file.")]
Window = Annotated[
    str | None,
    typer.Option(
        help="Two intensities that become black and white, such as 0,80 for a brain in CT.",
        show_default="percentiles; of a head in CT 0,80",
    ),
]
Stripped = Annotated[
    bool | None,
    typer.Option(
        help="Whether the images show brains without skull.",
        show_default="found out for each image",
    ),
]
FeatureType = Annotated[
    ChannelType,
    typer.Option(help="Type of the numbers in the files; int16 takes half the space."),
]
Memory = Annotated[
    str | None,
    typer.Option(
        help="Most memory that the program may take, such as 2G or 800M.",
        show_default="half of what is free",
    ),
]


def trained_model(training: str, file: str):
    """The option for what a command such as "segment train" made: a folder, or its file."""
    return typer.Option(
        "--model",
        callback=with_home,
        help=f"Folder of `cifl {training}`, or its {file}.",
        show_default=False,
    )


def resampling(shown: str | bool = True):
    """The option for the voxel size of images before anything else; the default in words."""
    return typer.Option(help="Resample to this size in mm before.", show_default=shown)


def chosen_model(
    model: str | None, ndim: int, option: str = "--model", shipped: str = "shapes-{ndim}d"
) -> str:
    """The model that was asked for; without one, an encoder that ships with the package.

    Args:
        model: what was asked for.
        ndim: of the images.
        option: that asks.
        shipped: name of the encoder, in which {ndim} stands for the dimensions.

    Raises:
        ValueError: ``ndim`` is neither 2 nor 3, or none was asked for, and no encoder of these
            dimensions ships with the package.
    """
    NDIM.check("ndim", ndim)
    shipped = shipped.format(ndim=ndim)
    if model is None and shipped not in pretrained_encoders():
        raise ValueError(f"no encoder for {ndim}D images ships with the package; give {option}")
    return absolute_model(model or shipped)


def with_shipped_encoder(config: Config, shipped: str) -> Config:
    """The configuration of a training, with an encoder that ships where none was asked for."""
    return dataclasses.replace(
        config, encoder=chosen_model(config.encoder, config.ndim, "--encoder", shipped)
    )
