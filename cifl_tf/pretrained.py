"""Encoders by name, from the weights that ship with the package, or by folder or file.

Each name is a folder of ``cifl_tf/weights``: what ``cifl train`` wrote, without what is only needed
to go on training, and a model card. ``SHA256SUMS`` there, in the format of ``sha256sum``, covers
the weights of all.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cifl_tf._compat import keras
from cifl_tf.inference import ENCODER_FILE, load_network

WEIGHTS = Path(__file__).parent / "weights"
SUMS_FILE, CARD_FILE = "SHA256SUMS", "README.md"
INTENSITY = "intensity"  # stands for no encoder: the paper's baseline


@dataclass(frozen=True)
class Pretrained:
    """An encoder that ships with the package.

    Attributes:
        name: what ``load_pretrained`` takes.
        folder: of its files.
    """

    name: str
    folder: Path

    @property
    def card(self) -> str:
        """The model card, Markdown: how it was trained, what was measured, what was not."""
        return (self.folder / CARD_FILE).read_text()

    @property
    def summary(self) -> str:
        """The first paragraph of the card below its title, in one line."""
        return " ".join(self.card.split("\n\n")[1].split())


def pretrained_encoders() -> dict[str, Pretrained]:
    """All encoders that ship with the package, by name."""
    names = sorted({path.split("/")[0] for path in _sums()})
    return {name: Pretrained(name, WEIGHTS / name) for name in names}


def find_pretrained(name: str) -> Pretrained:
    """The encoder of this name.

    Raises:
        ValueError: there is none.
    """
    known = pretrained_encoders()
    if name not in known:
        raise ValueError(f"there are no pretrained weights {name!r}; choose from {[*known]}")
    return known[name]


def load_pretrained(name: str) -> keras.Model:
    """Load an encoder that ships with the package; nothing is downloaded.

    Args:
        name: "shapes-2d" for slices, or another key of ``pretrained_encoders()``.

    Returns:
        The encoder; see ``build_encoder``.

    Raises:
        ValueError: there is no such name, or a file of it is missing or not what was released.
    """
    shipped = find_pretrained(name)
    for path, expected in _sums().items():
        if path.split("/")[0] == name:
            _check(WEIGHTS / path, expected)
    return load_network(shipped.folder / ENCODER_FILE)


def load_encoder(model) -> keras.Model:
    """Load an encoder by its name, or from a training folder or a .keras file.

    A saved ``CIFL`` model gives its encoder.

    Args:
        model: a name of ``pretrained_encoders()``, or a path; of a folder with such a name,
            ``./name``.

    Raises:
        ValueError: there is none, or the file is damaged.
    """
    if str(model) in pretrained_encoders():
        return load_pretrained(str(model))
    path = Path(model)
    if not path.exists():
        raise ValueError(
            f"{model} does not exist; give the folder of a training, a .keras file, or one of "
            f"{[*pretrained_encoders()]}"
        )
    network = load_network(path / ENCODER_FILE if path.is_dir() else path)
    return getattr(network, "encoder", network)


def load_features(model) -> keras.Model | None:
    """The encoder of ``load_encoder``; None for "intensity", the paper's baseline.

    Raises:
        ValueError: as ``load_encoder``.
    """
    return None if model == INTENSITY else load_encoder(model)


def _sums() -> dict[str, str]:
    """SHA-256 of every file of the weights by its path, with forward slashes."""
    lines = (WEIGHTS / SUMS_FILE).read_text().splitlines()
    return {path: checksum for checksum, path in (line.split("  ", 1) for line in lines)}


def _check(file, expected):
    found = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None
    if found != expected:
        state = "missing" if found is None else f"damaged: its SHA-256 is {found}, not {expected}"
        raise ValueError(f"{file} is {state}; install cifl_tf again")
