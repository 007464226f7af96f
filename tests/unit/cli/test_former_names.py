from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from cifl_tf.cli.former_names import PresentNames, present_name


@pytest.fixture
def called(recwarn):
    """Run a small command, and give its values, its status, and the notes."""
    group = typer.Typer(cls=PresentNames)
    values = {}

    @group.command()
    def optimize(
        remappings: str = "",
        volume_index: int = 0,
        intensity_augmentation: bool = True,
        model: str = "",
    ):
        values.update(locals())

    @group.command()
    def train(encoder: str = "", copies: Annotated[int, typer.Option()] = 0):
        values.update(locals())

    def run(line):
        values.clear()
        recwarn.clear()
        done = CliRunner().invoke(group, line.split())
        given = {name: value for name, value in values.items() if name != "values"}
        return given, done.exit_code, [str(warning.message) for warning in recwarn]

    return run


def test_former_options_with_and_without_an_equals_sign(called):
    values, status, notes = called("optimize --ensemble=a,b --frame 3 --no-vary-intensity")
    assert (values["remappings"], values["volume_index"]) == ("a,b", 3)
    assert (values["intensity_augmentation"], status) == (False, 0)
    assert notes == [
        "--ensemble is --remappings now, --frame is --volume-index now, --no-vary-intensity is "
        "--no-intensity-augmentation now; the next release refuses the former name"
    ]


def test_former_commands(called):
    values, status, notes = called("optimise --remappings x")
    assert (values["remappings"], status) == ("x", 0)
    assert notes == ["optimise is optimize now; the next release refuses the former name"]


def test_names_of_today_pass_without_a_note(called):
    values, _, notes = called("optimize --model m --remappings=ensemble --volume-index 1")
    assert (values["model"], values["remappings"], notes) == ("m", "ensemble", [])


def test_a_name_is_former_only_where_the_command_does_not_have_it(called):
    values, _, notes = called("train --model m --copies 2")
    assert values == {"encoder": "m", "copies": 2}
    assert notes == ["--model is --encoder now; the next release refuses the former name"]
    assert called("train --ensemble inverted")[1] == 2


def test_names_of_files():
    assert present_name("ensemble", {"remappings"}) == "remappings"
    assert present_name("model", {"model", "encoder"}) == "model"
    assert present_name("model", {"encoder"}) == "encoder"
    assert present_name("ensemble", {"encoder"}) == "ensemble"
