"""Run the ``cifl`` command in the process of the tests, which has TensorFlow loaded already."""

from typer.testing import CliRunner

from cifl_tf.cli.main import app


def run_here(*arguments):
    """What ``cifl`` with these arguments gives: ``exit_code``, ``stdout`` and ``stderr``."""
    return CliRunner().invoke(app, [*map(str, arguments)])
