"""Segmenters out of training folders and files."""

from cifl_tf.segmentation.segmenter import SEGMENTER_FILE as SEGMENTER_FILE
from cifl_tf.segmentation.segmenter import Segmenter
from cifl_tf.segmentation.segmenter import as_segmenter as as_segmenter


def load_segmenter(folder) -> Segmenter:
    """``Segmenter.from_pretrained``.

    Example:
        >>> import cifl_tf as cifl
        >>> cifl.Segmenter(cifl.build_segmenter(None, 3, num_filters=2)).save("segmenter.keras")
        >>> cifl.load_segmenter("segmenter.keras").label_values
        (0, 1, 2)
    """
    return Segmenter.from_pretrained(folder)
