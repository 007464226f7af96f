"""Contrast-invariant feature learning (CIFL) for medical images, in TensorFlow."""

from cifl_tf._version import __version__  # isort: skip
from cifl_tf import _compat  # noqa: F401  isort: skip  (selects legacy Keras before any other)
from cifl_tf.datasets import mni152_slice, segmentation_maps
from cifl_tf.encoder import build_encoder, receptive_radius, start_from
from cifl_tf.export import export_registration, export_saved_model, export_segmenter
from cifl_tf.inference import features_of
from cifl_tf.instance import InstanceSettings, optimise_instance
from cifl_tf.intensity import IntensityScaling, rescale_intensity
from cifl_tf.layers import L2Normalize, RescaleIntensity
from cifl_tf.losses import ContrastiveLoss, contrastive_loss
from cifl_tf.model import CIFL
from cifl_tf.pretrained import load_encoder, load_pretrained, pretrained_encoders
from cifl_tf.registration import RegistrationNetwork, register
from cifl_tf.registration_files import Registration, register_images, save_registration
from cifl_tf.registration_methods import InstanceMethod, NetworkMethod
from cifl_tf.registration_training import (
    RegistrationConfig,
    load_registration,
    train_registration,
)
from cifl_tf.segmentation import MeanDice, SegmentationLoss, build_segmenter
from cifl_tf.segmentation_training import (
    Segmentation,
    SegmentationConfig,
    load_segmenter,
    segment_image,
    train_segmenter,
)
from cifl_tf.synthesis import Appearance, PairSynthesizer, shape_maps
from cifl_tf.transforms import warp
from cifl_tf.volumes import Volume, read_volume, write_features
from cifl_tf.warps import read_warp, write_warp

__all__ = [
    "CIFL",
    "Appearance",
    "ContrastiveLoss",
    "InstanceMethod",
    "InstanceSettings",
    "IntensityScaling",
    "L2Normalize",
    "MeanDice",
    "NetworkMethod",
    "PairSynthesizer",
    "Registration",
    "RegistrationConfig",
    "RegistrationNetwork",
    "RescaleIntensity",
    "Segmentation",
    "SegmentationConfig",
    "SegmentationLoss",
    "Volume",
    "__version__",
    "build_encoder",
    "build_segmenter",
    "contrastive_loss",
    "export_registration",
    "export_saved_model",
    "export_segmenter",
    "features_of",
    "load_encoder",
    "load_pretrained",
    "load_registration",
    "load_segmenter",
    "mni152_slice",
    "optimise_instance",
    "pretrained_encoders",
    "read_volume",
    "read_warp",
    "receptive_radius",
    "register",
    "register_images",
    "rescale_intensity",
    "save_registration",
    "segment_image",
    "segmentation_maps",
    "shape_maps",
    "start_from",
    "train_registration",
    "train_segmenter",
    "warp",
    "write_features",
    "write_warp",
]
