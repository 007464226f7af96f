import nibabel
import numpy as np
import pytest
from nibabel.affines import voxel_sizes
from scipy.ndimage import gaussian_filter

from cifl_tf._notes import Note
from cifl_tf.datasets import Subject, make_cohort, slice_coverage, slices, stack_cohort
from cifl_tf.datasets.geometry import cohort_preprocessing, resampled_for
from cifl_tf.images.preprocessing import Preprocessing
from cifl_tf.images.volumes import Volume, fit_shape, read_volume, resample_labels
from cifl_tf.metrics import dice
from cifl_tf.registration.data import warn_of_different_spaces

TABLE = {3: "white", 7: "gray"}


def brain(size, shape=(72, 80, 64), origin=(0, 0, 0)):
    """Image and labels of one smooth brain in voxels of a size in mm, shape for 1 mm."""
    shape = tuple(round(length / size) for length in shape)
    mm = (np.indices(shape).T * size + (size - 1) / 2).T
    distance = np.linalg.norm(mm.T - (36, 40, 32), axis=-1).T
    texture = gaussian_filter(np.random.default_rng(0).normal(size=(72, 80, 64)), 5)
    places = np.clip(np.rint(mm).astype(int).reshape(3, -1).T, 0, (71, 79, 63)).T
    white = texture[tuple(places)].reshape(shape) > 0
    labels = np.where(distance < 24, np.where(white, 3, 7), 0).astype(np.int16)
    image = np.select([labels == 3, labels == 7], [900, 600]).astype(np.float32)
    affine = np.diag([size, size, size, 1.0])
    affine[:3, 3] = (size - 1) / 2 + np.array(origin)
    return nibabel.Nifti1Image(image, affine), nibabel.Nifti1Image(labels, affine)


def subject(folder, name, *args, **kwargs):
    image, labels = brain(*args, **kwargs)
    paths = folder / f"{name}_T1w.nii.gz", folder / f"{name}_dseg.nii.gz"
    nibabel.save(image, paths[0])
    nibabel.save(labels, paths[1])
    return Subject(name, {"T1w": paths[0]}, paths[1], (0, *TABLE))


def test_several_voxel_sizes_become_one(tmp_path):
    fine, coarse = subject(tmp_path, "fine", 1), subject(tmp_path, "coarse", 2)
    cohort = make_cohort([fine, coarse], TABLE).resampled(2)
    for one in cohort:
        np.testing.assert_allclose(voxel_sizes(one.affine), 2)
    images, labels, _ = stack_cohort(cohort, "T1w", 3)
    assert images.shape == labels.shape == (2, 36, 40, 32, 1)
    assert min(dice(*labels, [1, 2])) > 0.93
    assert np.abs(images[0] - images[1])[labels[0] == labels[1]].mean() < 0.05
    np.testing.assert_array_equal(images[1, ..., 0], coarse.image("T1w"))
    assert cohort_preprocessing(cohort, 2, "axial").voxel_range == ((2, 2),) * 3


def test_smaller_images_are_padded_with_air(tmp_path):
    cohort = make_cohort(
        [subject(tmp_path, "a", 2), subject(tmp_path, "b", 1, shape=(72, 80, 90))], TABLE
    ).resampled(2)
    images, labels, _ = stack_cohort(cohort, "T1w", 3)
    assert images.shape == (2, 36, 40, 45, 1)
    assert (images[0, :, :, :6] == 0).all()
    assert (labels[0, :, :, :6] == 0).all()
    # The middle stays where it is, in mm.
    for one, index in ((cohort.subjects[0], 0), (cohort.subjects[1], 1)):
        found = np.argwhere(labels[index, ..., 0] > 0).mean(axis=0) @ one.affine[:3, :3].T
        np.testing.assert_allclose(found + one.affine[:3, 3], (36, 40, 32), atol=1)


@pytest.mark.parametrize("shape", [(7, 20, 9), (12, 12, 12), (9, 10, 11)])
def test_cut_and_padded_about_the_middle(shape):
    data = np.arange(1, 991, dtype=np.int32).reshape(9, 10, 11)
    volume = read_volume(nibabel.Nifti1Image(data.astype(np.float32), np.diag([2, 2, 2, 1])))
    labels = fit_shape(Volume(data, volume.affine, volume.original), shape)
    assert labels.data.shape == shape
    place = tuple(np.argwhere(labels.data == data[4, 5, 5])[0])
    found = labels.affine @ [*place, 1]
    np.testing.assert_allclose(found[:3], (8, 10, 10))


