"""The remappings of intensities that have names; the command line knows them without NumPy."""

from collections.abc import Callable, Sequence
from typing import Any

Remapping = Callable[[Any], Any]  # of intensities in [0, 1]

# On arrays and on TensorFlow's tensors alike.
REMAPPINGS: dict[str, Remapping] = {
    "inverted": lambda x: 1 - x,
    "gamma 0.4": lambda x: x**0.4,
    "folded": lambda x: abs(2 * x - 1),
}
ALIASES = {"gamma": "gamma 0.4"}


def checked_remappings(remappings: Sequence[str]) -> tuple[str, ...]:
    """Names of remapped copies as keys of ``REMAPPINGS``.

    Args:
        remappings: different keys of ``REMAPPINGS``, or "gamma", short for "gamma 0.4".

    Raises:
        ValueError: there is no such remapping, or it is there twice.
    """
    names = tuple(ALIASES.get(name, name) for name in remappings)
    if len(set(names)) < len(names) or not set(names) <= set(REMAPPINGS):
        raise ValueError(
            f"remappings are {[*remappings]}; give names out of {[*REMAPPINGS, *ALIASES]}, "
            "each once ('gamma' is short for 'gamma 0.4')"
        )
    return names
