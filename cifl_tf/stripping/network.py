"""The network from the image of a head to the distance from the surface of its brain."""

from cifl_tf._compat import keras
from cifl_tf.features.layers import CropTo, PadToMultiple

MM_PER_UNIT = 10.0  # of the last convolution, so that its outputs are about 1
SLOPE = 0.1  # of negative activations


def build_stripper(
    num_filters: int = 12, num_levels: int = 5, max_filters: int = 64
) -> keras.Model:
    """Build a U-Net from the image of a head to a signed distance.

    As in SynthStrip (Hoopes et al., NeuroImage 2022) the target is the distance to the surface of
    the brain, so that a user can move the border. Channels are normalized in each image: with
    random contrasts and one image at a time, neurite's U-Net, which has no such layer, had learned
    half as much after 200 steps.

    Args:
        num_filters: channels at full resolution, doubled at each level.
        num_levels: resolutions.
        max_filters: most channels of a level.

    Input and output shape:
        image (batch, x, y, z, 1), intensities in [0, 1]; float32 (batch, x, y, z, 1), mm to the
        surface of the brain, negative inside.

    Example:
        >>> import numpy as np
        >>> from cifl_tf.stripping import build_stripper
        >>> network = build_stripper(num_filters=2, num_levels=2)
        >>> network.predict(np.random.rand(1, 12, 13, 9, 1), verbose=0).shape
        (1, 12, 13, 9, 1)
    """
    image = keras.Input((None, None, None, 1), name="image")
    last = normalized_unet(image, 1, num_filters, num_levels, max_filters)
    distance = keras.layers.Rescaling(MM_PER_UNIT, dtype="float32", name="distance")(last)
    return keras.Model(image, distance, name="stripper")


def normalized_unet(image, outputs: int, num_filters: int, num_levels: int, max_filters: int):
    """The layers of a U-Net whose channels are normalized in each image, on a Keras tensor.

    Args:
        image: (batch, x, y, z, channels), of any size.
        outputs: channels of the last convolution.
        num_filters, num_levels, max_filters: see ``build_stripper``.

    Returns:
        (batch, x, y, z, outputs).
    """
    filters = [min(num_filters * 2**level, max_filters) for level in range(num_levels)]
    features = PadToMultiple(2 ** (num_levels - 1), name="pad")(image)
    passed = []
    for level, count in enumerate(filters):
        features = _convolved(features, count, f"down_{level}", 2)
        if level < num_levels - 1:
            passed.append(features)
            features = keras.layers.MaxPooling3D(name=f"pool_{level}")(features)
    for level in reversed(range(num_levels - 1)):
        features = keras.layers.UpSampling3D(name=f"unpool_{level}")(features)
        features = keras.layers.Concatenate(name=f"join_{level}")([features, passed[level]])
        features = _convolved(features, filters[level], f"up_{level}", 2 if level else 1)
    last = keras.layers.Conv3D(outputs, 3, padding="same", name="last")(features)
    return CropTo(name="crop")([last, image])


def _convolved(features, filters, name, count):
    for index in range(count):
        convolution = keras.layers.Conv3D(
            filters, 3, padding="same", use_bias=False, name=f"{name}_{index}"
        )
        normalize = keras.layers.GroupNormalization(groups=-1, name=f"{name}_{index}_norm")
        activate = keras.layers.LeakyReLU(SLOPE, name=f"{name}_{index}_act")
        features = activate(normalize(convolution(features)))
    return features
