"""Encoders, segmenters and registrations as SavedModels that TensorFlow runs without this package.

Each has a signature ``serving_default``, and calling the loaded object does the same. Intensities
are raw: each image of a batch is scaled to [0, 1] as the model was trained with, by the rules of
``rescale_intensity``. So a slice is scaled by itself, where the commands of this package scale its
whole volume. The signature ``scaled`` takes intensities that are in [0, 1] already. The voxel size
is that of the training: nothing is resampled. ``read_description`` tells voxel size, orientation,
plane and labels of a folder.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import tensorflow as tf

from cifl_tf._compat import keras
from cifl_tf.features.layers import RescaleIntensity
from cifl_tf.images.atomic import atomic_path, expanded
from cifl_tf.models.description import DESCRIPTION_FILE, SCALED, SERVING, Description
from cifl_tf.models.image_model import preprocessing_of
from cifl_tf.registration.displacements import warp_batch


def export_saved_model(encoder: keras.Model, path) -> None:
    """Write an encoder as a SavedModel, whole or not at all.

    It takes ``image``, float32 (batch, *spatial, 1) of any size and of raw intensities, and gives
    ``features``, float32 (batch, *spatial, C).

    Args:
        encoder: see ``build_encoder``; a ``CIFL`` model gives its encoder.
        path: folder to make.

    Raises:
        ValueError: the folder exists and is not empty.

    Example:
        >>> import cifl_tf as cifl
        >>> from pathlib import Path
        >>> encoder = cifl.build_encoder(num_features=4, num_filters=2)
        >>> cifl.export_saved_model(encoder, "exported")
        >>> sorted(path.name for path in Path("exported").iterdir())
        ['assets', 'fingerprint.pb', 'saved_model.pb', 'variables']
    """
    encoder = getattr(encoder, "encoder", encoder)

    def run(_, scaled):
        return {"features": encoder(scaled[0], training=False)}

    _save(run, encoder, {"image": encoder.input_shape}, path, "encoder")


def export_segmenter(
    segmenter: keras.Model, path, label_values: Sequence[int] | None = None
) -> None:
    """Write a segmenter as a SavedModel, whole or not at all.

    It takes ``image``, float32 (batch, *spatial, 1) of any size and of raw intensities, cut to its
    ``Segmenter.field_margin`` where the segmenter has one, as the description says; and gives
    ``labels``, int32 (batch, *spatial), and ``probabilities``, float32 (batch, *spatial, labels).

    Args:
        segmenter: see ``build_segmenter``.
        path: folder to make.
        label_values: value of each label in ``labels``, background first, such as
            ``Cohort.label_values``; None for those of a ``Segmenter``, else 0, 1, 2 and so on.

    Raises:
        ValueError: the folder exists and is not empty, or the segmenter has another number of
            labels.

    Example:
        >>> import cifl_tf as cifl
        >>> from pathlib import Path
        >>> segmenter = cifl.build_segmenter(None, num_labels=3, num_filters=2, num_levels=2)
        >>> cifl.export_segmenter(segmenter, "exported", label_values=(0, 10, 49))
        >>> sorted(path.name for path in Path("exported").iterdir())
        ['assets', 'fingerprint.pb', 'saved_model.pb', 'variables']
    """
    num_labels = segmenter.output_shape[-1]
    if label_values is None:
        label_values = getattr(segmenter, "label_values", range(num_labels))
    values = np.array(label_values)
    if values.shape != (num_labels,):
        raise ValueError(
            f"label_values are {values.tolist()}, but the segmenter has {num_labels} labels; give "
            "a value for each, background included"
        )

    def run(_, scaled):
        probabilities = segmenter(scaled[0], training=False)
        labels = tf.gather(values.astype(np.int32), tf.argmax(probabilities, axis=-1))
        return {"labels": labels, "probabilities": probabilities}

    names = getattr(segmenter, "label_names", None) or [""] * num_labels
    labels = dict(zip(values.tolist(), names, strict=True))
    _save(run, segmenter, {"image": segmenter.input_shape}, path, "segmenter", labels)


def export_registration(network: keras.Model, path) -> None:
    """Write a registration as a SavedModel, whole or not at all.

    It takes ``moving`` and ``fixed``, float32 (batch, *shape, 1) of the network's shape and of raw
    intensities, and gives ``displacement``, float32 (batch, *shape, ndim) in voxels, and
    ``warped``, float32 (batch, *shape, 1): the moving image, in its raw intensities, on the grid of
    the fixed. For another shape, export ``network.for_shape`` of it.

    Args:
        network: a ``Registration``.
        path: folder to make.

    Raises:
        ValueError: the folder exists and is not empty.

    Example:
        >>> import cifl_tf as cifl
        >>> from pathlib import Path
        >>> network = cifl.Registration(None, (24, 20), num_filters=2, int_steps=0)
        >>> cifl.export_registration(network, "exported")
        >>> sorted(path.name for path in Path("exported").iterdir())
        ['assets', 'fingerprint.pb', 'saved_model.pb', 'variables']
    """

    def run(given, scaled):
        displacement = network(scaled, training=False)
        return {"displacement": displacement, "warped": warp_batch(given[0], displacement)}

    shape = (None, *network.shape, 1)
    _save(run, network, {"moving": shape, "fixed": shape}, path, "registration")


def _save(
    run: Callable,
    network: keras.Model,
    shapes: dict[str, tuple[int | None, ...]],
    path,
    kind: str,
    labels: dict[int, str] | None = None,
):
    """Write what a network gives for float32 images of these names and shapes, with two signatures.

    Args:
        run: called with the images as they are given, and with these in [0, 1].
        network: whose weights are saved.
        shapes: of the images, by name.
        path: folder to make.
        kind: of the network, in a word.
        labels: of a segmenter, name by value.
    """
    path = expanded(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path} exists and is not empty; give a new folder")
    signature = [tf.TensorSpec(shape, tf.float32, name) for name, shape in shapes.items()]
    preprocessing = preprocessing_of(network)
    rescale = RescaleIntensity(**preprocessing.scaling.to_config())

    class Exported(tf.Module):
        """Only functions, weights and a text, so that loading needs no Keras."""

        def __init__(self, description):
            super().__init__()
            self.weights = network.weights
            self.description = tf.saved_model.Asset(description)

        @tf.function(input_signature=signature)
        def __call__(self, *images):
            return run(images, [rescale(image) for image in images])

        @tf.function(input_signature=signature)
        def scaled(self, *images):
            """The same for intensities that are in [0, 1] already."""
            return run(images, images)

    with TemporaryDirectory() as folder, atomic_path(path) as temporary:
        description = Path(folder) / DESCRIPTION_FILE
        description.touch()
        module = Exported(str(description))
        outputs = module.__call__.get_concrete_function().structured_outputs
        content = Description(
            kind,
            preprocessing.to_config(),
            {name: list(shape) for name, shape in shapes.items()},
            {name: tensor.shape.as_list() for name, tensor in outputs.items()},
            labels or {},
            field_margin=getattr(network, "field_margin", None),
        )
        description.write_text(content.to_json(), encoding="utf-8")
        signatures = {SERVING: module.__call__, SCALED: module.scaled}
        tf.saved_model.save(module, temporary, signatures=signatures)
