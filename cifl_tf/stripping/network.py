"""The network from the image of a head to the distance from the surface of its brain."""

import contextlib
import io

from cifl_tf._compat import keras, ne
from cifl_tf.features.layers import CropTo, PadToMultiple

MM_PER_UNIT = 10.0  # of the last convolution, so that its outputs are about 1


def build_stripper(num_filters: int = 16, num_levels: int = 4) -> keras.Model:
    """Build a neurite U-Net from the image of a head to a signed distance.

    As in SynthStrip (Hoopes et al., NeuroImage 2022) the target is the distance to the surface of
    the brain, so that a user can move the border.

    Args:
        num_filters: channels at full resolution, doubled at each level.
        num_levels: resolutions.

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
    padded = PadToMultiple(2 ** (num_levels - 1), name="pad")(image)
    # neurite prints the name of its last activation.
    with contextlib.redirect_stdout(io.StringIO()):
        unet = ne.models.unet(
            num_filters,
            (None, None, None, 1),
            num_levels,
            3,
            1,
            feat_mult=2,
            nb_conv_per_level=2,
            # neurite's activations are Lambda layers, which do not reload safely.
            final_pred_activation="linear",
            name="unet",
        )
    distance = CropTo(name="crop")([unet(padded), image])
    distance = keras.layers.Rescaling(MM_PER_UNIT, dtype="float32", name="distance")(distance)
    return keras.Model(image, distance, name="stripper")
