"""What the commands that register a pair of images share."""

import contextlib
import os
from pathlib import Path
from typing import Annotated

import typer

from cifl_tf._notes import note
from cifl_tf.cli.command_run import CommandRun
from cifl_tf.cli.parsing import parse_window, with_home
from cifl_tf.cli.run_report import Entry
from cifl_tf.registration.config import LARGEST_RESIDUAL

Moving = Annotated[
    Path,
    typer.Argument(
        callback=with_home, help="NIfTI or MGZ file of the image to warp.", show_default=False
    ),
]
Fixed = Annotated[
    Path,
    typer.Argument(
        callback=with_home, help="NIfTI or MGZ file it is warped to.", show_default=False
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(callback=with_home, help="Label map of the moving image to warp too."),
]
MovingVolumeIndex = Annotated[int | None, typer.Option(help="Which image of a 4D moving file.")]
FixedVolumeIndex = Annotated[int | None, typer.Option(help="Which image of a 4D fixed file.")]


@contextlib.contextmanager
def registration_run(ctx, out, inputs, matrix=False, **resolved):
    """Claim the files of a registration, and record what becomes of the pair in the block.

    Args:
        ctx: of the command.
        out: the folder.
        inputs: files by role: "moving", "fixed", and others; None where none was given.
        matrix: whether a matrix is written, too.
        resolved: values of options that differ from what was given.
    """
    entry = registration_entry(inputs, matrix)
    with CommandRun(ctx, out, [entry], **resolved) as run, run.doing(entry):
        yield entry


def registration_entry(inputs, matrix=False, folder="") -> Entry:
    """The entry of a pair, with the files that it becomes.

    Args:
        inputs: files by role; None where none was given.
        matrix: whether a matrix is written, too.
        folder: of the files, in that of the run.
    """
    from cifl_tf.registration.result import AFFINE_FILE, LABELS_FILE, REGISTRATION_FILES

    read = {name: os.path.abspath(path) for name, path in inputs.items() if path is not None}
    left_out = {
        *([] if "labels" in read else [LABELS_FILE]),
        *([] if matrix else [AFFINE_FILE]),
    }
    planned, removed = (
        [os.path.join(folder, name) for name in REGISTRATION_FILES if (name in left_out) == out]
        for out in (False, True)
    )
    return Entry(read, planned, removed)


def parse_windows(moving, fixed):
    """The intensity windows of the options of both images."""
    return parse_window(moving, "--moving-window"), parse_window(fixed, "--fixed-window")


def note_label_maps(entry: Entry) -> None:
    """Note a moving or fixed image that is hardly a scan."""
    from cifl_tf.cli.scan_work import note_labels

    for role in ("moving", "fixed"):
        note_labels(entry.input[role])


def write_registration(found, out, entry, plane=None):
    """Write a registration, and say what a user should know of it.

    Args:
        found: ``RegistrationResult``.
        out: the folder.
        entry: of the run.
        plane: of the slices, where each was registered alone.
    """
    from cifl_tf.registration.result import save_registration

    save_registration(found, out, overwrite=True)  # what may not be overwritten was refused before
    describe_registration(found, entry, plane)
    typer.echo(f"{found.folded:.2%} of the voxels are folded. The warp is in {out}.")


def describe_registration(found, entry, plane=None) -> None:
    """Record what was measured of a registration, and note what a user should know of it.

    Args:
        found: ``RegistrationResult``.
        entry: of the run.
        plane: of the slices, where each was registered alone.
    """
    entry.numbers = {
        "folded (%)": 100 * found.folded,
        "SD of the logarithm of the Jacobian": found.log_jacobian_std,
        "inverse misses by at most (mm)": found.inverse_residual,
    }
    entry.numbers |= found.report
    notes = [*found.warnings]
    if plane is not None:
        notes.append(f"every {plane} slice was registered alone; nothing moves across them")
    if found.inverse_residual > LARGEST_RESIDUAL:
        notes.append(
            f"where the warp has no inverse, the inverse warp misses by up to "
            f"{found.inverse_residual:.1f} mm"
        )
    for text in notes:
        note(text)
