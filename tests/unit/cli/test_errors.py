import io
import re
from typing import Annotated

import numpy as np
import pytest
import tensorflow as tf
import typer
from typer.testing import CliRunner

from cifl_tf._compat import keras
from cifl_tf.cli.errors import REPORT, OneLineErrors, mendable, original_message
from cifl_tf.images.intensity import rescale_intensity


def caught(function, *arguments):
    with pytest.raises(Exception) as found:  # noqa: PT011
        function(*arguments)
    return found.value


def test_what_was_raised_on_purpose_can_be_mended():
    error = caught(rescale_intensity, np.zeros(3), 60, 40)
    assert mendable(error).startswith("percentiles are 60 and 40: give")
    assert (
        mendable(caught(open, "/nowhere/file"))
        == "[Errno 2] No such file or directory: '/nowhere/file'"
    )
    assert mendable(MemoryError("1 TiB")).startswith(
        "there is not enough memory (1 TiB); use smaller"
    )
    assert mendable(MemoryError()).startswith("there is not enough memory; use smaller")


@pytest.mark.parametrize(
    "fault",
    [
        lambda: np.zeros(3) + np.zeros(4),
        lambda: int("three"),
        lambda: np.reshape(np.zeros(3), (2, 2)),
        lambda: io.TextIOWrapper(io.BytesIO(b"\xff"), "utf-8").read(),
        lambda: {}["name"],
        lambda: None + 1,
        lambda: [].name,
        lambda: tf.reshape(tf.zeros(3), (2, 2)),
        lambda: keras.layers.Dense(-1),
    ],
)
def test_what_others_refuse_is_a_fault_of_the_program(fault):
    assert mendable(caught(fault)) is None


def test_memory_of_tensorflow_can_be_mended():
    text = "Graph execution error:\n\nOOM when allocating tensor with shape[9] by CPU\n\t [[node]]"
    error = tf.errors.ResourceExhaustedError(None, None, text)
    expected = "there is not enough memory (OOM when allocating tensor with shape[9] by CPU); use"
    assert mendable(error).startswith(expected)


class Picky(keras.layers.Layer):
    def call(self, inputs):
        if inputs.shape[-1] == 3:
            raise ValueError("three channels: give two")
        return tf.reshape(inputs, (2, 7)) if inputs.shape[-1] == 4 else inputs


class PickyModel(keras.Model):
    def train_step(self, data):
        raise ValueError(
            f"the data are {data.shape}, which is more than this model of a test wants to see: "
            "give none"
        )


def test_keras_and_autograph_put_nothing_around_a_message():
    error = caught(Picky(), keras.Input((3,)))
    assert "Exception encountered" in str(error)
    assert mendable(error) == "three channels: give two"
    model = PickyModel()
    model.compile()
    error = caught(lambda: model.fit(np.zeros((2, 5)), verbose=0))
    assert "in user code:" in str(error)
    assert mendable(error).startswith("the data are (None, 5), which is")
    assert mendable(error).endswith("wants to see: give none")
    assert mendable(caught(Picky(), keras.Input((4,), batch_size=1))) is None
    for plain in ("plain\nof two lines", "in user code: nothing"):
        assert original_message(plain) == plain


@pytest.fixture
def run(monkeypatch):
    """A command that fails as it is told."""
    monkeypatch.delenv("CIFL_DEBUG", raising=False)
    app = typer.Typer(cls=OneLineErrors)

    @app.callback()
    def main(debug: Annotated[bool, typer.Option("--debug", envvar="CIFL_DEBUG")] = False):
        pass

    @app.command()
    def fail(kind: str):
        errors = {
            "mendable": ValueError("give\nanother"),
            "fault": KeyError("name"),
            "pipe": BrokenPipeError(32, "Broken pipe"),
            "key": KeyboardInterrupt(),
        }
        raise errors[kind]

    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_one_line_and_status(run):
    done = run("fail", "mendable")
    assert (done.exit_code, done.output) == (1, "cifl: give another\n")
    done = run("fail", "key")
    assert (done.exit_code, done.output) == (130, "cifl: interrupted\n")
    done = run("fail", "pipe")
    assert (done.exit_code, done.output) == (1, "")
    done = run("fail", "--wrong")
    assert done.exit_code == 2
    assert "No such option" in done.output


def test_a_fault_shows_its_traceback(run, monkeypatch):
    done = run("fail", "fault")
    assert isinstance(done.exception, KeyError)  # Python prints it with its traceback
    assert done.stderr == f"cifl: {REPORT}\n"
    assert isinstance(run("--debug", "fail", "mendable").exception, ValueError)
    monkeypatch.setenv("CIFL_DEBUG", "1")
    done = run("fail", "mendable")
    assert isinstance(done.exception, ValueError)
    assert not re.search("cifl:", done.output)
