"""Values of options that are text: names, numbers and paths."""

import os
import re
from pathlib import Path
from typing import TypeVar

from cifl_tf.datasets.remappings import checked_remappings
from cifl_tf.images.atomic import expanded

Number = TypeVar("Number", int, float)
NO_NAMES = "none"
SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgt])i?b?", re.IGNORECASE)


def with_home(value):
    """A path, text or list of an option or argument, with the home folder for ``~`` at its start.

    A shell leaves the ``~`` of ``--out=~/folder`` as it is.
    """
    if isinstance(value, list | tuple):
        return [with_home(item) for item in value]
    if isinstance(value, Path):
        return expanded(value)
    return os.path.expanduser(value) if isinstance(value, str) else value


def parse_names(text: str | None) -> list[str]:
    """The names of an option, with commas between."""
    return [name.strip() for name in text.split(",")] if text else []


def parse_choices(text: str) -> tuple[str, ...]:
    """The names of an option that takes "none" for no names."""
    return () if text == NO_NAMES else tuple(parse_names(text))


def parse_numbers(text: str, option: str, kind: type[Number]) -> tuple[Number, ...]:
    """The numbers of an option, with commas between.

    Raises:
        ValueError: there is something else; says the option.
    """
    try:
        return tuple(kind(number) for number in text.split(","))
    except ValueError:
        wanted = "whole numbers, such as 96,96" if kind is int else "numbers, such as 0.9,1.5"
        raise ValueError(f"{option} is {text!r}; give {wanted}") from None


def parse_range(text: str, option: str) -> tuple[float, float]:
    """The lowest and the highest number of an option, with a comma between.

    Raises:
        ValueError: there are not two numbers; says the option.
    """
    numbers = parse_numbers(text, option, float)
    if len(numbers) != 2:
        raise ValueError(f"{option} is {text!r}; give the lowest and the highest, such as 0,1.5")
    return numbers[0], numbers[1]


def parse_window(text: str | None, option: str = "--window") -> tuple[float, float] | None:
    """The window of ``--window``; None where there is none.

    Raises:
        ValueError: it is not two finite numbers, the lower first.
    """
    if text is None:
        return None
    from cifl_tf.images.intensity import IntensityScaling  # NumPy

    return IntensityScaling(window=parse_range(text, option)).window


def parse_memory(text: str | None) -> int | None:
    """The bytes of ``--memory``; None where there is none. 1G is 1000 M, and 1M is 1000 k.

    Raises:
        ValueError: it is no size with a unit.
    """
    if text is None:
        return None
    found = SIZE.fullmatch(text.strip())
    size = 0 if found is None else float(found[1]) * 1000 ** (1 + "kmgt".index(found[2].lower()))
    if size < 1:
        raise ValueError(f"--memory is {text!r}; give a size with its unit, such as 2G or 800M")
    return int(size)


def parse_remappings(text: str) -> tuple[str, ...]:
    """The remapped copies of ``--remappings``.

    Raises:
        ValueError: there is no such remapping, or it is there twice.
    """
    return checked_remappings(parse_choices(text))
