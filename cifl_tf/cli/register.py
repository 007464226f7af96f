"""``cifl register``: train a registration network, apply it, or optimize the warp of one pair."""

import contextlib
import os
from pathlib import Path
from typing import Annotated

import typer

from cifl_tf._checks import NDIM
from cifl_tf._device import describe_device
from cifl_tf.cli.command_run import CommandRun, record_export
from cifl_tf.cli.options import (
    CenterLabel,
    Contrast,
    Dataset,
    FeaturesModel,
    IntensityVaries,
    LearningRate,
    Ndim,
    NumSlices,
    OutFolder,
    Overwrite,
    Plane,
    RandomContrast,
    Remappings,
    Seed,
    Segmentation,
    SkipIncomplete,
    TestSubjects,
    TrainingVoxelSize,
    ValidationSubjects,
    Window,
    absolute_model,
    chosen_model,
    parse_remappings,
    parse_window,
    split_cohort,
    with_home,
)
from cifl_tf.cli.run_report import Entry
from cifl_tf.datasets import load_cohort
from cifl_tf.export import export_registration
from cifl_tf.features.pretrained import INTENSITY, load_encoder, load_features
from cifl_tf.images.nifti import load_image
from cifl_tf.registration.config import LossName, RegistrationConfig, SimilarityName
from cifl_tf.registration.images import (
    LABELS_FILE,
    MOST_VOXELS,
    REGISTRATION_FILES,
    default_ndim,
    optimization_voxel_size,
    register_images,
    save_registration,
)
from cifl_tf.registration.instance import InstanceSettings
from cifl_tf.registration.loading import load_registration
from cifl_tf.registration.methods import InstanceMethod, NetworkMethod
from cifl_tf.registration.training import train_registration

LARGEST_RESIDUAL = 0.5  # mm, of an inverse that is worth no words
DEFAULT = RegistrationConfig(INTENSITY)
DEFAULT_REMAPPINGS = ",".join(DEFAULT.remappings)
register_app = typer.Typer(
    no_args_is_help=True, help="Register images of contrasts that training has not seen."
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
def train_command(
    out: OutFolder,
    model: FeaturesModel = None,
    data: Dataset = "virtual",
    segmentation: Segmentation = None,
    skip_incomplete: SkipIncomplete = False,
    contrast: Contrast = DEFAULT.contrast,
    test_subjects: TestSubjects = None,
    validation_subjects: ValidationSubjects = None,
    ndim: Ndim = DEFAULT.ndim,
    voxel_size: TrainingVoxelSize = DEFAULT.voxel_size,
    plane: Plane = "coronal",
    num_slices: NumSlices = DEFAULT.num_slices,
    center_label: CenterLabel = None,
    remappings: Remappings = DEFAULT_REMAPPINGS,
    similarity: Annotated[
        SimilarityName, typer.Option(help="What the loss compares.")
    ] = DEFAULT.similarity,
    loss: Annotated[LossName, typer.Option(help="How it compares them.")] = DEFAULT.loss,
    smoothness: Annotated[
        float, typer.Option(help="Weight of the smoothness of the warp.")
    ] = DEFAULT.smoothness,
    label_weight: Annotated[
        float, typer.Option(help="Weight of the overlap of the labels; 0 trains without them.")
    ] = DEFAULT.label_weight,
    num_cascades: Annotated[
        int, typer.Option(help="How many times the network is applied, each to what it warped.")
    ] = DEFAULT.num_cascades,
    steps: Annotated[int, typer.Option(help="Optimization steps.")] = DEFAULT.steps,
    batch_size: Annotated[
        int, typer.Option(help="Pairs per step.", show_default="6; of volumes 1")
    ] = 0,
    learning_rate: LearningRate = DEFAULT.learning_rate,
    augment: Annotated[
        bool, typer.Option(help="Deform the training images at random.")
    ] = DEFAULT.augment,
    intensity_augmentation: IntensityVaries = DEFAULT.intensity_augmentation,
    random_contrast: RandomContrast = DEFAULT.random_contrast,
    seed: Seed = DEFAULT.seed,
):
    """Train a registration network; the same command goes on after an interruption."""
    cohort = load_cohort(data, ndim, segmentation, skip_incomplete, [contrast])
    # Pairs are of different subjects.
    train, validation = split_cohort(cohort, test_subjects, validation_subjects, seed, least=2)
    config = RegistrationConfig(
        encoder=chosen_model(model, ndim),
        contrast=contrast,
        ndim=ndim,
        voxel_size=voxel_size,
        plane=plane,
        num_slices=num_slices,
        center_label=center_label,
        remappings=parse_remappings(remappings),
        similarity=similarity,
        loss=loss,
        smoothness=smoothness,
        label_weight=label_weight,
        num_cascades=num_cascades,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        augment=augment,
        intensity_augmentation=intensity_augmentation,
        random_contrast=random_contrast,
        seed=seed,
    )
    typer.echo(f"Device: {describe_device()}")
    train_registration(out, config, train, validation)
    typer.echo(f"The registration network is in {out}.")


@register_app.command("apply")
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
    """Warp an image to another with a trained network; writes what `optimize` does."""
    windows = _windows(moving_window, fixed_window)
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
    plane: Plane = "coronal",
    remappings: Remappings = DEFAULT_REMAPPINGS,
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
    """Warp an image to another without training, by optimizing the warp on their features.

    An encoder for slices, as with --ndim 2, goes through a volume slice by slice, and nothing moves
    across them. Writes warped.nii.gz, warp.nii.gz and inverse_warp.nii.gz, which ITK and ANTs read,
    jacobian.nii.gz, labels.nii.gz and registration.png.
    """
    windows = _windows(moving_window, fixed_window)
    fixed_image = load_image(fixed)  # once: a look at its header reads a compressed file whole
    if model in (None, INTENSITY):
        ndim = default_ndim(fixed_image) if ndim is None else ndim
        NDIM.check("ndim", ndim)
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
    method = InstanceMethod(encoder, ndim, plane, parse_remappings(remappings))
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
    """Write a registration network as a SavedModel that needs TensorFlow only, to a new folder."""
    network = load_registration(model)
    record_export(ctx, out, lambda: export_registration(network, out), model=model)
    typer.echo(f"The SavedModel is in {out}.")


@contextlib.contextmanager
def _running(ctx, out, moving, fixed, labels, **resolved):
    """Claim the files of a registration, and record what becomes of the pair in the block."""
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
