"""Whole heads with a brain mask as label maps: regions of one tissue, inside the brain and outside.

No tissue has to be known by name. Images of random contrasts need regions that mostly have one
intensity, so clusters of the intensities of one scan do (Hoopes et al., NeuroImage 2022: label
maps of whole heads).
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from sklearn.cluster import KMeans

from cifl_tf.images.grid import resample
from cifl_tf.images.intensity import air_mask, rescale_intensity
from cifl_tf.images.volumes import read_label_volume, read_volume
from cifl_tf.stripping.field_of_view import LEAST_OF_HEAD, largest_piece

VOXEL_SIZE = 2.0  # mm, of the label maps
OUTSIDE, INSIDE = 7, 5  # regions around the brain, and in it
NUM_REGIONS = 1 + OUTSIDE + INSIDE  # with air, 0
FLUID = OUTSIDE + 3  # region of cerebrospinal fluid, where tissues are known
CLOSING = 5.0  # mm, of nose and ears, when the head is told from air


@dataclass(frozen=True, eq=False)
class Head:
    """A head that training images are made of.

    Attributes:
        name: of the scan.
        regions: int32 (x, y, z): 0 air, then ``OUTSIDE`` regions around the brain, then ``INSIDE``
            ones in it.
        image: float32 (x, y, z), intensities of the scan in [0, 1].
        distance: float32 (x, y, z), mm to the surface of the brain, negative inside.
        voxel_size: mm.
        depth: float32 (x, y, z), mm from the fluid of the brain, 0 in it; None where tissues are
            not known.
    """

    name: str
    regions: np.ndarray
    image: np.ndarray
    distance: np.ndarray
    voxel_size: float = VOXEL_SIZE
    depth: np.ndarray | None = None


def signed_distance(mask: np.ndarray, voxel_size: float) -> np.ndarray:
    """Distance in mm to the border of a mask, negative inside.

    Args:
        mask: bool (x, y, z), neither empty nor full.
        voxel_size: mm.
    """
    outer, inner = (ndimage.distance_transform_edt(one, voxel_size) for one in (~mask, mask))
    # The border lies between two voxels, half a voxel from the centers of both.
    return np.where(mask, voxel_size / 2 - inner, outer - voxel_size / 2).astype(np.float32)


def read_head(
    name: str, image, mask, labels=None, voxel_size: float = VOXEL_SIZE, border: float = 0.0
) -> Head:
    """A head out of a scan and its brain mask.

    Args:
        name: of the scan.
        image: file or nibabel image, of a whole head.
        mask: file or nibabel image of the same space, not 0 inside the brain; a stripped image
            with whole numbers does.
        labels: file or nibabel image of the same space with tissues 1 to ``INSIDE``, which are the
            regions of the brain then; voxels of the brain without a label get the nearest one.
        voxel_size: mm, of the label maps.
        border: mm by which the surface of the brain lies outside that of the mask. Masks of
            different tools do not leave the same rim of fluid.

    Raises:
        ValueError, FileNotFoundError: as ``read_volume`` and ``read_label_volume``; or the mask is
            empty, or there are other labels.

    Example:
        >>> import nibabel, numpy as np
        >>> from cifl_tf.stripping import read_head
        >>> distance = np.linalg.norm(np.indices((40, 40, 40)) - 20, axis=0)
        >>> head = np.select([distance < 10, distance < 14, distance < 17], [90, 20, 60])
        >>> scan, brain = (
        ...     nibabel.Nifti1Image(one.astype(np.int16), np.diag([4, 4, 4, 1]))
        ...     for one in (head + np.indices(head.shape)[0] % 3, distance < 10)
        ... )
        >>> read_head("ball", scan, brain).regions.max()
        np.int32(12)
    """
    volume = read_volume(image, voxel_size=voxel_size)
    grid = volume.affine, volume.data.shape
    known = read_label_volume(mask)
    share = (known.data > 0).astype(np.float32)
    brain = resample(share, known.affine, *grid, "linear") > 0.5
    if not brain.any():
        raise ValueError(f"the brain mask of {name} is empty where its scan is; give another one")
    scaled = rescale_intensity(volume.data)
    regions = np.zeros(scaled.shape, np.int32)
    around = _inside_of_head(scaled, voxel_size) & ~brain
    if around.any():  # not in a scan without skull
        regions[around] = 1 + _clusters(scaled[around], OUTSIDE)
    depth = None
    if labels is None:
        regions[brain] = 1 + OUTSIDE + _clusters(scaled[brain], INSIDE)
    else:
        tissues = read_label_volume(labels)
        nearest = resample(tissues.data, tissues.affine, *grid, "nearest").astype(np.int32)
        regions[brain] = OUTSIDE + _nearest_label(name, nearest)[brain]
        depth = ndimage.distance_transform_edt(regions != FLUID, voxel_size).astype(np.float32)
    distance = signed_distance(brain, voxel_size) - np.float32(border)
    return Head(name, regions, scaled, distance, voxel_size, depth)


def _nearest_label(name, labels):
    """Labels everywhere, each that of the nearest voxel that has one."""
    found = np.unique(labels[labels != 0])
    if not len(found) or found[0] < 1 or found[-1] > INSIDE:
        raise ValueError(f"the labels of {name} are {found.tolist()}; give tissues 1 to {INSIDE}")
    places = ndimage.distance_transform_edt(
        labels == 0, return_distances=False, return_indices=True
    )
    return labels[tuple(places)]


def _inside_of_head(image, voxel_size):
    """The head with all that is dark in it, such as bone and sinuses."""
    bright = (image > LEAST_OF_HEAD) & ~air_mask(image)
    steps = round(CLOSING / voxel_size)
    bright = ndimage.binary_opening(np.pad(bright, steps + 1, mode="edge"))
    closed = largest_piece(ndimage.binary_closing(bright, iterations=steps))
    # Slice by slice as well: a neck that ends at the border of the image is open there.
    for axis in range(3):
        slices = np.moveaxis(closed, axis, 0)
        slices[:] = [ndimage.binary_fill_holes(one) for one in slices]
    return closed[(slice(steps + 1, -steps - 1),) * 3]


def _clusters(values, count):
    """Which of at most so many groups of similar intensity each value is in, the darkest first."""
    sample = values[:: max(1, len(values) // 50_000)]
    count = min(count, len(np.unique(sample)))  # one alone in the air around a stripped brain
    means = KMeans(count, n_init=3, random_state=0).fit(sample[:, None])
    borders = np.sort(means.cluster_centers_[:, 0])
    return np.searchsorted((borders[1:] + borders[:-1]) / 2, values).astype(np.int32)
