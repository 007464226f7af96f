"""Extension of griffe, which reads the docstrings: ``Example:`` is a section of examples."""

import re

import griffe


class Examples(griffe.Extension):
    """Let griffe see code in ``Example:``, where it knows ``Examples:`` only."""

    def on_object(self, *, obj: griffe.Object, **kwargs) -> None:
        """Rename the section in the docstring of an object."""
        if obj.docstring:
            value = obj.docstring.value
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", value, flags=re.MULTILINE)
