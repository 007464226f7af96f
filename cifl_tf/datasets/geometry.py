"""What a model remembers of the geometry of the images that it was trained on."""

from nibabel.affines import voxel_sizes

from cifl_tf._notes import note
from cifl_tf.datasets.cohorts import Cohort
from cifl_tf.images.preprocessing import Preprocessing, exact_voxel_size
from cifl_tf.images.volumes import plane_axis


def cohort_preprocessing(cohort: Cohort, ndim: int, plane: str) -> Preprocessing:
    """The preprocessing of a network that is trained on a cohort.

    Args:
        cohort: subjects of one voxel size.
        ndim: 2 for slices, 3 for volumes.
        plane: of the slices.
    """
    sizes = voxel_sizes(cohort.subjects[0].affine)
    return Preprocessing(exact_voxel_size(sizes), plane if ndim == 2 else None)


def resampled_for(preprocessing: Preprocessing, cohort: Cohort) -> Cohort:
    """The cohort in the voxel size that a network was trained at; itself where it has that.

    Args:
        preprocessing: of the network.
        cohort: subjects of any voxel sizes. Across slices, theirs is kept.
    """
    trained = preprocessing.training_voxel_size
    across = None if preprocessing.plane is None else plane_axis(preprocessing.plane)
    if trained is None or all(
        preprocessing.accepts(voxel_sizes(one.affine), across) for one in cohort
    ):
        return cohort
    note(
        "images are resampled to the voxel size that the model was trained at, "
        f"{preprocessing.voxel_text()}; scores are of these"
    )
    return cohort.resampled([None if axis == across else size for axis, size in enumerate(trained)])
