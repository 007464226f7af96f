"""Networks from .keras files, which are data: loading one never runs or imports what it names.

A file is taken apart and checked before Keras sees it. Keras gets a copy of what was checked, so
that nobody can exchange the file in between.
"""

import dataclasses
import io
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tensorflow as tf

from cifl_tf._compat import keras
from cifl_tf.images.atomic import expanded
from cifl_tf.models.archive import count_weights, pack, unpack
from cifl_tf.models.config import PREFIX, checked_config

MAX_UNSAVED = 1 << 20  # numbers of a network that its file does not hold, such as counters
TRIED_SIZE = 32  # voxels along each axis of the image that tells the shape of the output
MESSAGE_LENGTH = 200


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of network.

    Attributes:
        name: in words, with its article.
        trained_by: command that writes files of this kind.
        taken_by: command that applies them.
        least_channels: of its output.
    """

    name: str
    trained_by: str
    taken_by: str
    least_channels: int = 2


ENCODER = Kind("an encoder", "cifl train", "cifl features")
SEGMENTER = Kind("a segmenter", "cifl segment train", "cifl segment apply")
REGISTRATION = Kind("a registration network", "cifl register train", "cifl register apply")
STRIPPER = Kind("a brain extractor", "scripts/train_stripper.py", "cifl strip", 1)


def model_file(model, name: str) -> Path:
    """A model file, given itself or as the folder of its training.

    Args:
        model: path of either.
        name: of the file in the folder.
    """
    path = expanded(model)
    return path if path.is_file() else path / name


def load_network(file, kind: Kind = ENCODER, content: bytes | None = None) -> keras.Model:
    """Load a .keras file without running anything that it holds.

    The file may name layers of Keras that hold no code, and classes of this package. What belongs
    to training, such as losses and optimizers, is left out.

    Args:
        file: path.
        kind: what the file must hold.
        content: what was read from the file, where it was read already.

    Returns:
        The network, not compiled. Of a ``CIFL`` model its encoder.

    Raises:
        ValueError: there is no such file, it is damaged, names other classes, or holds another
            kind of network or weights that are not finite.
    """
    if not Path(file).is_file():
        state = "is not a file" if Path(file).exists() else "does not exist"
        raise ValueError(
            f"{file} {state}; give the folder of a `{kind.trained_by}` that finished at least one "
            "epoch"
        )
    try:
        with io.BytesIO(content) if content is not None else open(file, "rb") as stream:
            network = _load(stream)
    except Exception as error:
        # Keras raises everything there is at a network that makes no sense.
        raise ValueError(
            f"{file} is not a network in the Keras format that can be loaded: {_in_one_line(error)}"
        ) from error
    network = getattr(network, "encoder", network)
    found = kind_of(network)
    if found is not kind:
        raise ValueError(
            f"{file} holds {found.name}, which `{found.taken_by}` takes; give {kind.name}, trained "
            f"by `{kind.trained_by}`"
        )
    _check_finite(network, file)
    if kind is not REGISTRATION:
        _check_shapes(network, file, kind)
    return network


def kind_of(network: keras.Model) -> Kind:
    """Which kind a network is; any network from images to channels is an encoder."""
    # By registered names, because this module comes before those of the classes.
    if _is(network, "Registration"):
        return REGISTRATION
    if _is(network, "Stripper"):
        return STRIPPER
    return SEGMENTER if _is(network, "Segmenter") or _segments(network) else ENCODER


def _is(thing, name):
    return keras.saving.get_registered_name(type(thing)) == PREFIX + name


def _segments(network):
    """Whether a network ends in probabilities of labels, as one of ``build_segmenter`` does."""
    network = getattr(network, "network", network)  # within an ImageModel
    if not network.layers:
        return False
    last = network.layers[-1]
    if _is(last, "AverageOverCopies"):
        return _segments(last.network)
    return isinstance(last, keras.layers.Softmax) and any(
        _is(layer, "FrozenFeatures") for layer in network.layers
    )


def _load(stream):
    """The network of a model file, whatever its kind."""
    with tempfile.TemporaryDirectory(prefix="cifl-model-") as name:
        folder = Path(name)
        config = checked_config(unpack(stream, folder))
        copy = folder / "checked.keras"
        pack(folder, json.dumps(config).encode(), copy)
        with _limited_variables(count_weights(folder) + MAX_UNSAVED):
            network = keras.models.load_model(copy, compile=False, safe_mode=True)
    if not isinstance(network, keras.Model):
        raise ValueError(f"it holds no network but {type(network).__name__}")
    return network


@contextmanager
def _limited_variables(most: int) -> Iterator[None]:
    """Refuse variables before they are allocated, once they have more numbers than this in all."""
    total = 0

    def create(next_creator, **arguments):
        nonlocal total
        shape = arguments.get("shape")
        total += 1 if shape is None else tf.TensorShape(shape).num_elements() or 0
        if total > most:
            raise ValueError("its network has more weights than the file holds")
        return next_creator(**arguments)

    with tf.variable_creator_scope(create):
        yield


def _check_finite(network, file):
    for layer in network.layers:
        for weight in layer.get_weights():
            if not np.isfinite(weight).all():
                raise ValueError(
                    f"{file} holds weights that are NaN or infinite, in its layer {layer.name!r}: "
                    "the training went wrong; train again, with a smaller learning rate"
                )


def _check_shapes(network, file, kind):
    """Refuse a network that does not go from images to channels on the same grid."""
    try:
        shape = network.input_shape
        found = network.output_shape
        right = len(shape) in (4, 5) and shape[-1] == 1 and len(found) == len(shape)
        # Segmenters are built by this package, and take seconds to be traced again.
        if right and found[-1] > 1 and kind is ENCODER:
            shape = (1, *(size or TRIED_SIZE for size in shape[1:]))
            found = tuple(network.compute_output_shape(shape))
    except Exception as error:
        raise ValueError(f"{file} does not hold {kind.name}: {_in_one_line(error)}") from error
    if not right or found[:-1] != shape[:-1] or found[-1] < kind.least_channels:
        channels = "at least two channels" if kind.least_channels > 1 else "one channel"
        raise ValueError(
            f"{file} holds a network from {shape} to {found}, but {kind.name} gives {channels} on "
            "the grid of its image, (batch, *spatial, 1) with two or three dimensions"
        )


def _in_one_line(error):
    """What an error says, without the circumstances that Keras puts around it."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [
        line for line in lines if line and not line.startswith(("Exception encountered", "in user"))
    ]
    text = said[0] if said else ""
    if isinstance(error, KeyError):
        text = f"its config.json has no {text} where there must be one"
    elif not isinstance(error, ValueError):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= MESSAGE_LENGTH else f"{text[:MESSAGE_LENGTH]}..."
