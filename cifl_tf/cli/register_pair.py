"""``cifl register MOVING FIXED``: register any two scans, in stages."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from cifl_tf._options import Option
from cifl_tf.cli.command_run import CommandRun
from cifl_tf.cli.config_options import command
from cifl_tf.cli.former_names import COMMANDS, PresentNames
from cifl_tf.cli.options import OutFolder, Overwrite, Window
from cifl_tf.cli.parsing import with_home
from cifl_tf.cli.registration_run import (
    Labels,
    parse_windows,
    registration_entry,
    registration_run,
    write_registration,
)
from cifl_tf.cli.run_report import Entry
from cifl_tf.datasets.contrasts import checked_remappings
from cifl_tf.features.pretrained import absolute_model, load_encoder
from cifl_tf.images.atomic import expanded
from cifl_tf.registration.config import DEFORMABLE, MOST_VOXELS, STAGES, checked_stages

PAIR = "pair"
ROLES = ("moving", "fixed", "labels", "initial", "moving mask", "fixed mask")


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
        fast: leave out the finest level of the deformable stage, which takes most of the time.
        voxel_size: size in mm at which to deform.
        moving_volume_index: which image of a 4D moving file.
        fixed_volume_index: which image of a 4D fixed file.

    Raises:
        ValueError: an unknown stage or remapping.
    """

    stages: tuple[str, ...] = STAGES
    encoder: Annotated[
        str | None,
        Option(
            name="model",
            default="shapes-3d to align, shapes-2d-wide in three planes to deform",
            to_field=with_home,
        ),
    ] = None
    initial: Annotated[
        Path | None, Option(default="headers and rotations are tried", to_field=with_home)
    ] = None
    moving_mask: Annotated[Path | None, Option(default="all but air", to_field=with_home)] = None
    fixed_mask: Annotated[Path | None, Option(default="all but air", to_field=with_home)] = None
    remappings: tuple[str, ...] = ("inverted",)
    fast: bool = False
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
    moving: Annotated[
        Path,
        typer.Argument(
            callback=with_home,
            help="NIfTI or MGZ file of the image to warp; or a CSV file of many pairs with columns "
            "moving and fixed, where wanted also name, labels, initial, moving_mask, fixed_mask.",
            show_default=False,
        ),
    ],
    out: OutFolder,
    options: PairOptions,
    fixed: Annotated[
        Path | None,
        typer.Argument(
            callback=with_home,
            help="NIfTI or MGZ file it is warped to; not for a CSV file.",
            show_default=False,
        ),
    ] = None,
    labels: Labels = None,
    moving_window: Window = None,
    fixed_window: Window = None,
    overwrite: Overwrite = False,
):
    """Register two scans of any contrast, orientation, voxel size and place.

    No training is needed. Writes warped.nii.gz; warp.nii.gz and inverse_warp.nii.gz, which hold
    all stages, and which ITK and ANTs read; affine.mat, the matrix alone; jacobian.nii.gz,
    labels.nii.gz and registration.png. The files of each pair of a CSV file lie in a folder of its
    name; a pair that fails does not stop the others.
    """
    windows = parse_windows(moving_window, fixed_window)
    from cifl_tf.registration.stages import register

    encoder = None if options.encoder is None else load_encoder(options.encoder)
    given = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    given |= {"encoder": encoder, "moving_window": windows[0], "fixed_window": windows[1]}
    used = None if options.encoder is None else absolute_model(options.encoder)

    def work(entry, folder):
        files = {role.replace(" ", "_"): path for role, path in entry.input.items()}
        write_registration(register(**{**given, **files}), folder, entry)

    many = moving.suffix.lower() == ".csv"
    if many and fixed is not None:
        raise ValueError("a CSV file of pairs names the fixed images itself; give it alone")
    if not many and fixed is None:
        raise ValueError(
            "there is no fixed image; give the images to warp and to warp to, or a CSV file"
        )
    given_files = [labels, options.initial, options.moving_mask, options.fixed_mask]
    shared = {role: path for role, path in zip(ROLES[2:], given_files, strict=True) if path}
    if fixed is not None:
        files = {"moving": moving, "fixed": fixed, **shared}
        with registration_run(ctx, out, files, has_matrix(files, options), model=used) as entry:
            work(entry, out)
        return
    entries = pair_entries(moving, shared, options)
    with CommandRun(ctx, out, list(entries.values()), model=used) as run:
        folders = {id(entry): out / name for name, entry in entries.items()}
        run.each(lambda entry: work(entry, folders[id(entry)]))


def has_matrix(files: Mapping[str, Path], options: PairOptions) -> bool:
    """Whether a matrix is part of the result for files by their roles."""
    return "initial" in files or options.stages != (DEFORMABLE,)


def pair_entries(file: Path, shared: Mapping[str, Path], options: PairOptions) -> dict[str, Entry]:
    """The pairs of a CSV file, by their names.

    Args:
        file: its paths lead from its own folder.
        shared: files of all pairs, by their roles; those of the table come first.
        options: of all pairs.

    Raises:
        ValueError: the file is no table of pairs, or a name is there twice.
        FileNotFoundError: there is no such file.
    """
    from cifl_tf.images.nifti import suffix_of
    from cifl_tf.registration.chain import read_table

    table = read_table(file).astype(str)
    missing = [role for role in ROLES[:2] if role not in table]
    if missing or table.empty:
        raise ValueError(
            f"{file} has {len(table)} rows with the columns {', '.join(table)}; give the columns "
            "moving and fixed, and a row for each pair"
        )
    found: dict[str, Entry] = {}
    for row in table.to_dict("records"):
        cells = {role: row.get(role.replace(" ", "_"), "") for role in ROLES}
        given = {role: file.parent / expanded(cell) for role, cell in cells.items() if cell}
        unnamed = [role for role in ROLES[:2] if role not in given]
        if unnamed:
            raise ValueError(f"row {len(found) + 1} of {file} has no {unnamed[0]} image; name one")
        files = {**shared, **given}
        stems = [files[role].name.removesuffix(suffix_of(files[role]) or "") for role in ROLES[:2]]
        name = row.get("name") or "_to_".join(stems)
        if name in found:
            raise ValueError(f"{file} has two pairs {name!r}; give others in the column name")
        if Path(name).name != name:
            raise ValueError(f"{file} has a pair {name!r}; give the name of a folder, without /")
        found[name] = registration_entry(files, has_matrix(files, options), name)
    return found
