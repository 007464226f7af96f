"""Segment image files."""

from cifl_tf._compat import keras
from cifl_tf._former_names import accepts_former
from cifl_tf.segmentation.result import Segmentation
from cifl_tf.segmentation.segmenter import Segmenter


@accepts_former()
def segment_image(
    image,
    folder,
    voxel_size=None,
    volume_index: int | None = None,
    progress: bool = False,
    segmenter: keras.Model | None = None,
    window: tuple[float, float] | None = None,
    memory: float | None = None,
    refined: bool = False,
) -> Segmentation:
    """``Segmenter.segment`` with the segmenter of a folder.

    Args:
        image, voxel_size, volume_index, progress, window, memory, refined: see
            ``Segmenter.segment``.
        folder: see ``Segmenter.from_pretrained``.
        segmenter: the folder's, where it is loaded already, to segment many images.

    Raises:
        ValueError, FileNotFoundError: as both.

    Example:
        >>> import cifl_tf as cifl, nibabel, numpy as np
        >>> cifl.Segmenter(cifl.build_segmenter(None, 3, num_filters=2)).save("segmenter.keras")
        >>> image = nibabel.Nifti1Image(np.random.rand(24, 4, 20), np.diag([2, 2, 2, 1]))
        >>> nibabel.save(image, "scan.nii.gz")
        >>> cifl.segment_image("scan.nii.gz", "segmenter.keras").labels.shape
        (24, 4, 20)
    """
    if not isinstance(segmenter, Segmenter):
        segmenter = Segmenter.from_pretrained(folder)
    options = (voxel_size, volume_index, progress, window, memory, refined)
    return segmenter.segment(image, *options)
