import gzip
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tensorflow as tf
from matplotlib.image import imread

import cifl_tf

RAW = Path(__file__).parents[3] / "shared" / "data" / "raw"
AFFINE = np.array([[-2, 0, 0, 20], [0, 0, 2, -15], [0, 2, 0, -10], [0, 0, 0, 1]], np.float32)


@pytest.fixture
def head(tmp_path, rng):
    path = tmp_path / "head.nii.gz"
    image = rng.random((20, 22, 24)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(image, AFFINE), path)
    return path


def test_version_and_help(run_cifl):
    version = run_cifl("--version")
    assert version.stdout.startswith(f"cifl_tf {cifl_tf.__version__} ")
    assert version.stderr == ""
    text = run_cifl("--help").stdout
    assert all(name in text for name in ("train", "features", "export", "demo"))


def test_features(run_cifl, model_folder, head, tmp_path):
    done = run_cifl("features", head, "--model", model_folder, "--out", tmp_path / "new")
    target = tmp_path / "new" / "head_features.nii.gz"
    assert done.stdout == f"{target}\n"
    assert done.stderr == ""
    written = nibabel.load(target)
    np.testing.assert_array_equal(written.affine, AFFINE)
    expected = cifl_tf.features_of(head, cifl_tf.load_encoder(model_folder))
    np.testing.assert_allclose(written.get_fdata(), expected.get_fdata(), atol=1e-5)
    assert written.get_data_dtype() == np.float32


@pytest.mark.skipif(not RAW.is_dir(), reason="the real heads are not beside the repository")
def test_real_heads_come_back_on_their_own_grids(run_cifl, model_folder, tmp_path):
    heads = sorted(RAW.glob("*_T1.nii.gz")) + sorted(RAW.glob("*_FL.nii.gz"))
    assert len(heads) == 4
    run_cifl("features", *heads, "--model", model_folder, "--out", tmp_path, "--plane", "axial")
    for head in heads:
        image = nibabel.load(head)
        features = nibabel.load(tmp_path / head.name.replace(".nii.gz", "_features.nii.gz"))
        assert features.shape == (*image.shape, 3)
        np.testing.assert_allclose(features.affine, image.affine, atol=1e-6)
        assert np.isfinite(features.get_fdata()).all()


def test_export(run_cifl, model_folder, tmp_path, rng):
    run_cifl("export", "--model", model_folder, "--out", tmp_path / "saved_model")
    image = rng.random((1, 30, 31, 1)).astype(np.float32)
    features = tf.saved_model.load(str(tmp_path / "saved_model"))(image)["features"][0]
    expected = cifl_tf.features_of(image[0, ..., 0], cifl_tf.load_encoder(model_folder))
    np.testing.assert_allclose(features, expected, atol=1e-4)


def test_demo_of_a_trained_model(run_cifl, model_folder, tmp_path):
    done = run_cifl("demo", "--model", model_folder, "--out", tmp_path)
    rows = {
        match[1].strip(): [float(value) for value in match[2].split()]
        for match in re.finditer(r"^(.{20})((?:\s+-?\d\.\d+){2})", done.stdout, re.MULTILINE)
    }
    assert list(rows) == [
        "inverted",
        "gamma 0.4",
        "folded",
        "different channels",
        "unrelated images",
    ]
    assert all(-1 <= value <= 1 for values in rows.values() for value in values)
    for name in ("features.png", "synthesis.png"):
        picture = imread(tmp_path / name)
        assert min(picture.shape[:2]) > 100
        assert picture.std() > 0.05


def _save(path, array, affine=AFFINE):
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def _broken_images(folder):
    """Files that cannot be used, and what the error has to say."""
    smooth = np.linspace(0, 1, 512, dtype=np.float32).reshape(8, 8, 8)
    (folder / "text.nii").write_text("this is no image")
    _save(folder / "whole.nii.gz", np.random.default_rng(0).random((30, 30, 30)))
    (folder / "short.nii.gz").write_bytes((folder / "whole.nii.gz").read_bytes()[:-5000])
    plain = gzip.decompress((folder / "whole.nii.gz").read_bytes())
    (folder / "short.nii").write_bytes(plain[:-5000])
    _save(folder / "frames.nii", np.stack([smooth] * 5, axis=-1))
    _save(folder / "constant.nii", np.ones((8, 8, 8), np.float32))
    _save(folder / "nan.nii", np.where(smooth > 0.99, np.nan, smooth))
    (folder / "image.png").write_bytes(b"png")
    return {
        "text.nii": "damaged",
        "short.nii.gz": "truncated",
        "short.nii": "truncated",
        "frames.nii": "5 frames",
        "constant.nii": "constant",
        "nan.nii": "6 NaN",
        "image.png": "does not end in",
        "missing.nii": "does not exist",
    }


def assert_one_line_error(done, message):
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("cifl: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_bad_images(model_folder, tmp_path, capsys, monkeypatch):
    # In this process: nine starts of TensorFlow would take a minute.
    from cifl_tf.cli import main

    for name, message in _broken_images(tmp_path).items():
        arguments = [
            "features",
            tmp_path / name,
            "--model",
            model_folder,
            "--out",
            tmp_path / "out",
        ]
        monkeypatch.setattr("sys.argv", ["cifl", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("cifl: ")
        assert printed.err.count("\n") == 1
        assert name in printed.err
        assert message in printed.err
    assert not (tmp_path / "out").exists()


def test_one_line_errors(run_cifl, model_folder, head, tmp_path):
    twin = tmp_path / "twin" / head.name
    twin.parent.mkdir()
    twin.write_bytes(head.read_bytes())
    out = ["--model", model_folder, "--out", tmp_path / "out"]
    assert_one_line_error(run_cifl("features", head, twin, *out, check=False), "would both become")
    assert_one_line_error(
        run_cifl("train", "--out", model_folder, "--steps", 5, check=False),
        "another configuration",
    )
    assert_one_line_error(
        run_cifl("demo", "--model", tmp_path, "--out", tmp_path / "out", check=False),
        "does not exist",
    )


def test_wrong_option_is_a_usage_error(run_cifl, tmp_path):
    done = run_cifl("train", "--out", tmp_path, "--step", 5, check=False)
    assert done.returncode == 2
    assert "No such option" in done.stderr
