"""``cifl register MOVING FIXED``: register any two scans, in stages."""

import dataclasses
import os
from pathlib import Path
from typing import Annotated

import typer

from cifl_tf._options import Option
from cifl_tf.cli.config_options import command
from cifl_tf.cli.former_names import COMMANDS, PresentNames
from cifl_tf.cli.options import OutFolder, Overwrite, Window
from cifl_tf.cli.parsing import with_home
from cifl_tf.cli.registration_run import (
    Fixed,
    Labels,
    Moving,
    parse_windows,
    registration_run,
    write_registration,
)
from cifl_tf.datasets.contrasts import checked_remappings
from cifl_tf.features.pretrained import absolute_model, load_encoder
from cifl_tf.registration.config import DEFORMABLE, MOST_VOXELS, STAGES, checked_stages

PAIR = "pair"


class PairGroup(PresentNames):
    """A group of commands that takes two files without the name of a command."""

    def parse_args(self, ctx, args):
        """Put the name of the command before two files, or before their options."""
        known = {*self.commands, *COMMANDS, *self.get_help_option_names(ctx)}
        if args and args[0] not in known and (args[0].startswith("-") or _is_file(args[0])):
            args = [PAIR, *args]
        return super().parse_args(ctx, args)


def _is_file(text):
    """Whether a first argument is a file and no misspelled command."""
    return os.sep in text or "." in text or Path(text).exists()


@dataclasses.dataclass(frozen=True)
class PairOptions:
    """How two scans are registered.

    Attributes:
        stages: with commas between: 'rigid' for two scans of one person; 'affine', which may scale
            and shear; 'deformable', alone where the scans are aligned.
        encoder: for volumes: a name of `cifl info`, a folder of `cifl train`, or a .keras file.
        initial: matrix to start from: .mat, .tfm or .txt of ITK or ANTs, .lta of FreeSurfer, or a
            text file of 4 x 4 numbers, fixed to moving in mm (RAS).
        moving_mask: image that is not 0 where the moving image shows what to align.
        fixed_mask: image that is not 0 where the fixed image shows what to align.
        remappings: average the features of an image and of remapped copies of it: names out of
            inverted, gamma and folded with commas between, or none.
        voxel_size: size in mm at which to deform.
        moving_volume_index: which image of a 4D moving file.
        fixed_volume_index: which image of a 4D fixed file.

    Raises:
        ValueError: an unknown stage or remapping.
    """

    stages: tuple[str, ...] = STAGES
    encoder: Annotated[str, Option(name="model", to_field=with_home)] = "shapes-3d"
    initial: Annotated[
        Path | None, Option(default="headers and rotations are tried", to_field=with_home)
    ] = None
    moving_mask: Annotated[Path | None, Option(default="all but air", to_field=with_home)] = None
    fixed_mask: Annotated[Path | None, Option(default="all but air", to_field=with_home)] = None
    remappings: tuple[str, ...] = ("inverted",)
    voxel_size: Annotated[
        float | None,
        Option(
            default=f"the fixed image's own, or one for {MOST_VOXELS:,} voxels at most, the same "
            "along all axes"
        ),
    ] = None
    moving_volume_index: int | None = None
    fixed_volume_index: int | None = None

    def __post_init__(self):
        object.__setattr__(self, "stages", checked_stages(self.stages))
        checked_remappings(self.remappings)


@command
def pair_command(
    ctx: typer.Context,
    moving: Moving,
    fixed: Fixed,
    out: OutFolder,
    options: PairOptions,
    labels: Labels = None,
    moving_window: Window = None,
    fixed_window: Window = None,
    overwrite: Overwrite = False,
):
    """Register two scans of any contrast, orientation, voxel size and place.

    No training is needed. Writes warped.nii.gz; warp.nii.gz and inverse_warp.nii.gz, which hold
    all stages, and which ITK and ANTs read; affine.mat, the matrix alone; jacobian.nii.gz,
    labels.nii.gz and registration.png.
    """
    windows = parse_windows(moving_window, fixed_window)
    from cifl_tf.registration.stages import register

    encoder = load_encoder(options.encoder)
    inputs = {
        "moving": moving,
        "fixed": fixed,
        "labels": labels,
        "initial": options.initial,
        "moving mask": options.moving_mask,
        "fixed mask": options.fixed_mask,
    }
    matrix = options.initial is not None or options.stages != (DEFORMABLE,)
    used = absolute_model(options.encoder)
    with registration_run(ctx, out, inputs, matrix, model=used) as entry:
        given = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
        found = register(
            moving,
            fixed,
            **{**given, "encoder": encoder},
            labels=labels,
            moving_window=windows[0],
            fixed_window=windows[1],
        )
        write_registration(found, out, entry)
