"""SavedModels in ``RunInference``."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from apache_beam.ml.inference.base import ModelHandler, PredictionResult

from cifl_tf.models.description import SERVING


class SavedModelHandler(ModelHandler):
    """Runs a SavedModel of ``cifl export``, which each process loads once and shares.

    Images go through one at a time, so that each may have a size of its own. Neither Keras nor the
    code of a model is needed. For pairs of a key and an image, use ``KeyedModelHandler`` of Beam.

    Args:
        path: folder of the SavedModel, on any file system that TensorFlow reaches.
        options: of Beam's ``ModelHandler``.

    Input and output:
        an image, an array of its spatial axes, raw intensities; for a registration a mapping of
        the names ``moving`` and ``fixed`` to such arrays. A ``PredictionResult``, the inference of
        which maps the name of each output, such as ``features``, to an array without a batch axis.

    Raises:
        ValueError: an image has other axes than the model, or the names of inputs are others.

    Example:
        >>> import apache_beam as beam, cifl_tf as cifl, numpy as np
        >>> from apache_beam.ml.inference.base import RunInference
        >>> from cifl_tf.beam import SavedModelHandler
        >>> cifl.export_saved_model(cifl.build_encoder(num_features=4, num_filters=2), "exported")
        >>> with beam.Pipeline("FnApiRunner") as pipeline:
        ...     images = pipeline | beam.Create([np.ones((32, 24)), np.ones((20, 16))])
        ...     results = images | RunInference(SavedModelHandler("exported"))
        ...     _ = results | beam.Map(lambda one: print(one.inference["features"].shape))
        (32, 24, 4)
        (20, 16, 4)
    """

    def __init__(self, path, **options):
        super().__init__(max_batch_size=1, **options)
        self._path = str(path)

    def load_model(self):
        """The SavedModel."""
        import tensorflow as tf

        return tf.saved_model.load(self._path)

    def run_inference(
        self, batch: Sequence, model: Any, inference_args: Mapping | None = None
    ) -> Iterable[PredictionResult]:
        """What the model gives for each image."""
        run = model.signatures[SERVING]
        wanted = run.structured_input_signature[1]
        for image in batch:
            found = run(**_inputs(image, wanted))
            yield PredictionResult(image, {name: value[0].numpy() for name, value in found.items()})

    def get_num_bytes(self, batch: Sequence) -> int:
        """Of all arrays of a batch."""
        return sum(np.asarray(one).nbytes for image in batch for one in _named(image).values())


def _named(image) -> Mapping:
    return image if isinstance(image, Mapping) else {"image": image}


def _inputs(image, wanted):
    """Tensors of a batch of one by the names of the inputs of a model."""
    import tensorflow as tf

    arrays = {name: np.asarray(one, np.float32) for name, one in _named(image).items()}
    if arrays.keys() != wanted.keys():
        raise ValueError(
            f"got {', '.join(arrays)}, but the model takes {', '.join(wanted)}; name the arrays so"
        )
    for name, array in arrays.items():
        ndim = wanted[name].shape.rank - 2
        if array.ndim != ndim:
            raise ValueError(
                f"{name} has the shape {array.shape}, but the model is for {ndim}D images; give "
                f"{ndim} axes, without batch and channels"
            )
    return {name: tf.constant(array[None, ..., None]) for name, array in arrays.items()}
