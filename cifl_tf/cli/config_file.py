"""``--config``: a file whose values stand for the options of a command that are not given."""

import copy
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from cifl_tf._former_names import with_present_names
from cifl_tf.cli.former_names import present_name
from cifl_tf.cli.run_report import options_of_last_run
from cifl_tf.images.atomic import expanded

CONFIG_FILE = "config.json"  # as training.folder names it, which takes seconds to import
READERS: dict[str, Callable[[str], Any]] = {
    ".json": json.loads,
    ".yaml": yaml.safe_load,
    ".yml": yaml.safe_load,
}
# Of the ``config.json`` of a training: what became of options, and what the data said.
RECORDED = {"train": "train_subjects", "validation": "validation_subjects"}
NOT_ASKED = ("version", "label_names", "label_values", "other_replicas")


class ConfigFile:
    """The option ``--config`` of a command.

    A file of the user's maps names of options, with "-" or "_", to values; a list stands for text
    with commas between. A ``run.json``, known by its "runs", gives the options of the last run of
    the same command, all but ``--overwrite``; a ``config.json``, known by its "version", those of
    its training.

    Args:
        record: name of the file that holds the options of an earlier run of the command.
        fields: by the name of a field in a ``config.json``, the name of the option, and the
            function from the value of the field to that of the option.
    """

    def __init__(self, record: str, fields: Mapping[str, tuple[str, Callable[[Any], Any]]]):
        self.record, self.fields = record, fields

    @property
    def parameter(self) -> inspect.Parameter:
        """As typer reads it from the signature of a command."""
        option = typer.Option(
            "--config",
            callback=self.read,
            is_eager=True,
            expose_value=False,
            help="YAML or JSON file with values for options that are not given here, by their "
            f"names; also the {self.record} of an earlier run.",
            show_default=False,
        )
        return inspect.Parameter(
            "config_file",
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[Path | None, option],
        )

    def read(self, ctx: typer.Context, file: Path | None) -> None:
        """Take the values of the file as the defaults of the command.

        Raises:
            ValueError: the file cannot be read, or has a name that is no option, or a value that
                is none of the option's.
        """
        if file is None or ctx.resilient_parsing:
            return
        file = expanded(file)
        known = _parameters(ctx)
        defaults = {}
        for key, value in self._options(file, _content(file), ctx).items():
            name = present_name(key.replace("-", "_"), known)
            if name not in known:
                raise ValueError(
                    f"{file} has {key!r}, which is no option of `{ctx.command_path}`; leave it "
                    "out, or see --help"
                )
            if value is not None:
                defaults[known[name].name] = _checked(ctx, known[name], value, f"{file}: {key}")
        ctx.default_map = defaults

    def _options(self, file, content, ctx):
        """The options that a file has values for, by name."""
        if "runs" in content:
            return options_of_last_run(file, ctx.command_path.partition(" ")[2])
        if "version" not in content:
            return content
        found = {}
        for field, value in with_present_names(content, model="encoder").items():
            name, from_field = self.fields.get(field, (RECORDED.get(field, field), None))
            if field in NOT_ASKED:
                continue
            try:
                found[name] = from_field(value) if from_field and value is not None else value
            except TypeError as error:
                raise ValueError(
                    f"{file}: {field} is {value!r}, which no training wrote"
                ) from error
        return found


def _content(file):
    """The names and values of a file."""
    if file.suffix not in READERS:
        raise ValueError(f"--config {file} is no file that ends in {', '.join(READERS)}; give one")
    try:
        content = READERS[file.suffix](file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"--config {file} does not exist; give a file") from None
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{file} cannot be read ({error}); mend it") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ValueError(f"{file} does not map names of options to values; write 'name: value'")
    return content


def _parameters(ctx):
    """Options and arguments by their names, that of the command line and that in Python."""
    found = {}
    for each in ctx.command.params:
        for name in (each.name, *each.opts):
            if name not in ("config_file", "help", "--config", "--help"):
                found[name.lstrip("-").replace("-", "_")] = each
    return found


def _checked(ctx, parameter, value, where):
    """A value as the command line would have it."""
    flag, many = getattr(parameter, "is_flag", False), parameter.nargs == -1
    if flag != isinstance(value, bool):
        raise ValueError(f"{where} is {value!r}; give {'true or false' if flag else 'a value'}")
    if flag:
        return value
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str | int | float) for item in items):
        raise ValueError(f"{where} is {value!r}; give text, a number, or a list of these")
    texts = [str(item) for item in items]
    text = texts if many else ",".join(texts)
    without_callback = copy.copy(parameter)  # which is for the value that is used in the end
    without_callback.callback = None
    try:
        without_callback.process_value(ctx, text)
    except typer.BadParameter as error:
        raise ValueError(f"{where} is {value!r}: {error.message}") from error
    return text
