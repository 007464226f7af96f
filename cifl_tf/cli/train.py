"""``cifl train``: train an encoder."""

import dataclasses

import typer

from cifl_tf.cli.config_options import command
from cifl_tf.cli.options import OutFolder
from cifl_tf.features.config import TrainingConfig


@command
def train_command(out: OutFolder, config: TrainingConfig):
    """Train an encoder on random shapes.

    The same command goes on after an interruption.
    """
    from cifl_tf._device import describe_device
    from cifl_tf.features.training import train
    from cifl_tf.training.claims import check_folder
    from cifl_tf.training.workers import training_scope

    check_folder(out, dataclasses.asdict(config))  # a refusal says nothing of the device
    with training_scope():
        typer.echo(f"Device: {describe_device()}")
        train(out, config)
    typer.echo(f"The encoder is in {out}.")
