import itertools

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from cifl_tf.metrics import dice, hausdorff95, volumes_mm3


def square(shape, *corners, value=1):
    """A label map with one box from the first corner up to, not including, the second."""
    labels = np.zeros(shape, np.int32)
    labels[tuple(slice(start, stop) for start, stop in zip(*corners, strict=True))] = value
    return labels


def surface_points(mask, sizes):
    """Corners of voxels where inside meets outside, in mm, one by one."""
    padded, points = np.pad(mask, 1), []
    for corner in itertools.product(*(range(size + 1) for size in mask.shape)):
        around = padded[tuple(slice(c, c + 2) for c in corner)]
        if 0 < around.sum() < 2**mask.ndim:
            points.append(np.array(corner) * sizes)
    return np.array(points)


def slow_hausdorff95(mask_1, mask_2, sizes):
    points_1, points_2 = (surface_points(mask, sizes) for mask in (mask_1, mask_2))
    distances = np.linalg.norm(points_1[:, None] - points_2[None], axis=-1)

    def percentile(nearest):
        return min(d for d in nearest if np.count_nonzero(nearest <= d) >= 0.95 * len(nearest))

    return max(percentile(distances.min(axis=1)), percentile(distances.min(axis=0)))


def test_dice_of_overlapping_squares():
    labels_1 = square((8, 8), (1, 1), (5, 5))  # 16 pixels
    labels_2 = square((8, 8), (3, 1), (5, 5))  # 8 of them
    assert dice(labels_1, labels_2, [1])[0] == 2 * 8 / (16 + 8)
    assert dice(labels_1, np.roll(labels_1, 2, axis=1), [1])[0] == 0.5
    assert dice(labels_1, np.roll(labels_1, 4), [1])[0] == 0


def test_dice_of_absent_labels():
    labels_1, labels_2 = square((4, 4), (0, 0), (2, 2)), square((4, 4), (0, 0), (2, 2), value=2)
    np.testing.assert_array_equal(dice(labels_1, labels_2, [2, 7, 1, 0]), [0, np.nan, 0, 1])


def test_dice_is_the_set_formula(rng):
    labels_1, labels_2 = rng.integers(0, 4, size=(2, 5, 6, 7))
    sets = [
        [{*map(tuple, np.argwhere(labels == value))} for value in (3, 1, 0)]
        for labels in (labels_1, labels_2)
    ]
    expected = [2 * len(a & b) / (len(a) + len(b)) for a, b in zip(*sets, strict=True)]
    np.testing.assert_array_equal(dice(labels_1, labels_2, (3, 1, 0)), expected)
    np.testing.assert_array_equal(dice(labels_2, labels_1, (3, 1, 0)), expected)
    assert (dice(labels_1, labels_1.astype(np.float32), [0, 1, 2, 3]) == 1).all()


@pytest.mark.parametrize(
    ("voxel_size", "axis", "expected"),
    [((1, 1), 0, 3), ((2, 0.5), 0, 6), ((2, 0.5), 1, 1.5)]
    + [((1.5, 1, 0.25), axis, 3 * size) for axis, size in enumerate((1.5, 1, 0.25))],
)
def test_hausdorff_of_two_voxels(voxel_size, axis, expected):
    # Half the corners of a voxel are three voxels from the nearest of the other, half are two.
    labels_1 = square((6,) * len(voxel_size), *((k,) * len(voxel_size) for k in (1, 2)))
    labels_2 = np.roll(labels_1, 3, axis=axis)
    assert hausdorff95(labels_1, labels_2, [1], voxel_size)[0] == expected


@pytest.mark.parametrize("ndim", [2, 3])
def test_hausdorff_of_parallel_plates(ndim):
    shape, rest = (12,) * ndim, (9,) * (ndim - 1)
    labels_1 = square(shape, (2,) + (0,) * (ndim - 1), (4, *rest))  # faces at 2 and 4
    labels_2 = square(shape, (7,) + (0,) * (ndim - 1), (8, *rest))  # faces at 7 and 8
    # The far face of the first, half its surface, is 7 - 2 voxels away; that of the other 8 - 4.
    assert hausdorff95(labels_1, labels_2, [1], (1.5, 1, 1)[:ndim])[0] == 5 * 1.5
    assert hausdorff95(labels_2, labels_1, [1], (1.5, 1, 1)[:ndim])[0] == 5 * 1.5


def test_hausdorff95_overlooks_a_twentieth_of_the_surface():
    labels_1 = square((50, 50), (5, 5), (45, 45))
    labels_2 = labels_1.copy()
    labels_2[45, 20] = 1  # a spike of 3 in an outline of about 160
    assert hausdorff95(labels_1, labels_2, [1], (1, 1))[0] == 0
    labels_2[45, 15:30] = 1  # 15 in 160
    assert hausdorff95(labels_1, labels_2, [1], (1, 1))[0] == 1


