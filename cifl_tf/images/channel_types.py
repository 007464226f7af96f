"""Types of the numbers of channels in files."""

from typing import Literal, get_args

ChannelType = Literal["float32", "int16"]


def check_channel_type(dtype: str) -> None:
    """Refuse what is no type of channels.

    Raises:
        ValueError: says the choices.
    """
    if dtype not in get_args(ChannelType):
        raise ValueError(f"dtype is {dtype!r}; choose from {', '.join(get_args(ChannelType))}")
