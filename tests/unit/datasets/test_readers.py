"""Readers of published datasets: neurite-OASIS, IXI and BIDS."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from cifl_tf._notes import Note
from cifl_tf.datasets import read_bids, read_ixi, read_oasis, slices
from cifl_tf.datasets.oasis import SEG35

NICHART = Path(__file__).parents[4] / "shared" / "data" / "nichart"
IMAGE = np.arange(5 * 6 * 7, dtype=np.float32).reshape(5, 6, 7)
LABELS = (IMAGE.astype(np.uint8) % 5).astype(np.uint8)


def save(path, array, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def oasis(tmp_path):
    names = ["OASIS_OAS1_0001_MR1", "OASIS_OAS1_0002_MR1"]
    write(tmp_path / "subjects.txt", "\n".join(names) + "\n")
    for name in names:
        save(tmp_path / name / "slice_norm.nii.gz", IMAGE[..., :1])
        save(tmp_path / name / "slice_seg4.nii.gz", LABELS[..., :1])
        save(tmp_path / name / "aligned_norm.nii.gz", IMAGE)
        save(tmp_path / name / "aligned_seg4.nii.gz", LABELS)
        save(tmp_path / name / "aligned_seg35.nii.gz", LABELS * 7)
    return tmp_path


def test_oasis_slices(oasis):
    cohort = read_oasis(oasis)
    assert cohort.names == ("OASIS_OAS1_0001_MR1", "OASIS_OAS1_0002_MR1")
    assert cohort.contrasts == ("T1w",)
    assert list(cohort.label_names.values()) == [
        "Cortex",
        "Subcortical-Gray-Matter",
        "White-Matter",
        "CSF",
    ]
    images, labels, _ = slices(cohort, "T1w:inverted")
    assert images.shape == (2, 5, 6, 1)
    np.testing.assert_array_equal(labels[0], LABELS[..., 0])
    # The mask is that of the image: inverted, the darkest voxel inside is the brightest.
    assert cohort.subjects[0].mask().sum() == np.count_nonzero(IMAGE[..., :1])


def test_oasis_volumes(oasis):
    cohort = read_oasis(oasis, 3, "seg35")
    assert len(cohort.label_names) == len(set(SEG35.values())) == 35
    assert cohort.label_names[7] == "Left-Thalamus"
    assert cohort.label_names[35] == "Right-Choroid-Plexus"
    assert np.unique(cohort.subjects[0].labels()).tolist() == [0, 7, 14, 21, 28]
    assert len(read_oasis(oasis, 3).label_names) == 4


def test_oasis_tables_of_the_release_come_first(oasis):
    table = (
        "# colors\n0 Unknown 0 0 0 0\n4 Fluid 1 2 3 0\n3 White 1 2 3 0\n1 A 0 0 0 0\n2 B 0 0 0 0"
    )
    write(oasis / "seg4_labels.txt", table)
    cohort = read_oasis(oasis)
    assert cohort.label_names == {1: "Fluid", 2: "White", 3: "A", 4: "B"}
    np.testing.assert_array_equal(
        np.take(cohort.label_values, cohort.subjects[0].labels()), LABELS[..., :1]
    )


def test_oasis_errors(oasis):
    with pytest.raises(ValueError, match="ndim is 4: give 2"):
        read_oasis(oasis, 4)
    with pytest.raises(ValueError, match=r"segmentation is 'seg35': in 2D choose from \('seg4'"):
        read_oasis(oasis, 2, "seg35")
    with pytest.raises(FileNotFoundError, match=r"seg24_labels\.txt does not exist"):
        read_oasis(oasis, 2, "seg24")
    (oasis / "OASIS_OAS1_0002_MR1" / "slice_seg4.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"subject OASIS_OAS1_0002_MR1: .*slice_seg4"):
        read_oasis(oasis)
    with pytest.warns(Note, match=r"1 of 2 subjects .*: OASIS_OAS1_0002_MR1 \(.*does not exist"):
        assert read_oasis(oasis, skip_incomplete=True).names == ("OASIS_OAS1_0001_MR1",)
    (oasis / "OASIS_OAS1_0001_MR1" / "slice_norm.nii.gz").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"no complete subject: .*slice_norm.* is empty"):
        read_oasis(oasis, skip_incomplete=True)
    write(oasis / "subjects.txt", "\n")
    with pytest.raises(ValueError, match="names no subjects"):
        read_oasis(oasis)
    with pytest.raises(FileNotFoundError, match=r"subjects\.txt does not exist: give the folder"):
        read_oasis(oasis / "absent")


def smooth(affine, shape):
    """An image of the world coordinates, so that the same place has the same value."""
    voxels = np.moveaxis(np.indices(shape), 0, -1)
    world = voxels @ affine[:3, :3].T + affine[:3, 3]
    return (100 + world @ [1.0, 2.0, 3.0]).astype(np.float32)


@pytest.fixture(params=["together", "apart"])
def ixi(tmp_path, request):
    fine, coarse = np.eye(4), np.diag([-2.0, 2.0, 2.0, 1.0])
    coarse[:3, 3] = [22, -4, -4]
    for name in ("IXI012-HH-1211", "IXI002-Guys-0828"):
        for suffix, affine, shape in (
            ("T1", fine, (16, 15, 14)),
            ("T2", coarse, (13, 12, 12)),
            ("PD", coarse, (13, 12, 12)),
        ):
            folder = tmp_path / f"IXI-{suffix}" if request.param == "apart" else tmp_path
            save(folder / f"{name}-{suffix}.nii.gz", smooth(affine, shape), affine)
    write(tmp_path / "IXI.xls", "")
    return tmp_path


def test_ixi_images_share_the_grid_of_t1(ixi):
    cohort = read_ixi(ixi)
    assert cohort.names == ("IXI002-Guys-0828", "IXI012-HH-1211")
    assert cohort.contrasts == ("T1w", "T2w", "PDw")
    assert cohort.label_names == {}
    subject = cohort.subjects[0]
    assert subject.image("PDw").shape == (16, 15, 14)
    expected = smooth(np.eye(4), (16, 15, 14))
    np.testing.assert_allclose(
        subject.volume("T2w").data[3:-3, 3:-3, 3:-3], expected[3:-3, 3:-3, 3:-3], atol=0.5
    )
    with pytest.raises(ValueError, match="subject IXI002-Guys-0828 has no labels"):
        subject.labels()


def test_ixi_incomplete_subjects(ixi):
    next(ixi.rglob("IXI002-Guys-0828-T2.nii.gz")).unlink()
    with pytest.raises(FileNotFoundError, match=r"IXI002-Guys-0828: .*-T2\.nii\.gz does not"):
        read_ixi(ixi)
    with pytest.warns(Note, match=r"^1 of 2 subjects .*: IXI002-Guys-0828 \(.*not exist\)$"):
        assert read_ixi(ixi, skip_incomplete=True).names == ("IXI012-HH-1211",)
    assert len(read_ixi(ixi, ("PDw", "T1w"))) == 2
    empty = next(ixi.rglob("IXI012-HH-1211-PD.nii.gz"))
    empty.write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"IXI012-HH-1211: .*-PD\.nii\.gz is empty"):
        read_ixi(ixi, ("T1w", "PDw"))


def test_ixi_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no IXI subject"):
        read_ixi(tmp_path)
    with pytest.raises(ValueError, match=r"contrasts are \('T1',\): choose from"):
        read_ixi(tmp_path, ("T1",))
    with pytest.raises(ValueError, match="contrasts are"):
        read_ixi(tmp_path, ())


TSV = "index\tname\tabbreviation\n0\tbackground\tBG\n4\tfour\tF\n1\tone\t\n2\ttwo\tT\n3\tthree\tH\n"


@pytest.fixture
def bids(tmp_path):
    for subject in ("sub-02", "sub-01"):
        anat = tmp_path / subject / "anat"
        save(anat / f"{subject}_desc-brain_T1w.nii.gz", IMAGE)
        save(anat / f"{subject}_desc-brain_FLAIR.nii", IMAGE[::-1])
        save(anat / f"{subject}_desc-tissue_dseg.nii.gz", LABELS)
        save(anat / f"{subject}_desc-fine_dseg.nii.gz", LABELS * 10)
        save(anat / f"{subject}_dseg.nii.gz", LABELS.clip(0, 1))
        write(anat / f"{subject}_desc-brain_T1w.json", "{}")
    write(tmp_path / "desc-tissue_dseg.tsv", TSV)
    return tmp_path


def test_bids_derivative(bids):
    cohort = read_bids(bids)
    assert cohort.names == ("sub-01", "sub-02")
    assert cohort.contrasts == ("T1w", "FLAIR")
    assert cohort.label_names == {1: "F", 2: "one", 3: "T", 4: "H"}
    assert cohort.label_values == (0, 4, 1, 2, 3)
    subject = cohort.subjects[0]
    np.testing.assert_array_equal(np.take(cohort.label_values, subject.labels()), LABELS)
    np.testing.assert_array_equal(subject.mask(), LABELS > 0)
    assert read_bids(bids, ["FLAIR"], brain="image").subjects[0].contrasts == ("FLAIR",)


def test_bids_without_a_table_names_what_occurs(bids):
    cohort = read_bids(bids, segmentation="fine")
    assert cohort.label_names == {1: "10", 2: "20", 3: "30", 4: "40"}
    np.testing.assert_array_equal(cohort.subjects[0].labels(), LABELS)
    assert read_bids(bids, segmentation="").label_values == (0, 1)


def test_bids_table_beside_the_segmentations(bids):
    (bids / "desc-tissue_dseg.tsv").unlink()
    for subject in ("sub-01", "sub-02"):
        write(bids / subject / "anat" / f"{subject}_desc-tissue_dseg.tsv", TSV)
    assert read_bids(bids).label_names[1] == "F"
    write(bids / "sub-02" / "anat" / "sub-02_desc-tissue_dseg.tsv", TSV.replace("two", "2"))
    assert read_bids(bids).label_names[1] == "F"  # the abbreviation, not the name
    write(bids / "sub-02" / "anat" / "sub-02_desc-tissue_dseg.tsv", TSV.replace("\tT", "\tU"))
    with pytest.raises(ValueError, match=r"sub-02_desc-tissue_dseg\.tsv differs from .*sub-01"):
        read_bids(bids)


def test_bids_raw_with_sessions_and_runs(tmp_path):
    for session in ("1", "2"):
        for run in ("1", "2"):
            name = f"sub-a_ses-{session}_run-{run}_T1w.nii.gz"
            save(tmp_path / "sub-a" / f"ses-{session}" / "anat" / name, IMAGE + int(session))
    with pytest.raises(
        ValueError, match=r"sub-a: .*any of \['sub-a_ses-1_run-1_T1w.*pass entities"
    ):
        read_bids(tmp_path, segmentation=None)
    cohort = read_bids(tmp_path, segmentation=None, entities={"run": "2"})
    assert cohort.subjects[0].images["T1w"].name == "sub-a_ses-1_run-2_T1w.nii.gz"
    assert cohort.subjects[0].mask().any()
    with pytest.raises(ValueError, match="subject sub-a has no labels"):
        cohort.subjects[0].labels()
    second = read_bids(tmp_path, segmentation=None, session="2", entities={"run": "1"})
    assert second.subjects[0].images["T1w"].name == "sub-a_ses-2_run-1_T1w.nii.gz"
    with pytest.raises(FileNotFoundError, match="no image that every subject has"):
        read_bids(tmp_path, segmentation=None, session="3")


def test_bids_entities_may_be_absent(bids):
    save(bids / "sub-01" / "anat" / "sub-01_space-MNI_desc-brain_T1w.nii.gz", IMAGE)
    with pytest.raises(ValueError, match=r"subject sub-01: sub-01\*_T1w\.nii\.gz may be any of"):
        read_bids(bids)
    cohort = read_bids(bids, entities={"space": None})
    assert cohort.subjects[0].images["T1w"].name == "sub-01_desc-brain_T1w.nii.gz"


def test_bids_errors(bids, tmp_path):
    (bids / "sub-02" / "anat" / "sub-02_desc-brain_FLAIR.nii").unlink()
    assert read_bids(bids).contrasts == ("T1w",)
    with pytest.raises(FileNotFoundError, match=r"subject sub-02: there is no sub-02\*_FLAIR"):
        read_bids(bids, ["T1w", "FLAIR"])
    with pytest.warns(Note, match=r"1 of 2 subjects .*: sub-02 \(there is no sub-02\*_FLAIR\.nii"):
        assert read_bids(bids, ["T1w", "FLAIR"], skip_incomplete=True).names == ("sub-01",)
    with pytest.raises(FileNotFoundError, match="has no complete subject"):
        read_bids(bids, ["CT"], skip_incomplete=True)
    with pytest.raises(FileNotFoundError, match=r"no sub-01\*_desc-x_dseg.*segmentation=None"):
        read_bids(bids, segmentation="x")
    with pytest.raises(FileNotFoundError, match=r"holds no folders sub-\*"):
        read_bids(tmp_path / "absent")


@pytest.mark.skipif(not NICHART.is_dir(), reason=f"{NICHART} is absent: real data, not published")
def test_nichart():
    cohort = read_bids(NICHART)
    assert len(cohort) == 16
    assert cohort.contrasts == ("T1w", "FLAIR")
    assert cohort.label_names == {1: "WM", 2: "GM", 3: "CSF", 4: "THA"}
    pair = cohort.select(["sub-01", "sub-16"])
    images, labels, _ = slices(pair, "FLAIR", center_label="THA")
    assert images.shape == (18, 99, 95, 1)
    assert all((part == 4).any() for part in labels)
    t1 = slices(pair, "T1w", center_label="THA")[0]
    inverted = slices(pair, "T1w:inverted", center_label="THA")[0]
    np.testing.assert_array_equal(inverted[labels > 0], 1 - t1[labels > 0])
    assert not inverted[labels == 0].any()
    muse = read_bids(NICHART, segmentation="muse")
    assert len(muse.label_names) > 100
    assert muse.subjects[0].labels().max() <= len(muse.label_names)
