"""An encoder as a SavedModel that TensorFlow runs without this package."""

from pathlib import Path

import tensorflow as tf

from cifl_tf._compat import keras
from cifl_tf.files import written_whole
from cifl_tf.layers import RescaleIntensity


def export_saved_model(encoder: keras.Model, path) -> None:
    """Write an encoder as a SavedModel, whole or not at all.

    Its signature ``serving_default`` takes ``image``, float32 (batch, *spatial, 1) of any size and
    of raw intensities, scales each image to [0, 1] by ``rescale_intensity``, and gives
    ``features``, float32 (batch, *spatial, C). Calling the loaded object does the same.

    Args:
        encoder: see ``build_encoder``; a ``CIFL`` model gives its encoder.
        path: folder to make.

    Raises:
        ValueError: the folder exists and is not empty.
    """
    encoder = getattr(encoder, "encoder", encoder)
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path} exists and is not empty; give a new folder")
    signature = tf.TensorSpec(encoder.input_shape, tf.float32, name="image")
    rescale = RescaleIntensity()

    class Encoder(tf.Module):
        """Only functions and weights, so that loading needs no Keras."""

        def __init__(self):
            super().__init__()
            self.weights = encoder.weights

        @tf.function(input_signature=[signature])
        def __call__(self, image):
            return {"features": encoder(rescale(image), training=False)}

    module = Encoder()
    with written_whole(path) as temporary:
        tf.saved_model.save(module, temporary, signatures=module.__call__)
