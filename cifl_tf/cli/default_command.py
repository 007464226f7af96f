"""Groups of commands that take files without the name of a command."""

import os
from pathlib import Path

from cifl_tf.cli.former_names import COMMANDS, PresentNames


class DefaultGroup(PresentNames):
    """A group of commands, one of which, the default, needs no name before its files."""

    default: str

    def parse_args(self, ctx, args):
        """Put the name of the default command before files, or before their options."""
        known = {*self.commands, *COMMANDS, *self.get_help_option_names(ctx)}
        if args and args[0] not in known and (args[0].startswith("-") or _is_file(args[0])):
            args = [self.default, *args]
        return super().parse_args(ctx, args)


def _is_file(text):
    """Whether a first argument is a file and no misspelled command."""
    return os.sep in text or "." in text or Path(text).exists()
