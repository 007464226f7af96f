"""Features of a volume from an encoder for slices, in all three planes side by side."""

import itertools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from cifl_tf._compat import keras
from cifl_tf.features.frozen import FrozenFeatures
from cifl_tf.features.inference import run_network
from cifl_tf.features.layers import L2Normalize
from cifl_tf.images.intensity import is_air

AXES = (0, 1, 2)
BATCH_SIZE = 16  # slices


def volume_features(
    volume,
    encoder: keras.Model,
    remappings: Sequence[str] = (),
    axes: Sequence[int] = AXES,
) -> np.ndarray:
    """Features of a volume, each channel with a mean square of one over what is not air.

    An encoder for slices runs along each of the axes, and its channels stand side by side. It is
    normalized over the volume then, not over each slice: near the end of a brain, where little is
    in a slice, the features of a slice would grow.

    Args:
        volume: (x, y, z), intensities in [0, 1].
        encoder: for slices or for volumes; see ``build_encoder``.
        remappings: of copies over whose features the mean is taken; see ``FrozenFeatures``.
        axes: those across the slices of an encoder for slices.

    Returns:
        float32 (x, y, z, C), or (x, y, z, C len(axes)) of an encoder for slices.

    Raises:
        ValueError: not a volume, an axis that it does not have, or unknown remappings.

    Example:
        >>> import cifl_tf as cifl, numpy as np
        >>> from cifl_tf.features.planes import volume_features
        >>> encoder = cifl.Encoder.from_pretrained("shapes-2d")
        >>> volume_features(np.random.rand(12, 10, 8), encoder).shape
        (12, 10, 8, 48)
    """
    volume = np.asarray(volume, np.float32)
    if volume.ndim != 3 or not np.isfinite(volume).all():
        raise ValueError(
            f"the volume has shape {volume.shape} and {np.sum(~np.isfinite(volume))} values that "
            "are not finite; give (x, y, z) of finite ones"
        )
    if not axes or not set(axes) <= set(AXES):
        raise ValueError(f"axes are {axes}; give some of {AXES}")
    copies = FrozenFeatures(encoder, remappings).copies(tf.constant(volume))
    inside = ~is_air(volume)
    inside = inside if inside.any() else np.ones_like(inside)
    network = _before_normalization(encoder)
    count = network.output_shape[-1]
    turns = axes if len(network.input_shape) == 4 else [0]
    total = np.zeros((*volume.shape, count * len(turns)), np.float32)
    for copy, (turn, axis) in itertools.product(copies, enumerate(turns)):
        features = run_network(copy.numpy(), network, axis, BATCH_SIZE)
        for channel in range(count):  # one at a time, for the memory
            square = np.mean(features[inside, channel] ** 2)
            scale = len(copies) * np.sqrt(max(square, 1e-12))
            total[..., count * turn + channel] += features[..., channel] / scale
    return total


def _before_normalization(encoder):
    """The network of an encoder without its last layer, where that normalizes."""
    network = getattr(encoder, "encoder", encoder)
    network = getattr(network, "network", network)
    last = network.layers[-1]
    if not isinstance(last, L2Normalize):
        return network
    inputs = last.input
    return keras.Model(network.input, inputs[0] if isinstance(inputs, list | tuple) else inputs)
