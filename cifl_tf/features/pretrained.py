"""Models by name, from the weights that ship with the package, or by folder or file.

Each name is a folder of ``cifl_tf/weights``: what ``cifl train`` wrote, without what is only needed
to go on training, and a model card. ``SHA256SUMS`` there, in the format of ``sha256sum``, covers
all files of all folders. Other files there, such as those of a file manager, are never read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifl_tf.images.atomic import absolute_path, expanded

if TYPE_CHECKING:  # `cifl info` asks for names only, and Keras takes seconds
    from cifl_tf._compat import keras

WEIGHTS = Path(__file__).parents[1] / "weights"
SUMS_FILE, CARD_FILE, ENCODER_FILE = "SHA256SUMS", "README.md", "encoder.keras"
INTENSITY = "intensity"  # stands for no encoder: the paper's baseline


@dataclass(frozen=True)
class Pretrained:
    """A model that ships with the package.

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
    """All encoders that ship with the package, by name.

    Example:
        >>> import cifl_tf as cifl
        >>> list(cifl.pretrained_encoders())
        ['shapes-2d', 'shapes-2d-v2', 'shapes-2d-wide', 'shapes-3d', 'shapes-3d-v2']
    """
    encoders = {Path(path).parent.name for path in _sums() if Path(path).name == ENCODER_FILE}
    return {name: model for name, model in shipped_models().items() if name in encoders}


def shipped_models() -> dict[str, Pretrained]:
    """All models that ship with the package, encoders and others, by name."""
    names = sorted({path.split("/")[0] for path in _sums()})
    return {name: Pretrained(name, WEIGHTS / name) for name in names}


def find_pretrained(name: str, among: Mapping[str, Pretrained] | None = None) -> Pretrained:
    """The model of this name.

    Args:
        name: of the model.
        among: by name; None for encoders.

    Raises:
        ValueError: there is none.
    """
    known = pretrained_encoders() if among is None else among
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

    Example:
        >>> import cifl_tf as cifl
        >>> cifl.load_pretrained("shapes-2d").output_shape
        (None, None, None, 16)
    """
    return load_shipped(find_pretrained(name).folder / ENCODER_FILE)


def load_encoder(model, ndim: int | None = None) -> keras.Model:
    """Load an encoder by its name, or from a training folder or a .keras file.

    A saved ``CIFL`` model gives its encoder. What ships with the package is checked as
    ``load_pretrained`` does, also by its path.

    Args:
        model: a name of ``pretrained_encoders()``, or a path; of a folder with such a name,
            ``./name``.
        ndim: 3 where images are volumes: an encoder for slices then sees them in three planes, see
            ``in_planes``.

    Raises:
        ValueError: there is none, the file is damaged, or holds something else, see
            ``load_network``.

    Example:
        >>> import cifl_tf as cifl
        >>> cifl.build_encoder(num_features=4, num_filters=2).save("encoder.keras")
        >>> cifl.load_encoder("encoder.keras").output_shape
        (None, None, None, 4)
    """
    encoder = _load_encoder(model)
    if ndim != 3 or len(encoder.input_shape) != 4:
        return encoder
    from cifl_tf.features.planes import in_planes

    return in_planes(encoder)


def _load_encoder(model):
    """An encoder by its name or path."""
    if str(model) in pretrained_encoders():
        return load_pretrained(str(model))
    path = expanded(model)
    if not path.exists():
        why = "is no encoder" if str(model) in shipped_models() else "does not exist"
        raise ValueError(
            f"{model} {why}; give the folder of a training, a .keras file, or one of "
            f"{[*pretrained_encoders()]}"
        )
    return load_named(model, ENCODER_FILE)


def absolute_model(model: str) -> str:
    """What stands for a model in a configuration: "intensity", a name, or an absolute path."""
    named = model == INTENSITY or model in pretrained_encoders()
    return model if named else absolute_path(model)


def load_features(model, ndim: int | None = None) -> keras.Model | None:
    """The encoder of ``load_encoder``; None for "intensity", the paper's baseline.

    Args:
        model, ndim: see ``load_encoder``.

    Raises:
        ValueError: as ``load_encoder``.
    """
    return None if model == INTENSITY else load_encoder(model, ndim)


def load_named(model, file: str, **options: Any) -> keras.Model:
    """A network that ships, by its name, or one of a folder or a file.

    What ships is checked, also where it is given by its path.

    Args:
        model: name or path.
        file: name of the file in the folder.
        options: of ``load_network``.

    Raises:
        ValueError: as ``load_shipped`` and ``load_network``.
    """
    if f"{model}/{file}" in _sums():
        return load_shipped(WEIGHTS / str(model) / file, **options)
    path = expanded(model)
    if not path.exists() and str(model) in shipped_models():
        raise ValueError(f"{model} ships with cifl_tf, but is no {Path(file).stem}; give another")
    path = path if path.is_file() else path / file
    if path.resolve().is_relative_to(WEIGHTS.resolve()):
        return load_shipped(WEIGHTS / path.resolve().relative_to(WEIGHTS.resolve()), **options)
    return _load(path, **options)


def load_shipped(file: Path, **options: Any) -> keras.Model:
    """The network of a file within ``WEIGHTS``, after a check of all files of its folder.

    Args:
        file: path.
        options: of ``load_network``.

    Raises:
        ValueError: a file is missing or not what was released.
    """
    path = file.relative_to(WEIGHTS).as_posix()
    contents = {
        listed: _checked(WEIGHTS / listed, expected)
        for listed, expected in _sums().items()
        if listed.split("/")[0] == path.split("/")[0]
    }
    if path not in contents:
        raise ValueError(
            f"{file} does not ship with cifl_tf, but lies among what does; move it elsewhere"
        )
    return _load(file, content=contents[path], **options)


def _load(file, **options):
    from cifl_tf.models.files import load_network

    return load_network(file, **options)


def _sums() -> dict[str, str]:
    """SHA-256 of every file of the weights by its path, with forward slashes."""
    lines = (WEIGHTS / SUMS_FILE).read_text().splitlines()
    return {path: checksum for checksum, path in (line.split("  ", 1) for line in lines)}


def _checked(file, expected):
    """The bytes of a file, which must be those that were released."""
    if not file.is_file():
        raise ValueError(f"{file} is missing; install cifl_tf again")
    content = file.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ValueError(
            f"{file} is damaged: its SHA-256 is {found}, not {expected}; install cifl_tf again"
        )
    return content
