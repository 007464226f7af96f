"""The network from the image of a brain to its tissues."""

from cifl_tf._compat import keras
from cifl_tf.features.frozen import FrozenFeatures
from cifl_tf.stripping.network import normalized_unet

# Of label maps, in the order of the network's channels after the background.
TISSUES = {
    1: "white matter",
    2: "gray matter",
    3: "fluid",
    4: "deep gray matter",
    5: "thalamus",
}


def build_tissue_network(
    num_filters: int = 12,
    num_levels: int = 5,
    max_filters: int = 64,
    encoder: keras.Model | None = None,
    with_image: bool = False,
) -> keras.Model:
    """Build a U-Net from the image of a brain or its features to probabilities of its tissues.

    Args:
        num_filters, num_levels, max_filters: see ``build_stripper``, whose network this is but for
            its last layer.
        encoder: the U-Net sees its features, see ``build_encoder``; None for the image alone.
        with_image: the U-Net sees the image beside its features.

    Raises:
        ValueError: the image is asked for beside features without an encoder.

    Input and output shape:
        image (batch, x, y, z, 1), intensities in [0, 1]; float32 (batch, x, y, z, 6), background
        and the tissues of ``TISSUES``.

    Example:
        >>> import numpy as np
        >>> from cifl_tf.tissues import build_tissue_network
        >>> network = build_tissue_network(num_filters=2, num_levels=2)
        >>> network.predict(np.random.rand(1, 12, 13, 9, 1), verbose=0).shape
        (1, 12, 13, 9, 6)
    """
    image = keras.Input((None, None, None, 1), name="image")
    seen = image
    if encoder is not None or with_image:
        seen = FrozenFeatures(encoder, (), with_image, name="features")(image)
    last = normalized_unet(seen, 1 + len(TISSUES), num_filters, num_levels, max_filters)
    probabilities = keras.layers.Softmax(dtype="float32", name="probabilities")(last)
    return keras.Model(image, probabilities, name="tissues")
