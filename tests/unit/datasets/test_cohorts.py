import nibabel
import numpy as np
import pytest

from cifl_tf.datasets import Subject, View, make_cohort, slices, stack_cohort

TABLE = {1: "one", 9: "nine", 4: "four"}
VALUES = (0, *TABLE)
LAS = np.diag([-2.0, 2.0, 2.0, 1.0])


def save(path, array, affine=LAS):
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


@pytest.fixture
def arrays(rng):
    """T1w and T2w of a brain in the middle, and labels with values 1, 9 and 4, as in the file."""
    labels = np.zeros((8, 9, 10), np.uint8)
    labels[2:6, 2:7, 2:8] = 1
    labels[3:5, 3:6, 3:5] = 9
    labels[4:6, 5:6, 5:7] = 4
    image = np.where(labels > 0, rng.uniform(100, 200, labels.shape), 0).astype(np.float32)
    return image, (500 - image) * (image > 0), labels


@pytest.fixture
def make_subject(tmp_path, arrays):
    def make(name="sub-01", t2_affine=LAS, labels_affine=LAS, **kwargs):
        t1, t2, labels = arrays
        images = {
            "T1w": save(tmp_path / f"{name}_T1w.nii", t1),
            "T2w": save(tmp_path / f"{name}_T2w.nii", t2, t2_affine),
        }
        path = save(tmp_path / f"{name}_dseg.nii", labels, labels_affine)
        kwargs = {"segmentation": path, "label_values": VALUES, **kwargs}
        return Subject(name, images, **kwargs)

    return make


@pytest.fixture
def cohort(make_subject):
    return make_cohort([make_subject(f"sub-{i:02d}") for i in range(1, 11)], TABLE)


def test_images_are_canonical_scaled_and_read_only(make_subject, arrays):
    image = make_subject().image("T1w")
    assert image.dtype == np.float32
    assert (image.min(), image.max()) == (0, 1)
    np.testing.assert_array_equal(image > 0, (arrays[0] > 0)[::-1])
    with pytest.raises(ValueError, match="read-only"):
        image[0] = 1


def test_labels_are_indices_in_the_order_of_the_table(make_subject, arrays):
    subject = make_subject()
    labels = subject.labels()
    assert labels.dtype == np.int32
    assert np.unique(labels).tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(np.take(subject.label_values, labels), arrays[2][::-1])


