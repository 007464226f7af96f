"""The ``cifl`` command.

Modules of commands import TensorFlow, and whatever else takes seconds, when a command runs.
"""

import importlib.metadata
import logging
from pathlib import Path
from typing import Annotated

import typer

from cifl_tf._version import __version__
from cifl_tf.cli.cohort.commands import cohort_app
from cifl_tf.cli.demo import demo_command
from cifl_tf.cli.errors import OneLineErrors
from cifl_tf.cli.evaluate import evaluate_command
from cifl_tf.cli.features import export_command, features_command
from cifl_tf.cli.parsing import with_home
from cifl_tf.cli.register import register_app
from cifl_tf.cli.segment import segment_app
from cifl_tf.cli.strip import strip_command
from cifl_tf.cli.train import train_command
from cifl_tf.cli.warp import warp_command
from cifl_tf.features.pretrained import find_pretrained, shipped_models

app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    rich_markup_mode=None,  # its tables cut names of options off in 80 columns
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 100},
    help="Contrast-invariant features of medical images (CIFL).",
)
app.add_typer(segment_app, name="segment")
app.add_typer(register_app, name="register")
app.add_typer(cohort_app, name="cohort")
app.command("strip")(strip_command)
app.command("warp")(warp_command)
app.command("evaluate")(evaluate_command)


def _print_version(value: bool):
    if value:
        tensorflow = importlib.metadata.version("tensorflow")
        typer.echo(f"cifl_tf {__version__} (TensorFlow {tensorflow})")
        raise typer.Exit


@app.callback()
def _cifl(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version. `cifl device` names the device that is used.",
        ),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", envvar="CIFL_DEBUG", help="Show the traceback of every error."),
    ] = False,
):
    """Options of the command itself."""
    # Warnings, such as that images of many sizes take time, are for those who write the program.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


app.command("train")(train_command)
app.command("features")(features_command)
app.command("export")(export_command)
app.command("demo")(demo_command)


@app.command("info")
def info_command(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|FOLDER]",
            help="Print the model card of this one, or what this SavedModel takes and gives.",
            show_default=False,
        ),
    ] = None,
):
    """List the models that ship, or tell of one, or of a SavedModel of `cifl export`."""
    known = shipped_models()
    if name is None:
        width = max(map(len, known)) + 3
        for shipped in known.values():
            typer.echo(f"{shipped.name:{width}}{shipped.summary}")
    elif name not in known and (folder := with_home(Path(name))).is_dir():
        from cifl_tf.models.description import read_description

        typer.echo("\n".join(read_description(folder).lines()))
    else:
        typer.echo(find_pretrained(name, known).card.rstrip())


@app.command("device")
def device_command():
    """Name the processor or GPU that is used.

    Where there is a GPU that is not used, the command says what to do.
    """
    from cifl_tf._device import describe_device

    typer.echo(describe_device())


def main():
    """Run the command."""
    app(prog_name="cifl")


if __name__ == "__main__":
    main()
