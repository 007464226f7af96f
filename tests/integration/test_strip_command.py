import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from matplotlib.image import imread

import cifl_tf
from balls import ball_head, ball_stripper
from cifl_tf.images.preprocessing import Preprocessing, exact_voxel_size
from cifl_tf.stripping.network import build_stripper
from command_runner import run_here

RAW = Path(__file__).parents[3] / "shared" / "data" / "raw"
WRITTEN = {"figures", "report.html", "run.json"}


@pytest.fixture
def head(tmp_path, rng):
    """A file of thick slices that are not in the canonical order."""
    data = rng.random((20, 6, 24)).astype(np.float32) + 0.1
    affine = np.array([[0, 0, -8.0, 90], [8, 0, 0, -80], [0, 24, 0, -70], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(data, affine), tmp_path / "head.nii.gz")
    return tmp_path / "head.nii.gz"


def test_brains_masks_and_pictures_are_written(head, tmp_path):
    model, out = tmp_path / "stripper.keras", tmp_path / "out"
    network = build_stripper(2, 2)
    network.layers[-3].bias.assign([-0.5])  # of the last convolution: most is brain
    cifl_tf.Stripper(network, Preprocessing(exact_voxel_size([8, 8, 8]))).save(model)
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    images = [tmp_path / "broken.nii.gz", head]
    done = run_here("strip", *images, "--model", model, "--out", out)
    assert done.exit_code == 1
    assert done.stdout == f"{out / 'head_brain.nii.gz'}\n"
    assert "broken.nii.gz" in done.stderr.splitlines()[-1]
    found = {path.name for path in out.iterdir()}
    assert found == {"head_brain.nii.gz", "head_brain_mask.nii.gz", *WRITTEN}
    scan = nibabel.load(head)
    brain, mask = (nibabel.load(out / f"head_{name}.nii.gz") for name in ("brain", "brain_mask"))
    for image in (brain, mask):
        assert image.shape == scan.shape
        np.testing.assert_allclose(image.affine, scan.affine)
    inside = np.asarray(mask.dataobj) > 0
    assert mask.get_data_dtype() == np.uint8
    assert 0 < inside.mean() <= 1
    np.testing.assert_array_equal(brain.get_fdata()[inside], scan.get_fdata()[inside])
    assert not brain.get_fdata()[~inside].any()
    assert imread(out / "figures" / "head_strip.png").std() > 0.05
    failed, written = json.loads((out / "run.json").read_text())["runs"][0]["inputs"]
    assert failed["outcome"] == "failed"
    assert written["numbers"] == {"brain (ml)": pytest.approx(inside.sum() * 1.536, abs=0.1)}
    if written["numbers"]["brain (ml)"] > 2200:
        assert "brains of adults" in (out / "report.html").read_text()


@pytest.mark.skipif(not RAW.exists(), reason="the real heads are not here")
@pytest.mark.parametrize("contrast", ["T1", "FL"])
def test_a_real_head_that_training_has_not_seen(contrast, tmp_path):
    image = RAW / f"Subj1_{contrast}.nii.gz"
    assert run_here("strip", image, "--out", tmp_path).exit_code == 0
    mask = nibabel.load(tmp_path / f"Subj1_{contrast}_brain_mask.nii.gz")
    labels = nibabel.load(RAW / "Subj1_T1_DLMUSE.nii.gz")
    # Every voxel of the mask in the label map's own grid, by the headers.
    voxels = np.argwhere(np.asarray(labels.dataobj) > 0)
    places = np.linalg.solve(mask.affine, labels.affine) @ np.c_[voxels, np.ones(len(voxels))].T
    nearest = np.rint(places[:3]).astype(int)
    kept = (nearest >= 0).all(axis=0) & (mask.shape > nearest.T).all(axis=1)
    inside = np.asarray(mask.dataobj)[tuple(nearest[:, kept])] > 0
    # The labels leave fluid out, so that the mask is larger.
    assert inside.mean() > 0.9
    volume = np.abs(np.linalg.det(labels.affine[:3, :3])) * len(voxels) / 1000
    size = np.abs(np.linalg.det(mask.affine[:3, :3])) * np.sum(np.asarray(mask.dataobj)) / 1000
    assert volume < size < 1.35 * volume


def test_a_label_map_and_a_brain_without_skull_are_noted(tmp_path, monkeypatch):
    head, mask = ball_head()
    brain = nibabel.Nifti1Image(np.asarray(head.dataobj) * np.asarray(mask.dataobj), head.affine)
    for name, image in {"head": head, "brain": brain, "labels": mask}.items():
        nibabel.save(image, tmp_path / f"{name}.nii.gz")
    ball = ball_stripper()
    monkeypatch.setattr(cifl_tf.Stripper, "from_pretrained", lambda *_: ball)
    images = [tmp_path / f"{name}.nii.gz" for name in ("head", "brain", "labels")]
    done = run_here("strip", *images, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    notes = [line for line in done.stderr.splitlines() if "brains of adults" not in line]
    assert [("labels.nii" in line, "looks like a label map" in line) for line in notes] == [
        (False, False),
        (True, True),
        (True, False),
    ]
    assert ["brain without skull already" in line for line in notes] == [True, False, True]
