import dataclasses
import json
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from cifl_tf._options import Option
from cifl_tf.cli.config_options import command
from cifl_tf.cli.parsing import with_home


@dataclasses.dataclass(frozen=True)
class Sample:
    """A configuration.

    Attributes:
        steps: a number.
        rate: another.
        scales: numbers.
        remappings: names.
        axis: mirrored axis.
    """

    steps: int = 3
    rate: float = 0.5
    scales: tuple[float, ...] = (4,)
    remappings: tuple[str, ...] = ()
    axis: Annotated[
        int | None,
        Option(
            name="flip",
            kind=bool,
            to_field=lambda flip: 0 if flip else None,
            from_field=lambda axis: axis == 0,
        ),
    ] = None


@pytest.fixture
def cifl():
    """Run one of two commands; gives the values, or the message of the error."""
    app = typer.Typer(rich_markup_mode=None)
    calls = []

    @app.command("train")
    @command
    def train(
        *,
        out: Annotated[Path, typer.Option(callback=with_home)],
        train_subjects: str | None = None,
        config: Sample,
    ):
        calls.append({"out": out, "train_subjects": train_subjects, **dataclasses.asdict(config)})

    @app.command("features")
    @command
    def features(
        ctx: typer.Context,
        images: list[Path],
        out: Annotated[Path, typer.Option()],
        plane: str | None = None,
        overwrite: bool = False,
    ):
        calls.append(dict(ctx.params))

    def run(*arguments):
        calls.clear()
        done = CliRunner().invoke(app, [*map(str, arguments)], prog_name="cifl")
        if calls:
            return calls[0]
        return done.output if isinstance(done.exception, SystemExit) else str(done.exception)

    return run


@pytest.fixture
def write(tmp_path):
    def write(text, name="options.yaml"):
        (tmp_path / name).write_text(text if isinstance(text, str) else json.dumps(text))
        return tmp_path / name

    return write


YAML = """
# An experiment.
out: ~/model
steps: 7
rate: 1e-3
scales: [2, 4.5]
remappings: [inverted, gamma]
train-subjects: sub-1,sub-2
flip: true
"""


def test_yaml_stands_for_options(cifl, write, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    expected = {
        "out": Path("/home/me/model"),
        "train_subjects": "sub-1,sub-2",
        "steps": 7,
        "rate": 0.001,
        "scales": (2, 4.5),
        "remappings": ("inverted", "gamma"),
        "axis": 0,
    }
    assert cifl("train", "--config", write(YAML)) == expected


def test_options_of_the_command_line_come_first(cifl, write):
    file = write(YAML)
    options = ["--steps", 9, "--no-flip", "--remappings", "none", "--out", "here"]
    expected = {"steps": 9, "axis": None, "remappings": (), "out": Path("here"), "rate": 0.001}
    for line in ([*options, "--config", file], [f"--config={file}", *options]):
        assert cifl("train", *line).items() >= expected.items()


def test_json_former_names_and_what_is_null(cifl, write):
    file = write({"ensemble": ["gamma"], "steps": None}, "options.json")
    values = cifl("train", "--out", "o", "--config", file)
    assert (values["remappings"], values["steps"]) == (("gamma",), 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step: 7", "{file} has 'step', which is no option of `cifl train`; leave it out"),
        ("config: other.yaml", "{file} has 'config', which is no option"),
        ("axis: 0", "{file} has 'axis', which is no option"),
        ("steps: many", "{file}: steps is 'many': Input should be a valid integer"),
        ("steps: 2.5", "{file}: steps is '2.5'|{file}: steps is 2.5: Input should be a valid int"),
        ("steps: [1, 2]", "{file}: steps is [1, 2]: Input should be a valid integer"),
        ("steps: true", "{file}: steps is True; give a value"),
        ("scales: {a: 1}", "{file}: scales is {{'a': 1}}; give text, a number, or a list"),
        ("flip: 1", "{file}: flip is 1; give true or false"),
        ("- steps", "{file} does not map names of options to values"),
        ("7: 8", "{file} does not map names of options to values"),
        ("a: [", "{file} cannot be read (while parsing a flow node"),
    ],
)
def test_what_is_no_option_is_named_with_its_file(cifl, write, text, message):
    file = write(text)
    found = cifl("train", "--out", "o", "--config", file)
    assert any(found.startswith(part.format(file=file)) for part in message.split("|"))


def test_files_that_cannot_be_read(cifl, write, tmp_path):
    assert "is no file that ends in .json, .yaml, .yml" in cifl(
        "train", "--out", "o", "--config", write("steps: 1", "options.txt")
    )
    broken = cifl("train", "--out", "o", "--config", write("{", "options.json"))
    assert broken.startswith(f"{tmp_path / 'options.json'} cannot be read (Expecting property")
    missing = tmp_path / "none.yaml"
    assert f"{missing} does not exist" in cifl("train", "--out", "o", "--config", missing)


def recorded(command, **options):
    """A run as run.json holds it."""
    return {
        "command": command,
        "arguments": [],
        "directory": "/",
        "options": options,
        "inputs": [],
        "versions": {},
        "device": "CPU",
        "started": "2026-01-01T00:00:00+00:00",
        "id": "1",
        "seconds": 1.0,
    }


def test_a_record_gives_the_options_of_the_last_run(cifl, write):
    common = {"images": ["/a.nii", "/b.nii"], "out": "/out"}
    runs = [
        recorded("features", **common, plane="coronal", overwrite=True),
        recorded("features", **common, plane="axial", overwrite=True),
        recorded("segment apply", **common, model="m"),
    ]
    file = write({"runs": runs}, "run.json")
    # To overwrite is nothing that a record asks for.
    expected = {
        "images": [Path("/a.nii"), Path("/b.nii")],
        "out": Path("/out"),
        "plane": "axial",
        "overwrite": False,
    }
    assert cifl("features", "--config", file) == expected
    assert cifl("features", "c.nii", "--config", file) == {**expected, "images": [Path("c.nii")]}
    other = cifl("train", "--config", file)
    assert other == (
        f"{file} has no run of cifl train, but of cifl features, cifl segment apply; give another "
        "file"
    )


def test_a_training_gives_its_options(cifl, write):
    config = {
        "version": "0.1.0",
        **{"steps": 8, "rate": 0.1 + 0.2, "scales": [2.0, 8.5], "ensemble": [], "axis": 0},
        "train": ["sub-1", "sub-2"],
        "label_names": ["background", "WM"],
        "other_replicas": 1,
    }
    values = cifl("train", "--out", "again", "--config", write(config, "config.json"))
    assert values == {
        "out": Path("again"),
        "train_subjects": "sub-1,sub-2",
        "steps": 8,
        "rate": 0.1 + 0.2,
        "scales": (2, 8.5),
        "remappings": (),
        "axis": 0,
    }
    copied = write(config | {"scales": 5}, "first.json")
    message = f"{copied}: scales is 5, which no training wrote"
    assert cifl("train", "--out", "again", "--config", copied) == message
    # One of the user's that has the name of a record is as any other.
    assert cifl("train", "--out", "o", "--config", write({"steps": 2}, "config.json"))["steps"] == 2
