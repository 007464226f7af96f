"""``cifl demo``: compare the features of a brain in four contrasts."""

from typing import Annotated

import typer

from cifl_tf.cli.command_run import CommandRun
from cifl_tf.cli.features import DEFAULT_MODEL
from cifl_tf.cli.options import EncoderModel, OutFolder, Overwrite
from cifl_tf.cli.run_report import Entry
from cifl_tf.features.config import TrainingConfig
from cifl_tf.features.pretrained import absolute_model, load_encoder

DEMO_STEPS = 600


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
    """Compare the features of a brain in four contrasts.

    The brain is MNI152's; the comparison is in numbers and pictures.
    """
    if training and model != DEFAULT_MODEL:
        raise ValueError(f"--train trains an encoder, but --model is {model}; leave one out")
    from cifl_tf._device import describe_device
    from cifl_tf.cli.demo_images import DEMO_FILES, run_demo
    from cifl_tf.features.training import train

    used = str(out / "model") if training else model
    entry = Entry({"model": absolute_model(used)}, [*DEMO_FILES])
    encoder = None if training else load_encoder(model)
    with CommandRun(ctx, out, [entry], model=entry.input["model"]) as run, run.doing(entry):
        if training:
            typer.echo(f"Device: {describe_device()}")
            encoder = train(out / "model", TrainingConfig(steps=DEMO_STEPS))
        typer.echo(run_demo(encoder, out))
    typer.echo(f"See {' and '.join(str(out / name) for name in DEMO_FILES)}.")
