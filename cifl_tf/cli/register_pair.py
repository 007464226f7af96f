"""``cifl register MOVING FIXED``: register any two scans, in stages."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from cifl_tf._checks import AT_LEAST_0, check_given
from cifl_tf._options import Option
from cifl_tf.cli.command_run import CommandRun
from cifl_tf.cli.config_options import command
from cifl_tf.cli.options import OutFolder, Overwrite, Window
from cifl_tf.cli.pair_lists import ROLES, folder_entries, table_entries
from cifl_tf.cli.parsing import parse_names, with_home
from cifl_tf.cli.registration_run import (
    Labels,
    note_label_maps,
    parse_windows,
    registration_run,
    write_registration,
)
from cifl_tf.datasets.remappings import checked_remappings
from cifl_tf.features.pretrained import absolute_model, load_encoder
from cifl_tf.registration.config import (
    DEFORMABLE,
    MOST_VOXELS,
    STAGES,
    check_tissues_stage,
    checked_stages,
)

PAIR = "pair"


@dataclasses.dataclass(frozen=True)
class PairOptions:
    """How two scans are registered.

    Attributes:
        stages: with commas between: 'rigid' for two scans of one person; 'affine', which may scale
            and shear; 'deformable', alone where the scans are aligned.
        encoder: for volumes: a name of `cifl info`, a folder of `cifl train`, or a .keras file.
        initial: matrix to start from: .mat, .tfm or .txt of ITK or ANTs, .lta of FreeSurfer, or a
            text file of 4 x 4 numbers, fixed to moving in mm (RAS).
        moving_mask: image that is not 0 where the moving image shows what to align, such as a brain
            without its lesion; the rest counts in no stage.
        fixed_mask: the same of the fixed image.
        remappings: average the features of an image and of remapped copies of it: names out of
            inverted, gamma and folded with commas between, or none.
        fast: leave out the finest level of the deformable stage, which takes most of the time.
        smoothness: of the warp in mm: the standard deviation of the Gaussian that smooths it after
            each step.
        voxel_size: size in mm at which to deform.
        moving_volume_index: which image of a 4D moving file.
        fixed_volume_index: which image of a 4D fixed file.
        stripped: whether the scans are registered as they are; of heads, the brains are registered
            otherwise, and the whole head is warped.
        tissues: deform by the probabilities of tissues, as those of `cifl segment`, and not by
            features.

    Raises:
        ValueError: an unknown stage or remapping.
    """

    stages: tuple[str, ...] = STAGES
    encoder: Annotated[
        str | None,
        Option(
            name="model",
            default="shapes-3d to align; to deform, the tissues of brains, or else shapes-2d-wide "
            "in three planes",
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
    smoothness: Annotated[float | None, Option(default="0.7 voxels")] = None
    voxel_size: Annotated[
        float | None,
        Option(
            default=f"the fixed image's own, or one for {MOST_VOXELS:,} voxels at most, the same "
            "along all axes"
        ),
    ] = None
    moving_volume_index: int | None = None
    fixed_volume_index: int | None = None
    stripped: Annotated[bool | None, Option(default="found out for each image")] = None
    tissues: Annotated[
        bool | None, Option(default="where both scans show brains, without --model")
    ] = None

    def __post_init__(self):
        object.__setattr__(self, "stages", checked_stages(self.stages))
        checked_remappings(self.remappings)
        check_given(self, smoothness=AT_LEAST_0)
        check_tissues_stage(self.tissues, self.stages)


@command
def pair_command(
    ctx: typer.Context,
    moving: Annotated[
        Path,
        typer.Argument(
            callback=with_home,
            help="NIfTI or MGZ file of the image to warp; or a folder of such files, or a BIDS "
            "dataset, whose scans are all warped to one fixed image; or a CSV file of many pairs "
            "with columns moving and fixed, where wanted also name, labels, initial, moving_mask, "
            "fixed_mask.",
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
    only: Annotated[
        str | None,
        typer.Option(
            help="Of a folder, the scans whose names end so, with commas between, such as "
            "T1w,FLAIR.",
            show_default="all but masks and segmentations",
        ),
    ] = None,
    moving_window: Window = None,
    fixed_window: Window = None,
    overwrite: Overwrite = False,
):
    """Register two scans of any contrast, orientation, voxel size and place.

    No training is needed. Writes warped.nii.gz; warp.nii.gz and inverse_warp.nii.gz, which hold
    all stages, and which ITK and ANTs read; composite.h5, the same in one file of ITK; affine.mat,
    the matrix alone; jacobian.nii.gz, labels.nii.gz and registration.png. The files of each pair of
    a folder or a CSV file lie in a folder of its name; a pair that fails does not stop the others.
    The same command goes on after an interruption: pairs that are done, and whose files have not
    changed, stay as they are, if not --overwrite.
    """
    windows = parse_windows(moving_window, fixed_window)
    encoder = None if options.encoder is None else load_encoder(options.encoder)
    given = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    given |= {"encoder": encoder, "moving_window": windows[0], "fixed_window": windows[1]}
    used = None if options.encoder is None else absolute_model(options.encoder)

    def work(entry, folder):
        from cifl_tf.tissues.registration import register_brains

        note_label_maps(entry)
        files = {role.replace(" ", "_"): path for role, path in entry.input.items()}
        write_registration(register_brains(**{**given, **files}), folder, entry)

    is_table = moving.suffix.lower() == ".csv"
    if is_table and fixed is not None:
        raise ValueError("a CSV file of pairs names the fixed images itself; give it alone")
    if not is_table and fixed is None:
        raise ValueError(
            "there is no fixed image; give the images to warp and to warp to, or a CSV file"
        )
    if only is not None and not moving.is_dir():
        raise ValueError(f"--only chooses scans of a folder, but {moving} is none; leave it out")
    given_files = [fixed, labels, options.initial, options.moving_mask, options.fixed_mask]
    shared = {role: path for role, path in zip(ROLES[1:], given_files, strict=True) if path}
    with_matrix = options.stages != (DEFORMABLE,)
    if is_table:
        entries = table_entries(moving, shared, with_matrix)
    elif moving.is_dir():
        entries = folder_entries(moving, shared, with_matrix, parse_names(only))
    else:
        matrix = with_matrix or "initial" in shared
        files = {"moving": moving, **shared}
        with registration_run(ctx, out, files, matrix, model=used) as entry:
            work(entry, out)
        return
    with CommandRun(ctx, out, list(entries.values()), model=used) as run:
        folders = {id(entry): out / name for name, entry in entries.items()}
        run.each(lambda entry: work(entry, folders[id(entry)]), again=overwrite)
