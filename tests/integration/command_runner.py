"""Run commands and scripts in a process that has TensorFlow loaded already."""

import multiprocessing
import runpy
import sys

import pytest
import typer.main
from typer.testing import CliRunner

from cifl_tf.cli.main import app

# Made once: all commands and their options take longer to make than many a command to run.
COMMAND = typer.main.get_command(app)
# Processes of one that has imported TensorFlow, and has used nothing of it.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["cifl_tf.features.training"])


def run_here(*arguments):
    """What ``cifl`` with these arguments gives: ``exit_code``, ``stdout`` and ``stderr``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typer.testing._get_command", lambda _: COMMAND)
        return CliRunner().invoke(app, [*map(str, arguments)])


def assert_one_line_error(done, message):
    """A command ended with one line that a user understands, and printed nothing else."""
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.startswith("cifl: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def run_script_here(script, *arguments):
    """Run a script as Python runs it with these arguments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [*map(str, (script, *arguments))])
        patch.syspath_prepend(script.parent)
        runpy.run_path(str(script), run_name="__main__")