@pytest.mark.parametrize("voxel_size", [(1, 1), (0.7, 2.3)])
def test_hausdorff_is_the_definition_in_2d(rng, voxel_size):
    for density in (0.05, 0.3, 0.6):
        labels_1, labels_2 = (rng.random((2, 9, 11)) < density).astype(int)
        expected = slow_hausdorff95(labels_1 == 1, labels_2 == 1, voxel_size)
        for pair in ((labels_1, labels_2), (labels_2, labels_1)):
            assert hausdorff95(*pair, [1], voxel_size)[0] == pytest.approx(expected, abs=1e-9)


def test_hausdorff_is_the_definition_in_3d(rng):
    voxel_size = (0.7, 2.3, 1.1)
    for density in (0.02, 0.2, 0.6):
        labels_1, labels_2 = (rng.random((2, 8, 7, 6)) < density).astype(int)
        expected = slow_hausdorff95(labels_1 == 1, labels_2 == 1, voxel_size)
        measured = hausdorff95(labels_1, labels_2, [1], voxel_size)[0]
        assert measured == pytest.approx(expected, abs=1e-9)


def test_hausdorff_is_near_that_of_voxel_centers(rng):
    voxel_size = (1.0, 1.5, 2.0)
    smooth = [ndimage.gaussian_filter(rng.standard_normal((20, 20, 20)), 3) for _ in range(2)]
    masks = [np.pad(image > 0.02, 2).astype(np.uint8) for image in smooth]
    images = [sitk.GetImageFromArray(mask.T) for mask in masks]
    for image in images:
        image.SetSpacing(voxel_size)
    directed = []
    for one, other in (images, images[::-1]):
        far = sitk.Abs(
            sitk.SignedMaurerDistanceMap(other, squaredDistance=False, useImageSpacing=True)
        )
        contour = sitk.GetArrayFromImage(sitk.LabelContour(one, fullyConnected=True)) > 0
        directed.append(np.percentile(sitk.GetArrayFromImage(far)[contour], 95))
    assert max(directed) > 3  # mm, several voxels
    measured = hausdorff95(*masks, [1], voxel_size)[0]
    assert measured == pytest.approx(max(directed), abs=np.linalg.norm(voxel_size) / 2)


def test_hausdorff_of_equal_and_of_absent_labels():
    labels_1 = square((6, 6), (0, 0), (6, 6))  # as large as the image
    labels_2 = square((6, 6), (0, 0), (6, 6), value=2)
    assert hausdorff95(labels_1, labels_1, [1], (1, 1))[0] == 0
    np.testing.assert_array_equal(
        hausdorff95(labels_1, labels_2, [1, 2, 5], (1, 1)), [np.inf, np.inf, np.nan]
    )


def test_volumes():
    labels = square((6, 6, 6), (1, 1, 1), (3, 4, 5), value=4)
    np.testing.assert_array_equal(volumes_mm3(labels, [4, 1], (0.5, 2, 1.5)), [24 * 1.5, 0])
    np.testing.assert_array_equal(volumes_mm3(labels[2], [4], (2, 1.5)), [12 * 3])
    np.testing.assert_array_equal(volumes_mm3(labels[2], [4], (2, 1.5, 4)), [12 * 12])


def test_errors():
    labels = square((4, 5), (0, 0), (2, 2))
    for compare in (dice, lambda *given: hausdorff95(*given, (1, 1))):
        with pytest.raises(ValueError, match=r"different shapes, \(4, 5\) and \(5, 4\); resample"):
            compare(labels, labels.T, [1])
        for nothing in ([], {}, 1):
            with pytest.raises(ValueError, match="label_values must list at least one label"):
                compare(labels, labels, nothing)
    with pytest.raises(ValueError, match=r"not of shape \(1, 4, 5, 1\); compare one image"):
        hausdorff95(labels[None, ..., None], labels[None, ..., None], [1], (1, 1))
    with pytest.raises(ValueError, match=r"not of shape \(4,\); measure one image"):
        volumes_mm3(labels[:, 0], [1], (1,))
    for wrong in ((1, 1, 1), 1, (1, 0), (1, -1), (1, np.nan)):
        with pytest.raises(ValueError, match="voxel_size must be 2 positive numbers in mm"):
            hausdorff95(labels, labels, [1], wrong)
    with pytest.raises(ValueError, match="voxel_size must be 2 positive numbers in mm"):
        volumes_mm3(labels, [1], (1, 1, 1, 1))