def test_affine_is_that_of_the_canonical_grid(make_subject):
    expected = [[2, 0, 0, -14], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(make_subject().affine, expected)


def test_volume_brings_labels_back_to_the_file_grid(make_subject, arrays):
    from cifl_tf.images.volumes import to_original

    subject = make_subject()
    own = np.take(subject.label_values, subject.labels())
    image = to_original(own, subject.volume("T1w"), "nearest")
    np.testing.assert_array_equal(image.get_fdata(), arrays[2])
    np.testing.assert_array_equal(image.affine, LAS)


def test_derived_contrast_is_inverted_inside_the_mask(make_subject):
    subject = make_subject()
    mask = subject.mask()
    np.testing.assert_array_equal(mask, subject.labels() > 0)
    expected = np.where(mask, 1 - subject.image("T1w"), 0)
    np.testing.assert_array_equal(subject.image("T1w:inverted"), expected)


def test_mask_of_an_image_has_no_holes(tmp_path):
    for shape in ((7, 7, 7), (7, 7, 1)):
        image = np.zeros(shape, np.float32)
        image[1:6, 1:6, 1 if shape[2] > 1 else 0 : 6] = 1
        image[3, 3, shape[2] // 2] = 0
        path = save(tmp_path / f"{shape[2]}.nii", image)
        mask = Subject("s", {"T1w": path}, brain="image").mask()
        assert mask.shape == shape
        assert mask.sum() == (125 if shape[2] > 1 else 25)


def test_functions_may_take_the_place_of_files(make_subject):
    first = make_subject()
    labels = np.take(VALUES, first.labels())
    images = {"T1w": lambda: first.volume("T1w")}
    subject = Subject("computed", images, lambda: labels, VALUES)
    np.testing.assert_array_equal(subject.image("T1w"), first.image("T1w"))
    np.testing.assert_array_equal(subject.labels(), first.labels())


def test_errors_name_subject_and_file(make_subject, tmp_path, arrays):
    subject = make_subject()
    with pytest.raises(FileNotFoundError, match=r"subject x: .*absent\.nii does not exist"):
        Subject("x", {"T1w": tmp_path / "absent.nii"})
    with pytest.raises(FileNotFoundError, match=r"subject x: .*absent\.nii does not exist"):
        Subject("x", subject.images, tmp_path / "absent.nii")
    with pytest.raises(ValueError, match="subject x has no images"):
        Subject("x", {})
    with pytest.raises(ValueError, match="brain is 'all': choose"):
        make_subject(brain="all")
    with pytest.raises(ValueError, match=r"subject sub-01 has no contrast 'PDw': choose.*T2w"):
        subject.image("PDw")
    with pytest.raises(ValueError, match="subject sub-01: there is no contrast 'solarised'"):
        subject.image("T1w:solarised")
    with pytest.raises(ValueError, match="subject sub-01: there is no contrast ''"):
        subject.image("T1w:")
    with pytest.raises(ValueError, match="subject sub-01 has no labels"):
        make_subject(segmentation=None).labels()
    unknown = make_subject(label_values=(0, 1))
    with pytest.raises(ValueError, match=r"sub-01: .*_dseg\.nii holds the labels \[4, 9\], but"):
        unknown.labels()
    damaged = make_subject()
    damaged.images["T2w"].write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"subject sub-01: .*sub-01_T2w\.nii is truncated"):
        damaged.image("T2w")
    removed = make_subject()
    removed.images["T2w"].unlink()
    with pytest.raises(FileNotFoundError, match=r"subject sub-01: .*sub-01_T2w\.nii does not"):
        removed.image("T2w")


def test_grids_must_agree(make_subject, tmp_path, arrays):
    shifted = LAS.copy()
    shifted[0, 3] = 0.01
    with pytest.raises(ValueError, match=r"sub-01: .*_T2w\.nii lies on another grid.*_T1w\.nii"):
        make_subject(t2_affine=shifted).image("T2w")
    with pytest.raises(ValueError, match=r"subject sub-01: .*_dseg\.nii lies on another grid"):
        make_subject(labels_affine=shifted).labels()
    smaller = save(tmp_path / "smaller.nii", arrays[2][1:])
    with pytest.raises(ValueError, match=r"smaller\.nii lies on another grid, shape \(7, 9, 10\)"):
        make_subject(segmentation=smaller).labels()
    shifted[0, 3] = 0.0005
    assert make_subject(t2_affine=shifted, labels_affine=shifted).labels().any()


def test_cohort_has_names_in_the_order_of_the_table(cohort):
    assert len(cohort) == 10
    assert [subject.name for subject in cohort][:2] == ["sub-01", "sub-02"]
    assert cohort.contrasts == ("T1w", "T2w")
    assert cohort.label_names == {1: "one", 2: "nine", 3: "four"}
    assert cohort.label_values == (0, 1, 9, 4)
    assert cohort.num_labels == 4


def test_split_shares_out_by_the_seed(cohort):
    parts = cohort.split((5, 2, 2), seed=3)
    assert [len(part) for part in parts] == [5, 2, 2]
    names = [name for part in parts for name in part.names]
    assert len(set(names)) == 9
    assert [part.names for part in parts] == [part.names for part in cohort.split((5, 2, 2), 3)]
    assert [part.names for part in parts] != [part.names for part in cohort.split((5, 2, 2), 4)]
    assert [len(part) for part in cohort.split((10, 0, 0))] == [10, 0, 0]
    assert parts[0].label_names == cohort.label_names


@pytest.mark.parametrize("sizes", [(9, 1, 1), (5, 5), (-1, 5, 5)])
def test_split_sizes_must_fit(cohort, sizes):
    with pytest.raises(ValueError, match="of 10 subjects: give three numbers"):
        cohort.split(sizes)


def test_select_keeps_the_order_asked_for(cohort):
    assert cohort.select(["sub-03", "sub-01"]).names == ("sub-03", "sub-01")
    with pytest.raises(ValueError, match=r"no subjects \['sub-99'\]: choose from \['sub-01'"):
        cohort.select(["sub-01", "sub-99"])


def test_cohorts_that_cannot_be(make_subject):
    subject = make_subject()
    with pytest.raises(ValueError, match="there are no subjects"):
        make_cohort([], TABLE)
    with pytest.raises(ValueError, match=r"\['sub-01'\] occur more than once"):
        make_cohort([subject, subject], TABLE)
    with pytest.raises(ValueError, match=r"\['sub-01'\] have other label values than \(0, 1\)"):
        make_cohort([subject], {1: "one"})
    other = Subject("other", {"CT": subject.images["T1w"]}, label_values=VALUES)
    with pytest.raises(ValueError, match="no contrast is common to all"):
        make_cohort([subject, other], TABLE)


def test_labels_of_a_network_come_in_its_order(cohort):
    found = cohort.with_labels(["four", "absent", "one", "nine"])
    assert found.label_names == {1: "four", 2: "absent", 3: "one", 4: "nine"}
    assert found.num_labels == 5
    before, after = (part.subjects[0].labels() for part in (cohort, found))
    np.testing.assert_array_equal(after, np.array([0, 3, 4, 1])[before])
    assert cohort.with_labels(["one", "nine", "four"]).label_values == cohort.label_values
    with pytest.raises(ValueError, match=r"the labels \['four'\] are not among \['one', 'nine'\]"):
        cohort.with_labels(["one", "nine"])
    with pytest.raises(ValueError, match="must all be different"):
        cohort.with_labels(["one", "nine", "four", "one"])


@pytest.mark.parametrize(("size", "fits"), [(2.015, True), (2.03, False), (1.0, False)])
def test_voxel_sizes_must_agree(make_subject, tmp_path, arrays, size, fits):
    """Though the shapes do, as of two fields of view."""
    affine = np.diag([-2, size, 2, 1])
    image, _, labels = arrays
    images = {"T1w": save(tmp_path / "image.nii", image, affine)}
    other = Subject("other", images, save(tmp_path / "labels.nii", labels, affine), VALUES)
    pair = make_cohort([make_subject(), other], TABLE)
    for cut in (slices, lambda *arguments: stack_cohort(*arguments, ndim=3)):
        if fits:
            assert len(set(cut(pair, "T1w")[2])) == 2
        else:
            with pytest.raises(
                ValueError,
                match=rf"other has voxels of 2 x {size:g} x 2 mm, sub-01 of 2 x 2 x 2 mm: resample",
            ):
                cut(pair, "T1w")


def test_slices_are_the_same_for_all_contrasts(cohort):
    pair = cohort.select(["sub-02", "sub-01"])
    images, labels, names = slices(pair, "T1w", "axial", count=4, center_label="nine")
    assert images.shape == (8, 8, 9, 1)
    assert labels.shape == (8, 8, 9)
    assert names.tolist() == ["sub-02"] * 4 + ["sub-01"] * 4
    # The label lies in slices 3 and 4: two more are 2 and 5.
    np.testing.assert_array_equal(labels[:4], np.moveaxis(pair.subjects[0].labels(), 2, 0)[2:6])
    volume = pair.subjects[0].image("T1w")
    np.testing.assert_array_equal(images[:4, ..., 0], np.moveaxis(volume, 2, 0)[2:6])
    inverted, same_labels, _ = slices(pair, "T1w:inverted", "axial", count=4, center_label="nine")
    np.testing.assert_array_equal(labels, same_labels)
    np.testing.assert_array_equal(inverted[..., 0], np.where(labels > 0, 1 - images[..., 0], 0))


def test_slices_around_the_middle(cohort):
    _, labels, _ = slices(cohort.select(["sub-01"]), "T1w", count=3)
    np.testing.assert_array_equal(labels, np.moveaxis(cohort.subjects[0].labels(), 1, 0)[3:6])
    assert len(slices(cohort, "T1w", count=9)[0]) == 90


def test_subjects_of_one_slice_give_it(tmp_path):
    image, labels = np.eye(6, 5, dtype=np.float32), np.eye(6, 5, dtype=np.uint8)
    subject = Subject(
        "flat",
        {"T1w": save(tmp_path / "image.nii", image[..., None])},
        save(tmp_path / "labels.nii", labels[..., None]),
        (0, 1),
    )
    images, label_maps, names = slices(make_cohort([subject], {1: "one"}), "T1w")
    assert images.shape == (1, 6, 5, 1)
    np.testing.assert_array_equal(label_maps[0], labels[::-1])
    assert names.tolist() == ["flat"]


def test_slices_that_cannot_be(cohort, make_subject, tmp_path):
    with pytest.raises(ValueError, match="plane is 'oblique'"):
        slices(cohort, "T1w", "oblique")
    with pytest.raises(ValueError, match="0 slices of 10 subjects"):
        slices(cohort, "T1w", count=0)
    with pytest.raises(ValueError, match="3 slices of 0 subjects"):
        slices(cohort.select([]), "T1w", count=3)
    with pytest.raises(ValueError, match=r"no label 'THA': choose from \['one', 'nine', 'four'\]"):
        slices(cohort, "T1w", center_label="THA")
    with pytest.raises(ValueError, match="sub-01 has 9 slices, of which 10 around"):
        slices(cohort, "T1w", count=10)
    with pytest.raises(ValueError, match=r"sub-01 has 10 slices, of which 10 around 3\.5 reach"):
        slices(cohort, "T1w", "axial", count=10, center_label="nine")
    larger = np.zeros((8, 9, 11), np.uint8)
    larger[4] = 1
    subject = Subject(
        "larger",
        {"T1w": save(tmp_path / "larger.nii", larger.astype(np.float32))},
        save(tmp_path / "larger_dseg.nii", larger),
        VALUES,
    )
    with pytest.raises(ValueError, match=r"larger has the shape \(8, 9, 11\), sub-01 \(8, 9, 10\)"):
        slices(make_cohort([make_subject(), subject], TABLE), "T1w", count=1)
    with pytest.raises(ValueError, match="subject larger has no voxel of the label 'nine'"):
        slices(make_cohort([subject], TABLE), "T1w", count=1, center_label="nine")


def test_labels_of_few_structures_are_no_mask_of_the_brain(tmp_path):
    ball = np.linalg.norm(np.indices((21, 21, 21)) - 10, axis=0)
    image = save(tmp_path / "T1w.nii", np.where(ball < 8, 2 + ball, 0).astype(np.float32))
    for radius, masked in ((3, 8), (7, 7)):
        labels = save(tmp_path / f"{radius}.nii", (ball < radius).astype(np.uint8))
        subject = Subject("s", {"T1w": image}, labels, (0, 1))
        np.testing.assert_array_equal(subject.mask(), ball < masked)
        remapped = subject.image("T1w:inverted")
        assert np.count_nonzero(remapped) > 0.9 * np.count_nonzero(ball < masked)


def test_volumes_of_a_single_slice_do_not_say_where_the_slice_lies(tmp_path):
    image = np.random.default_rng(0).random((8, 1, 9), np.float32)
    subject = Subject("s", {"T1w": save(tmp_path / "T1w.nii", image)})
    assert View(2, "coronal", 1).coverage(make_cohort([subject], None), "T1w") is None
