import csv

import nibabel
import numpy as np
import pytest
from matplotlib.image import imread

from cifl_tf.segmentation.refinement import refine
from command_runner import run_here


def test_train_and_apply(model_folder, dataset, tmp_path):
    folder = tmp_path / "segmenter"
    options = ["--steps", 4, "--num-slices", 3, "--test-subjects", "sub-4"]
    options += ["--encoder", model_folder, "--data", dataset]
    assert run_here("segment", "train", "--out", folder, *options).exit_code == 0
    image = dataset / "sub-4" / "anat" / "sub-4_FLAIR.nii.gz"
    out = tmp_path / "out"
    done = run_here("segment", "apply", image, "--model", folder, "--out", out, "--probabilities")
    assert done.exit_code == 0
    assert done.stdout == f"{out / 'sub-4_FLAIR_dseg.nii.gz'}\n"
    assert {path.name for path in out.iterdir()} == {
        "sub-4_FLAIR_dseg.nii.gz",
        "figures",
        "report.html",
        "sub-4_FLAIR_probseg.nii.gz",
        "volumes.csv",
        "run.json",
    }
    original, labels = nibabel.load(image), nibabel.load(out / "sub-4_FLAIR_dseg.nii.gz")
    assert labels.shape == original.shape
    np.testing.assert_allclose(labels.affine, original.affine)
    values = np.asarray(labels.dataobj)
    probabilities = nibabel.load(out / "sub-4_FLAIR_probseg.nii.gz").get_fdata()
    np.testing.assert_array_equal(values, probabilities.argmax(axis=-1))
    with (out / "volumes.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert list(row) == ["image", "WM", "GM", "CSF", "THA", "slices beyond training"]
    beyond = int(row["slices beyond training"])
    assert beyond > 10  # of a segmenter that has seen three slices in the middle
    assert f"{beyond} slices of {image} have labels, but show a part" in done.stderr
    assert float(row["WM"]) == pytest.approx(np.sum(values == 1) * 6**3)
    assert imread(out / "figures" / "sub-4_FLAIR_dseg.png").std() > 0.05
    page = (out / "report.html").read_text()
    assert f"{beyond} slices of {image} have labels" in page
    assert f"{float(row['WM']):,.0f}</td>" in page

    refined = tmp_path / "refined"
    run_here("segment", "apply", image, "--model", folder, "--out", refined, "--refine")
    found = np.asarray(nibabel.load(refined / "sub-4_FLAIR_dseg.nii.gz").dataobj)
    expected = refine(original.get_fdata(), probabilities, original.header.get_zooms())
    np.testing.assert_array_equal(found, expected.argmax(axis=-1))
    assert (found != values).any()


def test_slices_are_segmented_and_the_table_grows(dataset, tmp_path):
    folder = tmp_path / "segmenter"
    options = ["--steps", 1, "--num-slices", 2, "--encoder", "intensity", "--data", dataset]
    assert run_here("segment", "train", "--out", folder, *options).exit_code == 0
    volume = nibabel.load(dataset / "sub-1" / "anat" / "sub-1_T1w.nii.gz")
    array = np.asarray(volume.dataobj)[:, 16]
    out = tmp_path / "out"
    for name in ("first", "second"):
        nibabel.save(nibabel.Nifti1Image(array, volume.affine), tmp_path / f"{name}.nii.gz")
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    apply = ["segment", "apply", "--model", folder, "--out", out]
    assert run_here(*apply, tmp_path / "first.nii.gz").exit_code == 0
    files = [tmp_path / "second.nii.gz", tmp_path / "broken.nii.gz"]
    done = run_here(*apply, *files)
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert nibabel.load(out / "first_dseg.nii.gz").shape == array.shape
    assert imread(out / "figures" / "second_dseg.png").std() > 0
    with (out / "volumes.csv").open() as file:
        rows = [row["image"] for row in csv.DictReader(file)]
    assert rows == [str(tmp_path / f"{name}.nii.gz") for name in ("first", "second")]
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert page.count("<h3>cifl segment apply</h3>") == 2
    assert "1 failed" in page


def test_unknown_subject_is_one_line(dataset, tmp_path):
    options = ["--encoder", "intensity", "--data", dataset, "--out", tmp_path / "segmenter"]
    done = run_here("segment", "train", *options, "--test-subjects", "sub-9")
    assert done.exit_code == 1
    assert done.stderr.startswith("cifl: there are no subjects ['sub-9']")
    assert done.stderr.count("\n") == 1
    both = ["--test-subjects", "sub-1", "--validation-subjects", "sub-1"]
    done = run_here("segment", "train", *options, *both)
    assert done.stderr.startswith("cifl: ['sub-1'] are in --test-subjects and --validation-")
    flip = ["--flip", "--plane", "sagittal"]
    done = run_here("segment", "train", *options, *flip)
    assert "sagittal slices do not show" in done.stderr
    done = run_here("segment", "train", *options, "--zoom", "large")
    assert done.stderr == "cifl: --zoom is 'large'; give numbers, such as 0.9,1.5\n"
    assert not (tmp_path / "segmenter").exists()
