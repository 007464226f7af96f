"""What a model remembers of the geometry of the images that it was trained on."""

from nibabel.affines import voxel_sizes

from cifl_tf.datasets.cohorts import Cohort
from cifl_tf.image_model import Preprocessing, exact_voxel_size


def cohort_preprocessing(cohort: Cohort, ndim: int, plane: str) -> Preprocessing:
    """The preprocessing of a network that is trained on a cohort.

    Args:
        cohort: subjects of one voxel size.
        ndim: 2 for slices, 3 for volumes.
        plane: of the slices.
    """
    sizes = voxel_sizes(cohort.subjects[0].affine)
    return Preprocessing(exact_voxel_size(sizes), plane if ndim == 2 else None)
