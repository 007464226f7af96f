"""Features of a volume from an encoder for slices, in all three planes side by side."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from cifl_tf._compat import keras
from cifl_tf.features.frozen import FrozenFeatures
from cifl_tf.features.inference import run_network
from cifl_tf.features.layers import L2Normalize
from cifl_tf.features.slicewise import Slicewise
from cifl_tf.features.tiling import before_normalization, sums_of_squares
from cifl_tf.images.intensity import is_air
from cifl_tf.models.image_model import ImageModel, preprocessing_of

AXES = (0, 1, 2)
BATCH_SIZE = 16  # slices


def in_planes(encoder: keras.Model, axes: Sequence[int] = AXES) -> keras.Model:
    """An encoder for volumes from one for slices, which sees the slices along several axes.

    The channels of all axes stand side by side, and are normalized over the volume. So features of
    volumes need no training in 3D, as the planes of Roth et al. (A new 2.5D representation for
    lymph node detection, MICCAI 2014).

    Args:
        encoder: for slices; see ``build_encoder``. It is not trained further.
        axes: those across the slices.

    Input and output shape:
        volumes (batch, x, y, z, 1), intensities in [0, 1]; features (batch, x, y, z, C len(axes))

    Raises:
        ValueError: the encoder is not for slices, or an axis that a volume does not have.

    Example:
        >>> import cifl_tf as cifl, numpy as np
        >>> encoder = cifl.in_planes(cifl.build_encoder(num_features=4, num_filters=2))
        >>> encoder.predict(np.random.rand(1, 12, 10, 8, 1), verbose=0).shape
        (1, 12, 10, 8, 12)
    """
    _check_axes(axes)
    network = before_normalization(getattr(encoder, "encoder", encoder))
    if len(network.input_shape) != 4:
        raise ValueError(
            f"the encoder is for {len(network.input_shape) - 2}D images; give one for slices"
        )
    image = keras.Input((None, None, None, 1), name="image")
    channels = Slicewise(network, axes, name="planes")(image)
    features = L2Normalize(name="l2_normalize")([channels, image])
    preprocessing = dataclasses.replace(preprocessing_of(encoder), plane=None)
    return ImageModel(keras.Model(image, features, name=encoder.name), preprocessing)


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
    _check_axes(axes)
    volume = np.asarray(volume, np.float32)
    if volume.ndim != 3 or not np.isfinite(volume).all():
        raise ValueError(
            f"the volume has shape {volume.shape} and {np.sum(~np.isfinite(volume))} values that "
            "are not finite; give (x, y, z) of finite ones"
        )
    copies = FrozenFeatures(encoder, remappings).copies(tf.constant(volume))
    inside = ~is_air(volume)
    inside = inside if inside.any() else np.ones_like(inside)
    network = before_normalization(getattr(encoder, "encoder", encoder))
    count = network.output_shape[-1]
    turns = axes if len(network.input_shape) == 4 else [0]
    total = np.zeros((*volume.shape, count * len(turns)), np.float32)
    for copy, (turn, axis) in itertools.product(copies, enumerate(turns)):
        features = run_network(copy.numpy(), network, axis, BATCH_SIZE)
        mean_square = sums_of_squares(features, inside) / inside.sum()
        scale = 1 / (len(copies) * np.sqrt(np.maximum(mean_square, 1e-12)))
        # A plane at a time, for the memory.
        for plane, sum_in_plane in zip(features, total, strict=True):
            sum_in_plane[..., count * turn : count * (turn + 1)] += plane * scale.astype(np.float32)
    return total


def _check_axes(axes):
    if not axes or not set(axes) <= set(AXES):
        raise ValueError(f"axes are {axes}; give some of {AXES}")
