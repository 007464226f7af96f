"""What the subcommands of ``cifl`` share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cifl_tf.image_files import READABLE

OutFolder = Annotated[Path, typer.Option("--out", help="Folder to write to.", show_default=False)]
ModelFolder = Annotated[
    Path,
    typer.Option("--model", help="Folder of `cifl train`, or a .keras file.", show_default=False),
]


def output_paths(images: Sequence[Path], out: Path, ending: str) -> dict[Path, Path]:
    """The image that each output file is made from.

    Raises:
        ValueError: two images would become the same file.
    """
    targets: dict[Path, Path] = {}
    for image in images:
        target = out / f"{_stem(image)}{ending}"
        if target in targets:
            raise ValueError(
                f"{targets[target]} and {image} would both become {target}; run them one by one "
                "with different --out"
            )
        targets[target] = image
    return targets


def _stem(path: Path) -> str:
    """The name of a file without the ending of an image."""
    endings = [ending for ending in READABLE if path.name.endswith(ending)]
    return path.name.removesuffix(max(endings, key=len, default=""))
