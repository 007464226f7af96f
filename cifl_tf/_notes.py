"""Notes: what a user should know of what was done, though it is no error.

In Python they are warnings; the ``cifl`` command prints each as one line on standard error.
"""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence

MOST_NAMES = 6


class Note(UserWarning):
    """Something was left out or chosen for the user."""


def note(text: str) -> None:
    """Tell the user something that is no error."""
    warnings.warn(text, Note, stacklevel=3)


def note_left_out(folder, reasons: Mapping[str, str], total: int) -> None:
    """Tell which subjects of a dataset are left out, and why, if there are any.

    Args:
        folder: of the dataset.
        reasons: by the subject's name.
        total: subjects of the dataset.
    """
    if reasons:
        why = listed(f"{name} ({reason})" for name, reason in reasons.items())
        note(f"{len(reasons)} of {total} subjects of {folder} are incomplete and left out: {why}")


def listed(names: Iterable[str]) -> str:
    """Names with commas between, the first few of many: "a, b and 4 more"."""
    names = list(names)
    text = ", ".join(names[:MOST_NAMES])
    return text if len(names) <= MOST_NAMES else f"{text} and {len(names) - MOST_NAMES} more"


def named(text: str, names: Sequence[str]) -> str:
    """A message on one file, or on a pair, with the names if it says none of them."""
    names = [" ".join(name.split()) for name in names]  # one line, as messages are
    told = not names or any(os.path.basename(name) in text for name in names)
    return text if told else f"{' to '.join(names)}: {text}"


@contextlib.contextmanager
def recorded_notes(texts: list[str], names: Sequence[str] = ()):
    """Add the notes of the block to a list, and show them with the name of what they are on.

    Args:
        texts: the list.
        names: of what the block works on, such as paths; see ``named``.
    """
    with warnings.catch_warnings():
        show = warnings.showwarning

        def record(message, category, *place, **more):
            if issubclass(category, Note):
                texts.append(str(message))
                message = named(str(message), names)
            show(message, category, *place, **more)

        warnings.showwarning = record
        yield


@contextlib.contextmanager
def printed_notes():
    """Print notes as lines on standard error, as a command does."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_note(message, category, *place, **more):
            if issubclass(category, Note):
                print(f"Note: {message}", file=sys.stderr)
            else:
                show(message, category, *place, **more)

        warnings.simplefilter("always", Note)
        warnings.showwarning = show_note
        yield
