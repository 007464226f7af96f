"""Segment image files."""

from cifl_tf._compat import keras
from cifl_tf._former_names import accepts_former
from cifl_tf.segmentation.segmenter import Segmentation, Segmenter


@accepts_former()
def segment_image(
    image,
    folder,
    voxel_size=None,
    volume_index: int | None = None,
    progress: bool = False,
    segmenter: keras.Model | None = None,
    window: tuple[float, float] | None = None,
) -> Segmentation:
    """``Segmenter.segment`` with the segmenter of a folder.

    Args:
        image, voxel_size, volume_index, progress, window: see ``Segmenter.segment``.
        folder: see ``Segmenter.from_pretrained``.
        segmenter: the folder's, where it is loaded already, to segment many images.

    Raises:
        ValueError, FileNotFoundError: as both.
    """
    if not isinstance(segmenter, Segmenter):
        segmenter = Segmenter.from_pretrained(folder)
    return segmenter.segment(image, voxel_size, volume_index, progress, window)
