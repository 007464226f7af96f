"""Options of a command from the fields of a documented dataclass, so that none is written twice."""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from cifl_tf._options import Option, attribute_docs
from cifl_tf.cli.config_file import CONFIG_FILE, ConfigFile
from cifl_tf.cli.parsing import NO_NAMES, parse_choices, parse_numbers, parse_range
from cifl_tf.cli.run_report import RUN_FILE

SENTENCE_END = re.compile(r"(?<=\.) (?=[A-Z0-9])")


@dataclasses.dataclass(frozen=True)
class ConfigOption:
    """The option for a field.

    Attributes:
        name: of the option in Python, such as "zoom".
        kind: type of its value.
        default: its value; ``inspect.Parameter.empty`` where the option must be given.
        shown: the default in words, or whether to show it.
        help: one sentence.
        to_field: the field's value from the option's.
        from_field: the option's value from the field's.
    """

    name: str
    kind: Any
    default: Any
    shown: str | bool
    help: str
    to_field: Callable[[Any], Any]
    from_field: Callable[[Any], Any]

    @property
    def parameter(self) -> inspect.Parameter:
        """As typer reads it from the signature of a command."""
        option = typer.Option(help=self.help, show_default=self.shown)
        return inspect.Parameter(
            self.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=self.default,
            annotation=Annotated[self.kind, option],
        )


def options_of(config: type) -> dict[str, ConfigOption]:
    """The options for the fields of a dataclass, by the name of the field.

    The help of an option is the first sentence that the docstring has of the field. Tuples become
    text with commas between.
    """
    docs, hints = attribute_docs(config), get_type_hints(config, include_extras=True)
    found = {}
    for field in dataclasses.fields(config):
        hint, *extras = (
            get_args(hints[field.name])
            if get_origin(hints[field.name]) is Annotated
            else [hints[field.name]]
        )
        given = next((extra for extra in extras if isinstance(extra, Option)), Option())
        name = given.name or field.name
        kind, to_field, from_field = _as_text(hint, f"--{name.replace('_', '-')}")
        from_field = given.from_field or from_field
        if field.default is not dataclasses.MISSING:
            default = from_field(field.default)
        else:
            default = inspect.Parameter.empty if given.default is None else None
        found[field.name] = ConfigOption(
            name=name,
            kind=kind if given.kind is None else given.kind,
            default=default,
            shown=given.default or True,
            help=_as_help(docs[field.name]),
            to_field=_where_given(given.to_field) or to_field,
            from_field=from_field,
        )
    return found


def command(function: Callable) -> Callable:
    """Make a command of a function: for a parameter that is a dataclass, options of its fields.

    The command takes ``--config`` as well, see ``ConfigFile``. A dataclass is built before the
    function runs, so its errors come first.
    """
    parameters = inspect.signature(function).parameters.values()
    configs: dict[str, Any] = {
        each.name: each.annotation
        for each in parameters
        if dataclasses.is_dataclass(each.annotation)
    }
    options = {name: options_of(config) for name, config in configs.items()}
    shown: list[inspect.Parameter] = []
    for each in parameters:
        if each.name in configs:
            shown += [option.parameter for option in options[each.name].values()]
        else:
            shown.append(each.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    fields = {field: option for found in options.values() for field, option in found.items()}
    file = ConfigFile(
        RUN_FILE if any(each.annotation is typer.Context for each in parameters) else CONFIG_FILE,
        {field: (option.name, option.from_field) for field, option in fields.items()},
    )

    @functools.wraps(function)
    def run(**values):
        values.pop(file.parameter.name, None)
        built = {}
        for name, config in configs.items():
            given = {
                field: option.to_field(values.pop(option.name))
                for field, option in options[name].items()
            }
            built[name] = config(**given)
        return function(**values, **built)

    run.__signature__ = inspect.Signature([*shown, file.parameter])  # type: ignore[attr-defined]
    return run


def _as_text(hint, option):
    """The type of an option for a type of a field, and the ways there and back."""
    if get_origin(hint) is not tuple:
        return hint, _same, _same
    kind, *more = get_args(hint)
    if kind is str:
        return str, parse_choices, lambda names: ",".join(names) or NO_NAMES
    if more == [...]:
        return (
            str | None,
            lambda text: parse_numbers(text, option, kind) if text else (),
            lambda numbers: _with_commas(numbers) if numbers else None,
        )
    return str, lambda text: parse_range(text, option), _with_commas


def _where_given(to_field):
    return to_field and (lambda value: None if value is None else to_field(value))


def _same(value):
    return value


def _with_commas(numbers):
    return ",".join(repr(number).removesuffix(".0") for number in numbers)


def _as_help(text):
    sentence = SENTENCE_END.split(text.replace("``", ""))[0]
    return sentence[:1].upper() + sentence[1:]
