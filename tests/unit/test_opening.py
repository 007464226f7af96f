import nibabel
import numpy as np
import pytest

from cifl_tf.datasets import open_cohort


def test_folder_is_recognised_by_what_it_holds(tmp_path, rng):
    labels = np.zeros((8, 8, 8), np.int16)
    labels[2:6, 2:6, 2:6] = 1
    for ending, data in (("T1w", rng.random((8, 8, 8))), ("desc-tissue_dseg", labels)):
        path = tmp_path / "bids" / "sub-1" / "anat" / f"sub-1_{ending}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), path)
    found = open_cohort(tmp_path / "bids")
    assert (found.names, found.num_labels) == (("sub-1",), 2)
    assert found.source == str(tmp_path / "bids")
    assert open_cohort(tmp_path / "bids", segmentation="none").num_labels == 1
    with pytest.raises(FileNotFoundError, match="desc-aseg_dseg"):
        open_cohort(tmp_path / "bids", segmentation="aseg")
    for contrast in ("T1", "T2", "PD"):
        path = tmp_path / "ixi" / f"IXI002-Guys-0828-{contrast}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(rng.random((8, 8, 8)), np.eye(4)), path)
    assert open_cohort(tmp_path / "ixi").contrasts == ("T1w", "T2w", "PDw")
    (tmp_path / "ixi" / "IXI003-Guys-0829-T1.nii.gz").touch()
    with pytest.raises(FileNotFoundError, match="IXI003-Guys-0829"):
        open_cohort(tmp_path / "ixi")
    assert len(open_cohort(tmp_path / "ixi", skip_incomplete=True)) == 1
    with pytest.raises(ValueError, match="segmentation is 'seg4', but IXI has none"):
        open_cohort(tmp_path / "ixi", segmentation="seg4")


def test_virtual_cohort_by_name():
    assert len(open_cohort("virtual")) == 20
    assert len(open_cohort("virtual:3")) == 3
    assert open_cohort("virtual:3").source == "virtual"


def test_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is no folder"):
        open_cohort("nowhere")
    with pytest.raises(ValueError, match="neither subjects"):
        open_cohort(tmp_path)
    (tmp_path / "subjects.txt").write_text("OASIS_OAS1_0001_MR1\n")
    with pytest.raises(FileNotFoundError, match="OASIS_OAS1_0001_MR1"):
        open_cohort(tmp_path)
