"""Names that settings and arguments had before version 0.3, for files and scripts of before."""

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

FORMER = {
    "around": "center_label",
    "copies": "cached_copies",
    "ensemble": "remappings",
    "fixed_frame": "fixed_volume_index",
    "frame": "volume_index",
    "moving_frame": "moving_volume_index",
    "passes": "num_cascades",
    "remapped": "random_contrast",
    "vary_intensity": "intensity_augmentation",
}
Named = TypeVar("Named", bound=Callable[..., Any])


def with_present_names(config: Mapping[str, Any], **more: str) -> dict[str, Any]:
    """A configuration with the names of today, in its own order.

    Args:
        config: of a network, a training, or a file of scores.
        more: present names by former ones, beside those of ``FORMER``.

    Example:
        >>> with_present_names({"ensemble": ["gamma"], "model": "shapes-2d"}, model="encoder")
        {'remappings': ['gamma'], 'encoder': 'shapes-2d'}
    """
    names = FORMER | more
    return {names.get(name, name): value for name, value in config.items()}


def accepts_former(**more: str) -> Callable[[Named], Named]:
    """Let a function or class take its arguments by their former names too, with a warning.

    Args:
        more: present names by former ones, beside those of ``FORMER``.

    Raises:
        TypeError: on a call, an argument is given by both names.

    Example:
        >>> from cifl_tf._former_names import accepts_former
        >>> @accepts_former()
        ... def read(volume_index=0):
        ...     return volume_index
        >>> read(frame=2)
        2
    """

    def decorate(named: Named) -> Named:
        if isinstance(named, type):
            named.__init__ = _renaming(named.__init__, more, named.__name__)  # type: ignore
            return named
        return _renaming(named, more, named.__name__)

    return decorate


def _renaming(function, more, name):
    parameters = inspect.signature(function).parameters
    names = {former: now for former, now in (FORMER | more).items() if now in parameters}

    @functools.wraps(function)
    def renaming(*args, **kwargs):
        for former in names.keys() & kwargs.keys():
            if names[former] in kwargs:
                raise TypeError(f"{name}() got {former} and {names[former]}; leave out {former}")
            message = f"{former} of {name} is {names[former]} now"
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            kwargs[names[former]] = kwargs.pop(former)
        return function(*args, **kwargs)

    return renaming
