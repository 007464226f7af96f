"""What segmenting an image gives."""

import dataclasses

import nibabel


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """Labels of one image.

    Attributes:
        image: intensities on the image's own grid.
        labels: label map on the image's own grid, with the values of the training segmentations.
        probabilities: 4D image of the probabilities of all labels, on the same grid.
        volumes: mm³ by label name, background left out.
        slices_beyond: slices with labels, of a segmenter for slices, in a part of the body that its
            training slices did not show; see ``Segmenter.coverage``.

    Example:
        >>> import cifl_tf as cifl, nibabel, numpy as np
        >>> network = cifl.build_segmenter(None, 2, num_filters=2, num_levels=2)
        >>> segmenter = cifl.Segmenter(network, label_names=["background", "ventricles"])
        >>> image = nibabel.Nifti1Image(np.random.rand(24, 4, 20), np.diag([2, 2, 2, 1]))
        >>> found = segmenter.segment(image)
        >>> [*found.volumes], found.probabilities.shape
        (['ventricles'], (24, 4, 20, 2))
    """

    image: nibabel.Nifti1Image
    labels: nibabel.Nifti1Image
    probabilities: nibabel.Nifti1Image
    volumes: dict[str, float]
    slices_beyond: int = 0
