"""The ``cifl`` command."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tensorflow as tf
import typer

from cifl_tf._device import describe_device
from cifl_tf._version import __version__
from cifl_tf.cli.command_run import CommandRun, record_export
from cifl_tf.cli.demo_images import DEMO_FILES, run_demo
from cifl_tf.cli.errors import OneLineErrors
from cifl_tf.cli.evaluate import evaluate_command
from cifl_tf.cli.options import (
    EncoderModel,
    Images,
    OutFolder,
    Overwrite,
    Remappings,
    Window,
    absolute_model,
    parse_numbers,
    parse_range,
    parse_remappings,
    parse_window,
    with_home,
)
from cifl_tf.cli.output_folder import image_entries
from cifl_tf.cli.register import register_app
from cifl_tf.cli.run_report import Entry
from cifl_tf.cli.segment import segment_app
from cifl_tf.export import export_saved_model
from cifl_tf.features.config import Precision, TrainingConfig
from cifl_tf.features.encoder import Architecture
from cifl_tf.features.inference import features_of
from cifl_tf.features.pretrained import find_pretrained, load_encoder, pretrained_encoders
from cifl_tf.features.training import train
from cifl_tf.figures.features import save_feature_picture
from cifl_tf.images.volumes import PlaneName, read_volume, save_image
from cifl_tf.training.folder import check_folder

DEMO_STEPS = 600
DEFAULT_MODEL = "shapes-2d"
DEFAULT = TrainingConfig()


def _with_commas(numbers):
    return ",".join(f"{number:g}" for number in numbers)


app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Contrast-invariant features of medical images (CIFL).",
)
app.add_typer(segment_app, name="segment")
app.add_typer(register_app, name="register")
app.command("evaluate")(evaluate_command)


def _print_version(value: bool):
    if value:
        typer.echo(f"cifl_tf {__version__} (TensorFlow {tf.__version__})")
        typer.echo(f"Device: {describe_device()}")
        raise typer.Exit


@app.callback()
def _cifl(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version, and the device that is used.",
        ),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", envvar="CIFL_DEBUG", help="Show the traceback of every error."),
    ] = False,
):
    """Options of the command itself."""
    # Warnings, such as that images of many sizes take time, are for those who write the program.
    tf.get_logger().setLevel("ERROR")


@app.command("train")
def train_command(
    out: OutFolder,
    ndim: Annotated[int, typer.Option(help="2 for slices, 3 for volumes.")] = DEFAULT.ndim,
    shape: Annotated[
        str | None,
        typer.Option(
            help="Size of the training images in voxels, such as 96,96.",
            show_default="96,96 or 40,40,40",
        ),
    ] = None,
    num_features: Annotated[int, typer.Option(help="Channels.")] = DEFAULT.num_features,
    num_filters: Annotated[int, typer.Option(help="Hidden channels.")] = DEFAULT.num_filters,
    architecture: Annotated[
        Architecture, typer.Option(help="The paper's eight convolutions, or a small U-Net.")
    ] = "plain",
    scales: Annotated[
        str, typer.Option(help="Typical sizes of the shapes in voxels.")
    ] = _with_commas(DEFAULT.scales),
    noise_std: Annotated[
        str, typer.Option(help="Lowest and highest SD of the noise in a shape, of 255.")
    ] = _with_commas(DEFAULT.noise_std),
    blur_std: Annotated[
        str, typer.Option(help="Lowest and highest SD of the blur in voxels.")
    ] = _with_commas(DEFAULT.blur_std),
    thickness_std: Annotated[
        float, typer.Option(help="Highest SD in voxels of a blur along one axis: thick slices.")
    ] = DEFAULT.thickness_std,
    bias_std: Annotated[
        str, typer.Option(help="Lowest and highest SD of the bias field's logarithm.")
    ] = _with_commas(DEFAULT.bias_std),
    steps: Annotated[int, typer.Option(help="Optimization steps in all.")] = DEFAULT.steps,
    batch_size: Annotated[int, typer.Option(help="Pairs per step.")] = DEFAULT.batch_size,
    tau_alpha: Annotated[float, typer.Option(help="Temperature.")] = DEFAULT.tau_alpha,
    tau_beta: Annotated[float, typer.Option(help="Temperature.")] = DEFAULT.tau_beta,
    tau_gamma: Annotated[float, typer.Option(help="Temperature.")] = DEFAULT.tau_gamma,
    window: Annotated[
        int, typer.Option(help="Size of the loss's windows in voxels; 0 for the whole image.")
    ] = DEFAULT.window,
    crop: Annotated[
        int | None,
        typer.Option(
            help="Voxels of the border that the loss leaves out.",
            show_default="as far as the encoder sees",
        ),
    ] = None,
    both_orders: Annotated[
        bool,
        typer.Option("--both-orders", help="Contrast the channels of both views, not of one."),
    ] = False,
    learning_rate: Annotated[float, typer.Option(help="At the start.")] = DEFAULT.learning_rate,
    precision: Annotated[
        Precision, typer.Option(help="The second computes convolutions in bfloat16.")
    ] = DEFAULT.precision,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = DEFAULT.seed,
    labels: Annotated[
        Path | None,
        typer.Option(
            callback=with_home,
            help="Folder of segmentations to take instead of random shapes.",
        ),
    ] = None,
    initial: Annotated[
        str | None,
        typer.Option(
            callback=with_home,
            help="Encoder to start from: a name of `cifl info`, a folder or a .keras file; for "
            "volumes also one for slices.",
            show_default="random weights",
        ),
    ] = None,
):
    """Train an encoder on random shapes; the same command goes on after an interruption."""
    config = TrainingConfig(
        ndim=ndim,
        shape=parse_numbers(shape, "--shape", int) if shape else (),
        num_features=num_features,
        num_filters=num_filters,
        architecture=architecture,
        scales=parse_numbers(scales, "--scales", float),
        noise_std=parse_range(noise_std, "--noise-std"),
        blur_std=parse_range(blur_std, "--blur-std"),
        thickness_std=thickness_std,
        bias_std=parse_range(bias_std, "--bias-std"),
        steps=steps,
        batch_size=batch_size,
        tau_alpha=tau_alpha,
        tau_beta=tau_beta,
        tau_gamma=tau_gamma,
        window=window,
        crop=crop,
        both_orders=both_orders,
        learning_rate=learning_rate,
        precision=precision,
        seed=seed,
        labels=str(labels.resolve()) if labels else None,
        initial=absolute_model(initial) if initial else None,
    )
    check_folder(out, dataclasses.asdict(config))  # a refusal says nothing of the device
    typer.echo(f"Device: {describe_device()}")
    train(out, config)
    typer.echo(f"The encoder is in {out}.")


@app.command("features")
def features_command(
    ctx: typer.Context,
    images: Images,
    out: OutFolder,
    model: EncoderModel = DEFAULT_MODEL,
    plane: Annotated[
        PlaneName | None,
        typer.Option(
            help="Slices for a 2D encoder.", show_default="coronal; of thick slices theirs"
        ),
    ] = None,
    voxel_size: Annotated[
        float | None, typer.Option(help="Resample to this size in mm before.")
    ] = None,
    volume_index: Annotated[int | None, typer.Option(help="Which image of a 4D file.")] = None,
    remappings: Remappings = "none",
    window: Window = None,
    overwrite: Overwrite = False,
):
    """Write the features of images as 4D NIfTI files on the images' own grids.

    report.html shows, and run.json tells, what became of every image.
    """
    encoder = load_encoder(model)
    names, limits = parse_remappings(remappings), parse_window(window)
    entries = image_entries(images, out, ["_features.nii.gz"], "_features.png")

    def write(entry):
        features = features_of(
            entry.input["image"],
            encoder,
            plane,
            voxel_size=voxel_size,
            volume_index=volume_index,
            progress=True,
            remappings=names,
            window=limits,
        )
        file, picture = (out / name for name in entry.planned)
        save_image(features, file)
        save_feature_picture(read_volume(entry.input["image"], volume_index), features, picture)

    with CommandRun(ctx, out, entries, model=absolute_model(model)) as run:
        run.each(write)


@app.command("export")
def export_command(ctx: typer.Context, out: OutFolder, model: EncoderModel = DEFAULT_MODEL):
    """Write an encoder as a SavedModel that needs TensorFlow only, to a new folder."""
    encoder = load_encoder(model)
    record_export(ctx, out, lambda: export_saved_model(encoder, out), model=absolute_model(model))
    typer.echo(f"The SavedModel is in {out}.")


@app.command("demo")
def demo_command(
    ctx: typer.Context,
    out: OutFolder,
    model: EncoderModel = DEFAULT_MODEL,
    training: Annotated[
        bool,
        typer.Option("--train", help="Train a small encoder instead, for about three minutes."),
    ] = False,
    overwrite: Overwrite = False,
):
    """Compare the features of the MNI152 brain in four contrasts, in numbers and pictures."""
    if training and model != DEFAULT_MODEL:
        raise ValueError(f"--train trains an encoder, but --model is {model}; leave one out")
    used = str(out / "model") if training else model
    entry = Entry({"model": absolute_model(used)}, [*DEMO_FILES])
    encoder = None if training else load_encoder(model)
    with CommandRun(ctx, out, [entry], model=entry.input["model"]) as run, run.doing(entry):
        if training:
            typer.echo(f"Device: {describe_device()}")
            encoder = train(out / "model", TrainingConfig(steps=DEMO_STEPS))
        typer.echo(run_demo(encoder, out))
    typer.echo(f"See {' and '.join(str(out / name) for name in DEMO_FILES)}.")


@app.command("info")
def info_command(
    name: Annotated[
        str | None, typer.Argument(help="Print the model card of this one.", show_default=False)
    ] = None,
):
    """List the encoders that ship with the package, or print the model card of one."""
    if name is None:
        known = pretrained_encoders()
        width = max(map(len, known)) + 3
        for shipped in known.values():
            typer.echo(f"{shipped.name:{width}}{shipped.summary}")
    else:
        typer.echo(find_pretrained(name).card.rstrip())


def main():
    """Run the command."""
    app(prog_name="cifl")


if __name__ == "__main__":
    main()
