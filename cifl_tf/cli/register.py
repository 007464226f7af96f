"""``cifl register``: train a registration network, apply it, or optimize the warp of one pair."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cifl_tf._checks import NDIM
from cifl_tf.cli.command_run import record_export
from cifl_tf.cli.config_options import command
from cifl_tf.cli.default_command import DefaultGroup
from cifl_tf.cli.options import (
    PLANE,
    REMAPPINGS,
    FeaturesModel,
    OutFolder,
    Overwrite,
    Remappings,
    Window,
    chosen_model,
    trained_model,
    with_shipped_encoder,
)
from cifl_tf.cli.parsing import parse_remappings
from cifl_tf.cli.register_pair import PAIR, pair_command
from cifl_tf.cli.registration_run import (
    Fixed,
    FixedVolumeIndex,
    Labels,
    Moving,
    MovingVolumeIndex,
    note_label_maps,
    parse_windows,
    registration_run,
    write_registration,
)
from cifl_tf.cli.subject_options import SubjectOptions
from cifl_tf.features.pretrained import INTENSITY, absolute_model, load_encoder, load_features
from cifl_tf.images.planes import PlaneName
from cifl_tf.registration.config import MOST_VOXELS, RegistrationConfig


class RegisterGroup(DefaultGroup):
    """The commands of ``cifl register``."""

    default = PAIR


register_app = typer.Typer(
    cls=RegisterGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Register two scans of any contrast: `cifl register MOVING FIXED --out FOLDER`, which is "
    "short for `cifl register pair`.",
)
register_app.command(PAIR)(pair_command)

RegistrationFolder = Annotated[Path, trained_model("register train", "registration.keras")]


def _registering_at(shown):
    """The option for a voxel size."""
    return typer.Option(help="Register at this size in mm.", show_default=shown)


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
    config = with_shipped_encoder(config, "shapes-{ndim}d")
    from cifl_tf._device import describe_device
    from cifl_tf.registration.training import train_registration
    from cifl_tf.training.workers import training_scope

    # Pairs are of different subjects.
    with training_scope():
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
    voxel_size: Annotated[float | None, _registering_at("that of the training images")] = None,
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
    windows = parse_windows(moving_window, fixed_window)
    from cifl_tf.registration.images import register_images
    from cifl_tf.registration.instance import InstanceSettings
    from cifl_tf.registration.loading import load_registration
    from cifl_tf.registration.methods import NetworkMethod

    pair = {"moving": moving, "fixed": fixed, "labels": labels}
    method = NetworkMethod(load_registration(model), refine=InstanceSettings() if refine else None)
    with registration_run(ctx, out, pair) as entry:
        note_label_maps(entry)
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
        write_registration(found, out, entry, _plane(method))


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
    plane: Annotated[PlaneName, typer.Option(help=PLANE.help)] = PLANE.default,
    remappings: Remappings = REMAPPINGS.default,
    labels: Labels = None,
    voxel_size: Annotated[
        float | None,
        _registering_at(
            f"the fixed image's own; of volumes one for {MOST_VOXELS:,} voxels at most, the same "
            "along all axes"
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
    windows = parse_windows(moving_window, fixed_window)
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
        encoder = load_encoder(model, ndim)
        ndim = len(encoder.input_shape) - 2 if ndim is None else ndim
    if ndim == 3 and voxel_size is None:
        voxel_size = optimization_voxel_size(fixed_image)
        if voxel_size:
            typer.echo(
                "The voxels of the fixed image are many, or long: registering at "
                f"{voxel_size:g} mm. --voxel-size chooses another size."
            )
    pair = {"moving": moving, "fixed": fixed, "labels": labels}
    method = InstanceMethod(encoder, ndim, plane, names)
    chosen = {"model": used, "ndim": ndim, "voxel_size": voxel_size}
    with registration_run(ctx, out, pair, **chosen) as entry:
        note_label_maps(entry)
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
        write_registration(found, out, entry, _plane(method))


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
    record_export(ctx, out, partial(export_registration, network), model)


def _plane(method):
    """The plane of the slices of a method; None for volumes."""
    return method.preprocessing.plane if method.ndim == 2 else None
