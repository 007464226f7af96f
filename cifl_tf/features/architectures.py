"""The forms of encoders, in numbers."""

from typing import Literal, get_args

NUM_CONVOLUTIONS = 8
UNET_LEVELS = 3
Architecture = Literal["plain", "unet"]
ARCHITECTURES = get_args(Architecture)


def check_architecture(architecture: str) -> None:
    """Refuse what is no architecture.

    Raises:
        ValueError: says the choices.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture is {architecture!r}; choose from {ARCHITECTURES}")


def receptive_radius(architecture: str) -> int:
    """How many voxels away from a feature the farthest voxel is that it depends on.

    Example:
        >>> import cifl_tf as cifl
        >>> cifl.receptive_radius("plain"), cifl.receptive_radius("unet")
        (8, 23)
    """
    check_architecture(architecture)
    if architecture == "plain":
        return NUM_CONVOLUTIONS
    # Down and up: two convolutions each per level, on voxels of 2**level, only two at the bottom;
    # a voxel of a coarse level holds its own 2**level voxels.
    strides = [2**level for level in range(UNET_LEVELS)]
    return 4 * sum(strides) - 2 * strides[-1] + strides[-1] - 1
