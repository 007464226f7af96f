import nibabel
import numpy as np
import pytest

from cifl_tf.datasets import load_cohort
from cifl_tf.datasets.catalog import same_people


def test_folder_is_recognized_by_what_it_holds(tmp_path, rng):
    labels = np.zeros((8, 8, 8), np.int16)
    labels[2:6, 2:6, 2:6] = 1
    for ending, data in (("T1w", rng.random((8, 8, 8))), ("desc-tissue_dseg", labels)):
        path = tmp_path / "bids" / "sub-1" / "anat" / f"sub-1_{ending}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), path)
    found = load_cohort(tmp_path / "bids")
    assert (found.names, found.num_labels) == (("sub-1",), 2)
    assert found.source == str(tmp_path / "bids")
    assert load_cohort(tmp_path / "bids", segmentation="none").num_labels == 1
    with pytest.raises(FileNotFoundError, match="desc-aseg_dseg"):
        load_cohort(tmp_path / "bids", segmentation="aseg")
    for contrast in ("T1", "T2", "PD"):
        path = tmp_path / "ixi" / f"IXI002-Guys-0828-{contrast}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(rng.random((8, 8, 8)), np.eye(4)), path)
    assert load_cohort(tmp_path / "ixi").contrasts == ("T1w", "T2w", "PDw")
    (tmp_path / "ixi" / "IXI003-Guys-0829-T1.nii.gz").touch()
    with pytest.raises(FileNotFoundError, match="IXI003-Guys-0829"):
        load_cohort(tmp_path / "ixi")
    assert len(load_cohort(tmp_path / "ixi", skip_incomplete=True)) == 1
    with pytest.raises(ValueError, match="segmentation is 'seg4', but IXI has none"):
        load_cohort(tmp_path / "ixi", segmentation="seg4")


def test_bids_entities_after_the_folder(tmp_path, rng, monkeypatch):
    for session in ("01", "02"):
        for entities in (f"ses-{session}", f"ses-{session}_space-MNI152Lin"):
            path = tmp_path / "sub-1" / f"ses-{session}" / "anat" / f"sub-1_{entities}_T1w.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(rng.random((8, 8, 8)), np.eye(4)), path)
    native = path.parent / "sub-1_ses-02_FLAIR.nii.gz"
    nibabel.save(nibabel.Nifti1Image(rng.random((8, 8, 8)), np.eye(4)), native)

    def images(entities):
        cohort = load_cohort(f"{tmp_path}:{entities}", segmentation="none")
        return {name: path.name for name, path in cohort.subjects[0].images.items()}

    assert images("ses-02,space-MNI152Lin") == {"T1w": "sub-1_ses-02_space-MNI152Lin_T1w.nii.gz"}
    assert images("space-") == {"T1w": "sub-1_ses-01_T1w.nii.gz"}
    assert images("space-,ses-02") == {"T1w": "sub-1_ses-02_T1w.nii.gz", "FLAIR": native.name}
    monkeypatch.chdir(tmp_path)
    again = load_cohort(".:space-,ses-02", segmentation="none")
    assert again.source == f"{tmp_path}:ses-02,space-"
    assert load_cohort(again.source, segmentation="none").source == again.source
    with pytest.raises(ValueError, match=r"may be any of .*in --data as .*:space-MNI152Lin"):
        load_cohort(tmp_path, segmentation="none")
    with pytest.raises(FileNotFoundError, match="no image_space-T1w that every subject has"):
        load_cohort(f"{tmp_path}:space-T1w", segmentation="none")


def test_a_folder_may_have_a_name_like_entities(tmp_path):
    folder = tmp_path / "study:ses-01"
    folder.mkdir()
    (folder / "IXI002-Guys-0828-T1.nii.gz").touch()
    with pytest.raises(FileNotFoundError, match="IXI002-Guys-0828"):
        load_cohort(folder)
    with pytest.raises(
        ValueError, match=r"chooses BIDS entities, but .*study:ses-01 holds no sub-"
    ):
        load_cohort(f"{folder}:ses-02")
    with pytest.raises(FileNotFoundError, match="study:1 is no folder"):
        load_cohort(tmp_path / "study:1")


def test_virtual_cohort_by_name():
    assert len(load_cohort("virtual")) == 20
    assert len(load_cohort("virtual:3")) == 3
    assert load_cohort("virtual:20").source == "virtual"
    assert load_cohort("virtual:3").source == "virtual:3"
    assert same_people("virtual", "virtual:3")
    assert not same_people("virtual", "/data/virtual")
    assert same_people("/data/a", "/data/a")


def test_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is no folder"):
        load_cohort("nowhere")
    with pytest.raises(ValueError, match="neither subjects"):
        load_cohort(tmp_path)
    (tmp_path / "subjects.txt").write_text("OASIS_OAS1_0001_MR1\n")
    with pytest.raises(FileNotFoundError, match="OASIS_OAS1_0001_MR1"):
        load_cohort(tmp_path)


def test_a_tilde_is_the_home_folder(tmp_path, rng, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "data" / "sub-1" / "anat" / "sub-1_T1w.nii.gz"
    path.parent.mkdir(parents=True)
    nibabel.save(nibabel.Nifti1Image(rng.random((8, 8, 8)), np.eye(4)), path)
    assert load_cohort("~/data", segmentation="none").source == str(tmp_path / "data")
