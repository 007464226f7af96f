import dataclasses
import inspect
from pathlib import Path
from typing import Annotated, Literal

import pytest
import typer
from typer.testing import CliRunner

from cifl_tf._options import Option
from cifl_tf.cli.config_options import command, options_of
from cifl_tf.features.config import TrainingConfig
from cifl_tf.registration.config import RegistrationConfig
from cifl_tf.segmentation.config import SegmentationConfig

CONFIGS = [TrainingConfig(), SegmentationConfig("intensity"), RegistrationConfig("intensity")]
# Other values than the defaults, one for each type and each field of another form.
OTHERS = [
    TrainingConfig(
        ndim=3,
        shape=(40, 44, 48),
        architecture="unet",
        scales=(4.5, 8),
        noise_std=(0.25, 1 / 3),
        crop=4,
        both_orders=True,
        learning_rate=1e-5,
        precision="mixed_bfloat16",
        labels="/maps",
        initial="/encoder.keras",
    ),
    SegmentationConfig(
        "shapes-2d",
        synthetic=True,
        voxel_size=1.5,
        plane="axial",
        num_slices=3,
        center_label="THA",
        remappings=("inverted", "gamma 0.4"),
        batch_norm=True,
        flip_axis=0,
        zoom_factors=(0.9, 1.2),
        intensity_augmentation=False,
    ),
    RegistrationConfig("/encoder.keras", remappings=(), loss="ncc", num_cascades=3, augment=False),
]


@dataclasses.dataclass(frozen=True)
class Sample:
    """A configuration.

    Attributes:
        given: what must be given. This is for Python.
        size: sizes in mm, see ``other``. 2 is for Python too.
        span: lowest and highest.
        names: some names.
        kind: one of two.
        switch: turn on.
        axis: mirror.
        place: a folder.
    """

    given: int
    size: Annotated[tuple[int, ...], Option(default="as before")] = ()
    span: tuple[float, float] = (0, 1.5)
    names: tuple[str, ...] = ("a", "b")
    kind: Literal["one", "two"] = "one"
    switch: bool = False
    axis: Annotated[
        int | None,
        Option(
            name="flip",
            kind=bool,
            to_field=lambda flip: 0 if flip else None,
            from_field=lambda axis: axis == 0,
        ),
    ] = None
    place: Annotated[str | None, Option(to_field=lambda path: f"/{path}")] = None

    def __post_init__(self):
        if self.given < 0:
            raise ValueError("given is negative")


def run(*arguments):
    """What a command with these arguments is called with; its output where it is not."""
    app = typer.Typer(rich_markup_mode=None)
    calls = []

    @app.command()
    @command
    def work(*, out: Annotated[Path, typer.Option()], config: Sample, last: int = 1):
        """Do something."""
        calls.append((out, config, last))

    done = CliRunner().invoke(app, [*arguments])
    return calls[0] if calls else done


def test_a_command_gets_the_configuration():
    assert run("--out", "o", "--given", "1") == (Path("o"), Sample(1), 1)
    options = "--size 2,3 --span 1,2.5 --names c --kind two --switch --flip --place x --last 5"
    expected = Sample(2, (2, 3), (1, 2.5), ("c",), "two", True, 0, "/x")
    assert run("--out", "o", "--given", "2", *options.split()) == (Path("o"), expected, 5)
    none = run("--out", "o", "--given", "2", "--names", "none", "--no-switch", "--no-flip")
    assert none[1] == Sample(2, names=())


def test_what_cannot_be_is_refused():
    assert "Missing option '--given'" in run("--out", "o").output
    assert "Invalid value for '--kind'" in run("--out", "o", "--given", "1", "--kind", "x").output
    assert str(run("--out", "o", "--given", "-1").exception) == "given is negative"
    wrong = run("--out", "o", "--given", "1", "--size", "a").exception
    assert str(wrong) == "--size is 'a'; give whole numbers, such as 96,96"
    wrong = run("--out", "o", "--given", "1", "--span", "1").exception
    assert str(wrong).startswith("--span is '1'; give the lowest and the highest")


def test_help_is_the_first_sentence():
    lines = " ".join(run("--help").output.split())
    assert "--given <int> What must be given. [required] --size <str>" in lines
    assert "--size <str> Sizes in mm, see other. [default: (as before)] --span" in lines
    assert "--span <str> Lowest and highest. [default: 0,1.5]" in lines
    assert "--names <str> Some names. [default: a,b]" in lines
    assert "--kind <one|two> One of two. [default: one]" in lines
    assert "--flip / --no-flip Mirror. [default: no-flip]" in lines
    assert "--config <path>" in lines


@pytest.mark.parametrize("config", CONFIGS + OTHERS)
def test_every_field_of_a_training_has_an_option_that_says_all_of_it(config):
    options = options_of(type(config))
    assert [*options] == [field.name for field in dataclasses.fields(config)]
    assert len({option.name for option in options.values()}) == len(options)
    again = {
        name: option.to_field(option.from_field(getattr(config, name)))
        for name, option in options.items()
    }
    assert type(config)(**again) == config


@pytest.mark.parametrize("config", CONFIGS)
def test_options_have_the_defaults_of_the_fields(config):
    options = options_of(type(config))
    found = {
        name: option.to_field(option.default)
        for name, option in options.items()
        if name != "encoder"
    }
    if "encoder" in options:
        assert options["encoder"].default is None
        found["encoder"] = config.encoder
    assert type(config)(**found) == config
    assert all(option.help.endswith(".") for option in options.values())
    # Nothing that is for those who write Python.
    assert not any(word in option.help for option in options.values() for word in ("``", "None"))


def test_another_axis_than_flip_mirrors_has_no_option():
    with pytest.raises(ValueError, match="flip_axis is 1; --flip mirrors axis 0 only"):
        options_of(SegmentationConfig)["flip_axis"].from_field(1)


def test_no_function_of_a_command_has_too_many_parameters():
    from cifl_tf.cli.main import app, register_app, segment_app

    for group in (app, register_app, segment_app):
        for info in group.registered_commands:
            written = inspect.unwrap(info.callback)
            assert len(inspect.signature(written, follow_wrapped=False).parameters) <= 15, written