def test_labels_go_by_their_share_of_a_voxel():
    data = np.zeros((24, 20, 20), np.int32)
    data[:12] = 5
    data[12:13] = 9
    image = nibabel.Nifti1Image(data.astype(np.float32), np.eye(4))
    volume = read_volume(image)
    found = resample_labels(Volume(data, volume.affine, volume.original), 2)
    assert found.data.shape == (12, 10, 10)
    assert np.unique(found.data[:5]).tolist() == [5]
    assert np.unique(found.data[8:]).tolist() == [0]


def test_slices_over_the_whole_extent_of_the_labels(tmp_path):
    cohort = make_cohort([subject(tmp_path, "a", 2), subject(tmp_path, "b", 1)], TABLE).resampled(2)
    _, labels, names = slices(cohort, "T1w", "coronal", None)
    assert (labels > 0).any(axis=(1, 2)).all()
    full = [one.labels() for one in cohort]
    counts = [np.count_nonzero((one > 0).any(axis=(0, 2))) for one in full]
    assert [np.count_nonzero(names == name) for name in cohort.names] == counts
    assert slice_coverage(cohort, "T1w", "coronal", None) == pytest.approx((0, 1), abs=0.06)
    low, high = slice_coverage(cohort, "T1w", "coronal", 9)
    assert 0.2 < low < 0.4
    assert 0.6 < high < 0.8
    fine = make_cohort([subject(tmp_path, "c", 1)], TABLE)
    assert len(slices(fine, "T1w", "coronal", None)[0]) == 40  # evenly, of 48
    assert len(slices(fine, "T1w", "coronal", None, "white")[0]) == 9


def test_pairs_that_do_not_lie_in_one_space(tmp_path):
    near = [subject(tmp_path, name, 2) for name in ("a", "b")]
    far = subject(tmp_path, "c", 2, origin=(40, 0, -10))
    with pytest.warns(UserWarning, match=r"1 subjects, such as c, .*differ by up to 40 mm"):
        warn_of_different_spaces(make_cohort([*near, far], TABLE))
    warn_of_different_spaces(make_cohort(near, TABLE))


def test_a_cohort_is_brought_to_the_voxel_size_of_a_network(tmp_path):
    fine = make_cohort([subject(tmp_path, "a", 1), subject(tmp_path, "b", 1)], TABLE)
    coarse = make_cohort([subject(tmp_path, "c", 2)], TABLE)
    trained = cohort_preprocessing(coarse, 3, "coronal")
    with pytest.warns(Note, match=r"resampled to the voxel size .* 2 x 2 x 2 mm"):
        found = resampled_for(trained, fine)
    assert found.subjects[1].image("T1w").shape == coarse.subjects[0].image("T1w").shape
    assert resampled_for(trained, coarse) is coarse
    assert resampled_for(Preprocessing(((0.8, 2.5),) * 3), fine) is fine


def test_the_size_across_slices_is_kept(tmp_path):
    thick = subject(tmp_path, "thick", 1)
    image = nibabel.load(thick.images["T1w"])
    affine = image.affine @ np.diag([1, 1.25, 1, 1])
    for path in (thick.images["T1w"], thick.segmentation):
        array = np.asarray(nibabel.load(path).dataobj)
        nibabel.save(nibabel.Nifti1Image(array, affine), path)
    cohort = make_cohort([thick], TABLE)
    trained = Preprocessing(((1.0, 1.0),) * 3, "coronal")
    assert resampled_for(trained, cohort) is cohort
    with pytest.warns(Note, match="are resampled"):
        found = resampled_for(Preprocessing(((2.0, 2.0),) * 3, "coronal"), cohort)
    np.testing.assert_allclose(voxel_sizes(found.subjects[0].affine), [2, 1.25, 2])
    assert found.subjects[0].image("T1w").shape == (36, 80, 32)
    assert trained.voxel_size_for((60, 8, 60), (1.2, 5.0, 1.2), across=1) == (1, None, 1)


def test_two_cohorts_get_one_shape(tmp_path):
    small = make_cohort([subject(tmp_path, "a", 1)], TABLE)
    large = make_cohort([subject(tmp_path, "b", 1, shape=(72, 80, 90))], TABLE)
    shapes = [
        [one.image("T1w").shape for one in cohort] for cohort in small.resampled_with(large, 2)
    ]
    assert shapes == [[(36, 40, 45)], [(36, 40, 45)]]
