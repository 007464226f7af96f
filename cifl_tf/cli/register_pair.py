"""``cifl register MOVING FIXED``: register any two scans, in stages."""

import os
from pathlib import Path
from typing import Annotated

import typer

from cifl_tf.cli.config_options import command
from cifl_tf.cli.former_names import COMMANDS, PresentNames
from cifl_tf.cli.options import REMAPPINGS, OutFolder, Overwrite, Remappings, Window
from cifl_tf.cli.parsing import parse_names, parse_remappings, with_home
from cifl_tf.cli.registration_run import (
    Fixed,
    FixedVolumeIndex,
    Labels,
    Moving,
    MovingVolumeIndex,
    parse_windows,
    registration_run,
    write_registration,
)
from cifl_tf.features.pretrained import absolute_model, load_encoder
from cifl_tf.registration.config import MOST_VOXELS, STAGES, checked_stages

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


def _mask(role):
    return Annotated[
        Path | None,
        typer.Option(
            callback=with_home,
            help=f"Image that is not 0 where the {role} image shows what to align.",
            show_default="all but air",
        ),
    ]


@command
def pair_command(
    ctx: typer.Context,
    moving: Moving,
    fixed: Fixed,
    out: OutFolder,
    stages: Annotated[
        str,
        typer.Option(
            help="With commas between: 'rigid' for two scans of one person; 'affine', which may "
            "scale and shear; 'deformable', alone where the scans are aligned."
        ),
    ] = ",".join(STAGES),
    model: Annotated[
        str,
        typer.Option(
            callback=with_home,
            help="Encoder for volumes: a name of `cifl info`, a folder of `cifl train`, or a "
            ".keras file.",
        ),
    ] = "shapes-3d",
    labels: Labels = None,
    initial: Annotated[
        Path | None,
        typer.Option(
            callback=with_home,
            help="Matrix to start from: .mat, .tfm or .txt of ITK or ANTs, .lta of FreeSurfer, or "
            "a text file of 4 x 4 numbers, fixed to moving in mm (RAS).",
            show_default="headers and rotations are tried",
        ),
    ] = None,
    moving_mask: _mask("moving") = None,  # type: ignore[valid-type]
    fixed_mask: _mask("fixed") = None,  # type: ignore[valid-type]
    remappings: Remappings = REMAPPINGS.default,
    voxel_size: Annotated[
        float | None,
        typer.Option(
            help="Size in mm at which to deform.",
            show_default=f"the fixed image's own, or one for {MOST_VOXELS:,} voxels at most, the "
            "same along all axes",
        ),
    ] = None,
    moving_volume_index: MovingVolumeIndex = None,
    fixed_volume_index: FixedVolumeIndex = None,
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
    names = parse_remappings(remappings)
    chosen = checked_stages(parse_names(stages))
    from cifl_tf.registration.stages import register

    encoder = load_encoder(model)
    inputs = {
        "moving": moving,
        "fixed": fixed,
        "labels": labels,
        "initial": initial,
        "moving mask": moving_mask,
        "fixed mask": fixed_mask,
    }
    matrix = initial is not None or chosen != ("deformable",)
    used = absolute_model(model)
    with registration_run(ctx, out, inputs, matrix, model=used) as entry:
        found = register(
            moving,
            fixed,
            encoder,
            stages=chosen,
            labels=labels,
            initial=initial,
            moving_mask=moving_mask,
            fixed_mask=fixed_mask,
            remappings=names,
            voxel_size=voxel_size,
            moving_volume_index=moving_volume_index,
            fixed_volume_index=fixed_volume_index,
            moving_window=windows[0],
            fixed_window=windows[1],
        )
        write_registration(found, out, entry)
