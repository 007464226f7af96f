"""Names that options and commands had before version 0.3; the next release refuses them."""

from collections.abc import Container

import typer

from cifl_tf._former_names import FORMER
from cifl_tf._notes import note

# As in Python, with "_"; of those commands that have the present option and not the former.
OPTIONS = FORMER | {"model": "encoder", "optimise": "optimize"}
COMMANDS = {"optimise": "optimize"}


def present_name(name: str, known: Container[str]) -> str:
    """The name of today of an option, where the given one is none that a command knows."""
    present = OPTIONS.get(name, name)
    return present if name not in known and present in known else name


class PresentNames(typer.core.TyperGroup):
    """A group of commands that takes former names as well, and notes which these were."""

    def resolve_command(self, ctx, args):
        """The command, and its arguments, in names of today."""
        first, *rest = args
        present = COMMANDS.get(first)
        if first not in self.commands and present in self.commands:
            args = [present, *rest]
        name, command, rest = super().resolve_command(ctx, args)
        renamed = [] if args[0] == first else [(first, args[0])]
        parameters = command.params if command else []
        known = {option for each in parameters for option in (*each.opts, *each.secondary_opts)}
        for index, argument in enumerate(rest):
            former, equals, value = argument.partition("=")
            now = _present_option(former, known)
            if now != former:
                renamed.append((former, now))
                rest[index] = now + equals + value
        if renamed and not ctx.resilient_parsing:
            names = ", ".join(f"{former} is {now} now" for former, now in dict(renamed).items())
            note(f"{names}; the next release refuses the former name")
        return name, command, rest


def _present_option(option, known):
    """The option of today, also of the form ``--no-x``."""
    for prefix in ("--no-", "--"):
        if option.startswith(prefix):
            stem = option.removeprefix(prefix).replace("-", "_")
            present = prefix + OPTIONS.get(stem, stem).replace("_", "-")
            if option not in known and present in known:
                return present
    return option
