"""Contrast-invariant feature learning (CIFL) for medical images, in TensorFlow."""

from cifl_tf._version import __version__  # isort: skip
from cifl_tf import _compat  # noqa: F401  isort: skip  (selects legacy Keras before any other)
from cifl_tf.encoder import build_encoder, receptive_radius
from cifl_tf.layers import L2Normalize
from cifl_tf.losses import ContrastiveLoss, contrastive_loss
from cifl_tf.model import CIFL
from cifl_tf.synthesis import Appearance, PairSynthesizer, shape_maps

__all__ = [
    "CIFL",
    "Appearance",
    "ContrastiveLoss",
    "L2Normalize",
    "PairSynthesizer",
    "__version__",
    "build_encoder",
    "contrastive_loss",
    "receptive_radius",
    "shape_maps",
]
