"""Segmenters out of training folders and files."""

from pathlib import Path

from cifl_tf._compat import keras
from cifl_tf.images.atomic import expanded
from cifl_tf.images.intensity import BEFORE_0_2
from cifl_tf.models.files import SEGMENTER, load_network
from cifl_tf.models.image_model import Preprocessing, Segmenter
from cifl_tf.training.folder import (
    CONFIG_FILE,
    read_config,
)

SEGMENTER_FILE = "segmenter.keras"


def load_segmenter(folder) -> Segmenter:
    """Load a segmenter.

    Args:
        folder: of ``train_segmenter``, or the file ``segmenter.keras`` itself. One from before
            version 0.2 needs the ``config.json`` beside it, and does not know its voxel size.

    Raises:
        ValueError: there is none yet, or the file is damaged.
    """
    path = expanded(folder)
    file = path if path.is_file() else path / SEGMENTER_FILE
    return as_segmenter(load_network(file, SEGMENTER), file.parent)


def as_segmenter(network: keras.Model, folder) -> Segmenter:
    """A network of a training folder as a segmenter, which it is but for those of before 0.2.

    Args:
        network: from ``segmenter.keras``.
        folder: with the ``config.json`` of an older one.

    Raises:
        ValueError: there is none.
    """
    if isinstance(network, Segmenter):
        return network
    config = read_config(folder)
    missing = [name for name in ("plane", "label_names", "label_values") if name not in config]
    if missing:
        raise ValueError(
            f"{Path(folder) / CONFIG_FILE} lacks {missing}, which a segmenter of before version "
            "0.2 needs; give the whole folder of its training"
        )
    plane = config["plane"] if len(network.input_shape) == 4 else None
    preprocessing = Preprocessing(plane=plane, scaling=BEFORE_0_2)
    return Segmenter(network, preprocessing, config["label_names"], config["label_values"])
