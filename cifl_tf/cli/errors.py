"""What ``cifl`` says of an error: one line where the user can mend it, else a traceback."""

import dis
import itertools
import re
import sys
import sysconfig
from pathlib import Path

import typer

from cifl_tf._notes import printed_notes
from cifl_tf.cli.former_names import PresentNames

PACKAGE = str(Path(__file__).parents[1])
INSTALLED = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
RAISE = dis.opmap["RAISE_VARARGS"]
INTERRUPTED = 130  # the status of a shell for a program that Ctrl-C ended
REPORT = "this is a fault of cifl_tf, not of your files; please report it with the traceback"
# Of errors inside tf.function: the lines of code they passed, and the error with its indentation.
AUTOGRAPH_FRAME = re.compile(r'^ *File "(.+)", line \d+, in .*\n *(.*)', re.MULTILINE)
AUTOGRAPH_ERROR = re.compile(r"^    \w+: (.*)", re.MULTILINE | re.DOTALL)
# What Keras puts around an error inside a layer.
LAYER = re.compile(
    r"Exception encountered when calling layer .*?\n\n(.*?)\n\nCall arguments received by layer .*",
    re.DOTALL,
)


def mendable(error: BaseException) -> str | None:
    """One line for an error that the user can mend; None for a fault of the program.

    The user can mend what the operating system refuses, a lack of memory, and every ValueError and
    ImportError that was raised on purpose: by a ``raise`` that stands neither in Python nor in an
    installed package other than this one.
    """
    tf = sys.modules.get("tensorflow")  # without it, no error is TensorFlow's
    if tf and isinstance(error, tf.errors.ResourceExhaustedError):
        found = re.search(r"OOM when allocating[^\n]*", error.message or "")
        return _memory(found[0] if found else "")
    if isinstance(error, MemoryError):
        return _memory(str(error))
    if isinstance(error, OSError):
        return _line(error)
    if isinstance(error, ValueError | ImportError) and _on_purpose(error):
        return _line(error)
    return None


def said(error: BaseException) -> str:
    """One line for any error: its type too where the user cannot mend it."""
    return mendable(error) or f"{type(error).__name__}: {_line(error)}"


def original_message(text: str) -> str:
    """The message of an error without what AutoGraph and Keras put around it."""
    while layer := LAYER.search(text):
        text = layer[1]
    frames = [*AUTOGRAPH_FRAME.finditer(text)]
    found = frames and AUTOGRAPH_ERROR.search(text, frames[-1].end())
    return original_message(found[1]) if found else text


class OneLineErrors(PresentNames):
    """Print what the user can mend as one line on standard error and exit with status 1.

    ``--debug`` of the group shows the traceback of everything.
    """

    def parse_args(self, ctx, args):
        """Keep the arguments as given, for the record of the run; refuse empty ones."""
        ctx.meta["arguments"] = list(args)
        for before, argument in itertools.pairwise(["", *args]):
            # Path("") is the folder of now, and many an empty text is as if nothing was given.
            empty = argument == "" or (argument.startswith("--") and argument.endswith("="))
            if empty and not ctx.resilient_parsing:  # as in completions
                name = argument.rstrip("=") or before
                ctx.fail(
                    f"Nothing is given after '{name}', perhaps by an empty variable of the shell; "
                    "give a value, or leave the option out."
                )
        return super().parse_args(ctx, args)

    def invoke(self, ctx):
        """Run a command."""
        try:
            with printed_notes():
                return super().invoke(ctx)
        except KeyboardInterrupt as error:
            typer.echo("cifl: interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from error
        except (BrokenPipeError, typer.Exit, typer.Abort):
            raise  # of a broken pipe, as in `cifl info | head`, typer makes a quiet end
        except Exception as error:
            # Wrong options have a status of their own; typer explains them.
            if hasattr(error, "exit_code") or ctx.params.get("debug"):
                raise
            message = mendable(error)
            if message is None:
                typer.echo(f"cifl: {REPORT}", err=True)
                raise
            typer.echo(f"cifl: {message}", err=True)
            raise typer.Exit(1) from error


def _on_purpose(error):
    """Whether a ``raise`` of this package, or of code that is not installed, raised an error."""
    frames = AUTOGRAPH_FRAME.findall(str(error))
    if frames:  # those of the traceback are of generated code
        file, line = frames[-1]
        return _ours(file) and line.startswith("raise")
    last = error.__traceback__
    if last is None:
        return True
    while last.tb_next:
        last = last.tb_next
    code = last.tb_frame.f_code
    # On any other instruction, Python or NumPy refused what this package gave them.
    return _ours(code.co_filename) and code.co_code[last.tb_lasti] == RAISE


def _memory(reason):
    hint = "use smaller images, patches or batches, or a larger voxel size"
    return f"there is not enough memory{f' ({reason})' if reason else ''}; {hint}"


def _line(error):
    return " ".join(original_message(str(error)).split()) or type(error).__name__


def _ours(file):
    return file.startswith(PACKAGE) or not file.startswith(INSTALLED)
