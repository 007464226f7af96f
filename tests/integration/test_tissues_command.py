import json

import nibabel
import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from cifl_tf.images.preprocessing import Preprocessing, exact_voxel_size
from cifl_tf.segmentation.segmenter import Segmenter
from cifl_tf.tissues.network import TISSUES, build_tissue_network
from command_runner import run_here

GRID = np.array([[0, 0, -4.0, 60], [4, 0, 0, -70], [0, 4, 0, -50], [0, 0, 0, 1]])
NAMES = list(TISSUES.values())


@pytest.fixture
def model(tmp_path):
    size = Preprocessing(exact_voxel_size([4, 4, 4]))
    network = build_tissue_network(2, 2)
    segmenter = Segmenter(network, size, ["background", *NAMES], field_margin=8.0)
    segmenter.save(tmp_path / "segmenter.keras")
    return tmp_path / "segmenter.keras"


@pytest.fixture
def brain(tmp_path, rng):
    distance = np.linalg.norm(np.indices((30, 28, 26)) - 13, axis=0)
    scan = np.where(distance < 11, 50 + 20 * rng.random(distance.shape), 0)
    nibabel.save(nibabel.Nifti1Image(scan.astype(np.float32), GRID), tmp_path / "brain.nii.gz")
    return tmp_path / "brain.nii.gz"


def test_labels_masks_volumes_and_a_report_are_written(model, brain, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    done = run_here(
        *("segment", tmp_path / "broken.nii.gz", brain, "--model", model),
        *("--stripped", "--probabilities", "--out", out),
    )
    assert done.exit_code == 1
    assert done.stdout == f"{out / 'brain_dseg.nii.gz'}\n"
    assert "broken.nii.gz" in done.stderr.splitlines()[-1]
    scan, labels, mask, shares = (
        nibabel.load(path)
        for path in (
            brain,
            *(out / f"brain_{name}.nii.gz" for name in ("dseg", "brain_mask", "probseg")),
        )
    )
    for image in (labels, mask, shares):
        assert image.shape[:3] == scan.shape
        np.testing.assert_allclose(image.affine, scan.affine)
    np.testing.assert_array_equal(np.asarray(mask.dataobj) > 0, scan.get_fdata() > 0)
    np.testing.assert_array_equal(labels.get_fdata(), shares.get_fdata().argmax(axis=-1))
    assert imread(out / "figures" / "brain_dseg.png").std() > 0.05
    row = pd.read_csv(out / "volumes.csv", index_col="image").loc[str(brain)]
    counts = np.bincount(labels.get_fdata().astype(int).ravel(), minlength=6)[1:] * 64
    np.testing.assert_allclose(row[NAMES].astype(float), counts)
    assert row["brain"] == pytest.approx((scan.get_fdata() > 0).sum() * 64)
    assert 1 / 6 <= row["certainty"] <= 1
    failed, written = json.loads((out / "run.json").read_text())["runs"][0]["inputs"]
    assert failed["outcome"] == "failed"
    assert written["numbers"]["gray matter (ml)"] == pytest.approx(counts[1] / 1000, abs=0.06)
    assert "gray matter (ml)" in (out / "report.html").read_text()


def test_a_segmenter_of_the_package_is_named_in_the_error_when_there_is_none(brain, tmp_path):
    done = run_here("segment", brain, "--model", tmp_path / "none", "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert "none" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_segmenter_of_other_labels_is_refused_before_anything_is_written(brain, tmp_path):
    network = build_tissue_network(2, 2)
    names = ["background", *(f"lesion {number}" for number in range(5))]
    Segmenter(network, label_names=names).save(tmp_path / "lesions.keras")
    done = run_here(
        "segment", brain, "--model", tmp_path / "lesions.keras", "--out", tmp_path / "out"
    )
    assert done.exit_code == 1
    assert "cifl segment apply" in done.stderr
    assert not (tmp_path / "out").exists()
