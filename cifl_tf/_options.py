"""How the command line asks for the fields of a configuration, beside the fields themselves."""

import dataclasses
import inspect
import re
from collections.abc import Callable
from typing import Any

NAMES = re.compile(r" {4}(\w+(?:, \w+)*): (.*)")


@dataclasses.dataclass(frozen=True)
class Option:
    """What an option differs in from its field; to be put into ``Annotated``.

    Attributes:
        name: of the option, where another than the field's.
        default: what the default does, in words, where the value does not say so.
        kind: type of the option's value, where another than the field's.
        to_field: the field's value from the option's; None stays None.
        from_field: the option's value from the field's.
    """

    name: str | None = None
    default: str | None = None
    kind: Any = None
    to_field: Callable[[Any], Any] | None = None
    from_field: Callable[[Any], Any] | None = None


def attribute_docs(owner: type) -> dict[str, str]:
    """What the docstring of a class says of each of its attributes, by name.

    Args:
        owner: a class with an "Attributes:" section.

    Example:
        >>> attribute_docs(Option)["name"]
        "of the option, where another than the field's."
    """
    _, _, section = (inspect.getdoc(owner) or "").partition("Attributes:\n")
    section = section.partition("\n\n")[0]
    docs: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines():
        begins = NAMES.fullmatch(line)
        if begins:
            names = begins[1].split(", ")
            docs.update(dict.fromkeys(names, begins[2]))
        else:
            docs.update({name: f"{docs[name]} {line.strip()}" for name in names})
    return docs
