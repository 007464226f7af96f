"""Names that settings had before version 0.3, for files of before."""

from collections.abc import Mapping
from typing import Any

# Of networks and of trainings alike.
FORMER = {
    "around": "center_label",
    "copies": "cached_copies",
    "ensemble": "remappings",
    "passes": "num_cascades",
    "remapped": "random_contrast",
    "vary_intensity": "intensity_augmentation",
}


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
