"""``cifl register``: train a registration network, apply it, or optimize the warp of one pair."""

import contextlib
import os
from pathlib import Path
from typing import Annotated

import typer

from cifl_tf._checks import NDIM
from cifl_tf.cli.command_run import CommandRun, record_export
from cifl_tf.cli.config_options import command
from cifl_tf.cli.former_names import PresentNames
from cifl_tf.cli.options import (
    REMAPPINGS,
    FeaturesModel,
    OutFolder,
    Overwrite,
    Remappings,
    Window,
    chosen_model,
    with_shipped_encoder,
)
from cifl_tf.cli.parsing import parse_remappings, parse_window, with_home
from cifl_tf.cli.run_report import Entry
from cifl_tf.cli.subject_options import SubjectOptions
from cifl_tf.features.pretrained import INTENSITY, absolute_model, load_encoder, load_features
from cifl_tf.images.planes import PlaneName
from cifl_tf.registration.config import MOST_VOXELS, RegistrationConfig

LARGEST_RESIDUAL = 0.5  # mm, of an inverse that is worth no words
register_app = typer.Typer(
    cls=PresentNames,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Register images of contrasts that training has not seen.",
)

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
RegistrationFolder = Annotated[
    Path,
    typer.Option(
        "--model",
        callback=with_home,
        help="Folder of `cifl register train`, or its registration.keras.",
        show_default=False,
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(callback=with_home, help="Label map of the moving image to warp too."),
]
VoxelSize = Annotated[
    float | None,
    typer.Option(help="Register at this size in mm.", show_default="that of the training images"),
]
MovingVolumeIndex = Annotated[int | None, typer.Option(help="Which image of a 4D moving file.")]
FixedVolumeIndex = Annotated[int | None, typer.Option(help="Which image of a 4D fixed file.")]


@register_app.command("train")
@command
def train_command(
    *,
    out: OutFolder,
    subjects: SubjectOptions,
    config: RegistrationConfig,
):
    """Train a registration network on one contrast.

    The same command goes on after an interruption.
    """
    config = with_shipped_encoder(config)
    from cifl_tf._device import describe_device
    from cifl_tf.registration.training import train_registration

    # Pairs are of different subjects.
    train, validation = subjects.cohorts(config, least=2)
    typer.echo(f"Device: {describe_device()}")
    train_registration(out, config, train, validation)
    typer.echo(f"The registration network is in {out}.")


@register_app.command("apply")
@command
def apply_command(
    ctx: typer.Context,
    moving: Moving,
    fixed: Fixed,
    out: OutFolder,
    model: RegistrationFolder,
    labels: Labels = None,
    voxel_size: VoxelSize = None,
    moving_volume_index: MovingVolumeIndex = None,
    fixed_volume_index: FixedVolumeIndex = None,
    moving_window: Window = None,
    fixed_window: Window = None,
    refine: Annotated[
        bool, typer.Option(help="Optimize the warp of this pair after the network.")
    ] = False,
    overwrite: Overwrite = False,
):
    """Warp an image to another with a trained network.

    Writes the files that `optimize` writes.
    """
    windows = _windows(moving_window, fixed_window)
    from cifl_tf.registration.images import register_images
    from cifl_tf.registration.instance import InstanceSettings
    from cifl_tf.registration.loading import load_registration
    from cifl_tf.registration.methods import NetworkMethod

    method = NetworkMethod(load_registration(model), refine=InstanceSettings() if refine else None)
    with _running(ctx, out, moving, fixed, labels) as entry:
        found = register_images(
            moving,
            fixed,
            method,
            labels,
            voxel_size,
            moving_volume_index,
            fixed_volume_index,
            *windows,
        )
        _write(found, out, method, entry)


@register_app.command("optimize")
@command
def optimize_command(
    ctx: typer.Context,
    moving: Moving,
    fixed: Fixed,
    out: OutFolder,
    model: FeaturesModel = None,
    ndim: Annotated[
        int | None,
        typer.Option(
            help="2 for slices, 3 for volumes.",
            show_default="the encoder's; else as the fixed image",
        ),
    ] = None,
    plane: Annotated[PlaneName, typer.Option(help="Plane of the slices.")] = "coronal",
    remappings: Remappings = REMAPPINGS.default,
    labels: Labels = None,
    voxel_size: Annotated[
        float | None,
        typer.Option(
            help="Register at this size in mm.",
            show_default=f"the fixed image's own; of volumes one for {MOST_VOXELS:,} voxels at "
            "most, the same along all axes",
        ),
    ] = None,
    moving_volume_index: MovingVolumeIndex = None,
    fixed_volume_index: FixedVolumeIndex = None,
    moving_window: Window = None,
    fixed_window: Window = None,
    overwrite: Overwrite = False,
):
    """Warp an image to another without training.

    The warp itself is optimized on the features of both. An encoder for slices, as with --ndim 2,
    goes through a volume slice by slice, and nothing moves across them. Writes warped.nii.gz,
    warp.nii.gz and inverse_warp.nii.gz, which ITK and ANTs read, jacobian.nii.gz, labels.nii.gz and
    registration.png.
    """
    windows = _windows(moving_window, fixed_window)
    names = parse_remappings(remappings)
    if ndim is not None:
        NDIM.check("ndim", ndim)
    from cifl_tf.images.nifti import load_image
    from cifl_tf.registration.images import (
        default_ndim,
        optimization_voxel_size,
        register_images,
    )
    from cifl_tf.registration.methods import InstanceMethod

    fixed_image = load_image(fixed)  # once: a look at its header reads a compressed file whole
    if model in (None, INTENSITY):
        ndim = default_ndim(fixed_image) if ndim is None else ndim
        used = chosen_model(model, ndim)
        encoder = load_features(used)
    else:
        used = absolute_model(model)
        encoder = load_encoder(model)
        ndim = len(encoder.input_shape) - 2 if ndim is None else ndim
    if ndim == 3 and voxel_size is None:
        voxel_size = optimization_voxel_size(fixed_image)
        if voxel_size:
            typer.echo(
                "The voxels of the fixed image are many, or long: registering at "
                f"{voxel_size:g} mm. --voxel-size chooses another size."
            )
    method = InstanceMethod(encoder, ndim, plane, names)
    chosen = {"model": used, "ndim": ndim, "voxel_size": voxel_size}
    with _running(ctx, out, moving, fixed, labels, **chosen) as entry:
        found = register_images(
            moving,
            fixed_image,
            method,
            labels,
            voxel_size,
            moving_volume_index,
            fixed_volume_index,
            *windows,
        )
        _write(found, out, method, entry)


@register_app.command("export")
def export_command(
    ctx: typer.Context,
    out: OutFolder,
    model: RegistrationFolder,
):
    """Write a registration network as a SavedModel to a new folder.

    The SavedModel needs TensorFlow only.
    """
    from cifl_tf.export import export_registration
    from cifl_tf.registration.loading import load_registration

    network = load_registration(model)
    record_export(ctx, out, lambda: export_registration(network, out), model=model)
    typer.echo(f"The SavedModel is in {out}.")


@contextlib.contextmanager
def _running(ctx, out, moving, fixed, labels, **resolved):
    """Claim the files of a registration, and record what becomes of the pair in the block."""
    from cifl_tf.registration.images import LABELS_FILE, REGISTRATION_FILES

    given = {"moving": moving, "fixed": fixed, "labels": labels}
    read = {name: os.path.abspath(path) for name, path in given.items() if path is not None}
    planned = [name for name in REGISTRATION_FILES if labels is not None or name != LABELS_FILE]
    removed = [] if labels is not None else [LABELS_FILE]
    entry = Entry(read, planned, removed)
    with CommandRun(ctx, out, [entry], **resolved) as run, run.doing(entry):
        yield entry


def _windows(moving, fixed):
    return parse_window(moving, "--moving-window"), parse_window(fixed, "--fixed-window")


def _write(found, out, method, entry):
    from cifl_tf.registration.images import save_registration

    save_registration(found, out, overwrite=True)  # what may not be overwritten was refused before
    entry.numbers = {
        "folded (%)": 100 * found.folded,
        "inverse misses by at most (mm)": found.inverse_residual,
    }
    notes = []
    if method.ndim == 2:
        plane = method.preprocessing.plane
        notes.append(f"Every {plane} slice was registered alone; nothing moves across them.")
    if found.inverse_residual > LARGEST_RESIDUAL:
        notes.append(
            f"Where the warp has no inverse, inverse_warp.nii.gz misses by up to "
            f"{found.inverse_residual:.1f} mm."
        )
    for text in notes:
        typer.echo(text)
    entry.notes += notes
    typer.echo(f"{found.folded:.2%} of the voxels are folded. The warp is in {out}.")
