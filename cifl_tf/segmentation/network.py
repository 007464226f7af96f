"""Segmentation: a frozen encoder and a neurite U-Net as one ordinary Keras model."""

import contextlib
import io
from collections.abc import Sequence

from cifl_tf._compat import keras, ne
from cifl_tf._former_names import accepts_former
from cifl_tf.features.frozen import FrozenFeatures
from cifl_tf.features.layers import CropTo, PadToMultiple


@accepts_former()
def build_segmenter(
    encoder: keras.Model | None,
    num_labels: int,
    ndim: int = 2,
    num_filters: int = 16,
    num_levels: int = 4,
    remappings: Sequence[str] = (),
    batch_norm: bool = False,
    with_image: bool = False,
) -> keras.Model:
    """Build a network from an image of any size to label probabilities.

    Image, frozen encoder, neurite U-Net (Ronneberger et al., MICCAI 2015), softmax. It pads to what
    the U-Net needs and crops by itself. Only the U-Net has trainable weights.

    Args:
        encoder: see ``build_encoder``; None trains on intensities, the paper's baseline.
        num_labels: labels, the background 0 included.
        ndim: 2 or 3; that of the encoder.
        num_filters: channels of the U-Net at full resolution, doubled at each level.
        num_levels: resolutions of the U-Net.
        remappings: see ``FrozenFeatures``.
        batch_norm: normalize the channels after every level of the U-Net, over batch and space.
        with_image: the U-Net gets the image beside the features.

    Input and output shape:
        image (batch, *spatial, 1), intensities in [0, 1]; probabilities
        (batch, *spatial, num_labels)

    Raises:
        ValueError: the encoder has another number of dimensions, there are too few labels, or
            unknown remappings, or there is no encoder whose features the image could be beside.

    Example:
        >>> import cifl_tf as cifl, numpy as np
        >>> encoder = cifl.build_encoder(num_features=4, num_filters=2)
        >>> segmenter = cifl.build_segmenter(encoder, num_labels=3, num_filters=2)
        >>> segmenter.predict(np.random.rand(2, 24, 20, 1), verbose=0).shape
        (2, 24, 20, 3)
    """
    if num_labels < 2:
        raise ValueError(f"num_labels is {num_labels}; give at least 2, background included")
    if encoder is not None and len(encoder.input_shape) - 2 != ndim:
        raise ValueError(
            f"the encoder is for {len(encoder.input_shape) - 2}D images, but ndim is {ndim}; "
            "give an encoder of the same dimensions"
        )
    image = keras.Input((*[None] * ndim, 1), name="image")
    extract = FrozenFeatures(encoder, remappings, with_image, name="features")
    features = PadToMultiple(2 ** (num_levels - 1), name="pad")(extract(image))
    # neurite prints the name of its last activation.
    with contextlib.redirect_stdout(io.StringIO()):
        unet = ne.models.unet(
            num_filters,
            (*[None] * ndim, extract.num_features),
            num_levels,
            3,
            num_labels,
            feat_mult=2,
            nb_conv_per_level=2,
            # neurite's softmax is a Lambda layer, which does not reload safely.
            final_pred_activation="linear",
            batch_norm=-1 if batch_norm else None,
            name="unet",
        )
    logits = CropTo(name="crop")([unet(features), image])
    probabilities = keras.layers.Softmax(dtype="float32", name="probabilities")(logits)
    return keras.Model(image, probabilities, name="segmenter")


def without_features(segmenter: keras.Model) -> keras.Model:
    """What follows the features of a segmenter: features to label probabilities, weights shared."""
    extract = segmenter.get_layer("features")
    features = keras.Input((*segmenter.input_shape[1:-1], extract.num_features), name="encoded")
    logits = segmenter.get_layer("unet")(segmenter.get_layer("pad")(features))
    cropped = segmenter.get_layer("crop")([logits, features])
    return keras.Model(
        features, segmenter.get_layer("probabilities")(cropped), name="from_features"
    )
