import itertools

import nibabel
import numpy as np
import pytest

from cifl_tf.datasets import REMAPPINGS, mni152_slice, remap_contrast, segmentation_maps


def save(path, array, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.eye(4) if affine is None else affine
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


@pytest.fixture
def folder(tmp_path):
    labels = np.zeros((12, 14, 10), np.int16)
    labels[3:8, 4:9, 2:7] = 41
    labels[5:6, 6:7, 4:5] = 7
    save(tmp_path / "sub-1" / "aseg.nii.gz", labels)
    save(tmp_path / "sub-2" / "aseg.nii", np.where(labels == 7, 1000, labels).astype(np.int16))
    return tmp_path


def test_labels_are_remapped_over_all_files(folder):
    maps, num_labels = segmentation_maps(folder, (8, 8))
    assert num_labels == 4
    assert maps.element_spec.shape == (8, 8, 1)
    seen = np.unique([labels.numpy() for labels in maps.take(200)])
    assert seen.tolist() == [0, 1, 2, 3]


def test_volumes_keep_their_counts_when_padded(folder):
    maps, _ = segmentation_maps(folder, (16, 16, 16))
    for labels in maps.take(4):
        counts = np.bincount(labels.numpy().ravel())
        # 0, 7, 41, 1000: one subject has one voxel of 7, the other one of 1000.
        assert counts[2] == 124
        assert counts[1] + counts[3:].sum() == 1


def test_larger_segmentations_are_cropped_at_random_places(folder):
    maps, _ = segmentation_maps(folder, (6, 6, 6))
    sums = {int(labels.numpy().sum()) for labels in maps.take(20)}
    assert len(sums) > 5


@pytest.mark.parametrize("shape", [(6, 16), (6, 7, 16)])
def test_maps_from_disk_are_those_from_memory(folder, monkeypatch, shape):
    def draw():
        maps, count = segmentation_maps(folder, shape, seed=3)
        return count, [labels.numpy() for labels in maps.take(12)]

    expected = draw()
    monkeypatch.setattr("cifl_tf.datasets.label_folder.MOST_OF_MEMORY", 0)
    found = draw()
    assert found[0] == expected[0]
    np.testing.assert_array_equal(found[1], expected[1])
    assert np.ptp(found[1]) >= 2


def test_slices_of_one_label_are_passed_over(folder):
    maps, _ = segmentation_maps(folder, (14, 14), plane="axial")
    assert all(np.ptp(labels.numpy()) > 0 for labels in maps.take(30))


def test_orientation_is_canonical(tmp_path):
    labels = np.zeros((8, 8, 8), np.int16)
    labels[:, :, 6:] = 1
    flipped = np.diag([1.0, 1.0, -1.0, 1.0])
    save(tmp_path / "labels.nii", labels, flipped)
    maps, _ = segmentation_maps(tmp_path, (8, 8, 8))
    first = next(iter(maps)).numpy()[..., 0]
    np.testing.assert_array_equal(first, labels[:, :, ::-1])


def test_seed_and_start(folder):
    def draw(count, **kwargs):
        maps, _ = segmentation_maps(folder, (8, 8), **kwargs)
        return [labels.numpy() for labels in itertools.islice(maps, count)]

    np.testing.assert_array_equal(draw(5, seed=3), draw(5, seed=3))
    np.testing.assert_array_equal(draw(5, seed=3)[2:], draw(3, seed=3, start=2))
    assert not np.array_equal(draw(5, seed=3), draw(5, seed=4))


def test_pairs_upper_case_and_what_systems_leave(folder):
    def label_counts():
        maps, count = segmentation_maps(folder, (8, 8, 8), seed=1)
        return count, [int(labels.numpy().sum()) for labels in itertools.islice(maps, 8)]

    before = label_counts()
    for path in sorted(folder.rglob("*.nii*")):
        (path.parent / f"._{path.name}").write_bytes(b"nothing")
    hidden = folder / ".git" / "annex" / "objects" / "x.nii.gz"
    hidden.parent.mkdir(parents=True)
    hidden.write_bytes(b"nothing")
    assert label_counts() == before
    labels = np.zeros((8, 8, 8), np.int16)
    labels[2:6] = 77
    save(folder / "z" / "new.nii.gz", labels)
    (folder / "z" / "new.nii.gz").rename(folder / "z" / "NEW.NII.GZ")
    nibabel.Nifti1Pair(labels + 78, np.eye(4)).to_filename(folder / "z" / "pair.img")
    assert label_counts()[0] == before[0] + 3


def test_errors(tmp_path):
    with pytest.raises(ValueError, match="holds no segmentation"):
        segmentation_maps(tmp_path, (8, 8))
    save(tmp_path / "a" / "labels.nii", np.zeros((8, 8, 8), np.int16))
    with pytest.raises(ValueError, match="one label only"):
        segmentation_maps(tmp_path / "a", (8, 8))
    save(tmp_path / "b" / "t1.nii", np.linspace(0, 1, 512).reshape(8, 8, 8).astype(np.float32))
    with pytest.raises(ValueError, match=r"t1\.nii is no label map: 510 of 512"):
        segmentation_maps(tmp_path / "b", (8, 8))
    save(tmp_path / "c" / "labels.nii", np.eye(8, dtype=np.int16)[..., None] * np.ones(8, np.int16))
    with pytest.raises(ValueError, match="plane is 'oblique'"):
        segmentation_maps(tmp_path / "c", (8, 8), plane="oblique")


def test_mni152_slice_is_a_brain():
    image, mask = mni152_slice()
    assert image.shape == mask.shape
    assert image.min() == 0
    assert image.max() == 1
    assert 0.2 < mask.mean() < 0.6
    # The coronal section is symmetric: its left-right mirror image is nearly the same.
    width = image.shape[0]
    halves = image[: width // 2].ravel(), image[::-1][: width // 2].ravel()
    assert np.corrcoef(*halves)[0, 1] > 0.9


@pytest.mark.parametrize("name", REMAPPINGS)
def test_remappings_stay_in_range_and_in_the_mask(name, rng):
    image, mask = rng.random((9, 9)), rng.random((9, 9)) > 0.5
    random_contrast = remap_contrast(image, mask, name)
    assert not random_contrast[~mask].any()
    assert random_contrast.min() >= 0
    assert random_contrast.max() <= 1


def test_inversion_and_unknown_remapping():
    image, mask = np.array([[0.25, 0.5]]), np.array([[True, False]])
    assert remap_contrast(image, mask, "inverted").tolist() == [[0.75, 0.0]]
    with pytest.raises(ValueError, match="no contrast 'T3'"):
        remap_contrast(image, mask, "T3")


def test_a_file_of_one_slice_gives_it_whatever_the_plane(tmp_path):
    board = (np.indices((9, 11)).sum(axis=0) % 2).astype(np.int16)
    save(tmp_path / "slice.nii.gz", board[..., None])
    maps, _ = segmentation_maps(tmp_path, (9, 11), plane="coronal")
    np.testing.assert_array_equal(next(iter(maps))[..., 0], board)


def test_empty_segmentations_are_passed_over(folder):
    save(folder / "sub-3" / "empty.nii.gz", np.zeros((12, 14, 10), np.int16))
    for shape in ((8, 8), (12, 14, 10)):
        maps, _ = segmentation_maps(folder, shape)
        assert all(labels.numpy().max() > 0 for labels in maps.take(20))
    for name in ("a", "b"):
        save(folder / "constant" / name / "a.nii", np.full((4, 4, 4), ord(name), np.int16))
    with pytest.raises(ValueError, match=r"no slice in .*constant holds two labels"):
        segmentation_maps(folder / "constant", (8, 8))
