"""Segmenters out of training folders and files."""

from cifl_tf.segmentation.segmenter import SEGMENTER_FILE as SEGMENTER_FILE
from cifl_tf.segmentation.segmenter import Segmenter
from cifl_tf.segmentation.segmenter import as_segmenter as as_segmenter


def load_segmenter(folder) -> Segmenter:
    """``Segmenter.from_pretrained``."""
    return Segmenter.from_pretrained(folder)
