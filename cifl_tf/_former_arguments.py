"""Names that arguments had before version 0.3, for scripts of before."""

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

Named = TypeVar("Named", bound=Callable[..., Any])


def accepts_former(**present: str) -> Callable[[Named], Named]:
    """Let a function or class take arguments by their former names too, with a warning.

    Args:
        present: present names by former ones.

    Raises:
        TypeError: on a call, an argument is given by both names.

    Example:
        >>> from cifl_tf._former_arguments import accepts_former
        >>> @accepts_former(frame="volume_index")
        ... def read(volume_index=0):
        ...     return volume_index
        >>> read(frame=2)
        2
    """

    def decorate(named: Named) -> Named:
        if isinstance(named, type):
            named.__init__ = _renaming(named.__init__, present, named.__name__)  # type: ignore
            return named
        return _renaming(named, present, named.__name__)

    return decorate


def _renaming(function, present, name):
    @functools.wraps(function)
    def renaming(*args, **kwargs):
        for former in present.keys() & kwargs.keys():
            if present[former] in kwargs:
                raise TypeError(f"{name}() got {former} and {present[former]}; leave out {former}")
            message = f"{former} of {name} is {present[former]} now"
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            kwargs[present[former]] = kwargs.pop(former)
        return function(*args, **kwargs)

    return renaming
