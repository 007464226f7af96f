"""Sources, sinks and SavedModels in pipelines of Apache Beam."""

import re
from pathlib import Path

import apache_beam as beam
import nibabel
import numpy as np
import pytest
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.testing.util import assert_that, equal_to

import cifl_tf
from cifl_tf.beam import ReadNifti, SavedModelHandler, WriteNifti
from cifl_tf.beam.files import write_image
from cifl_tf.features.inference import features_of
from tiny_cohorts import SUBJECTS, write_cohort

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "beam.md"


def pipeline():
    return beam.Pipeline("FnApiRunner")


@pytest.fixture
def exported(tmp_path):
    encoder = cifl_tf.build_encoder(3, num_features=3, num_filters=2)
    cifl_tf.export_saved_model(encoder, tmp_path / "exported")
    return encoder, tmp_path / "exported"


def test_features_of_files_become_files(exported, tmp_path, rng):
    encoder, folder = exported
    affine = np.diag([-2.0, 2, 2, 1])  # a scan whose first axis points to the left
    for number in (1, 2):
        data = rng.random((12, 14, 8 + number)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(data, affine), tmp_path / f"sub-{number}_T1w.nii.gz")

    def named(pair):
        path, result = pair
        features = result.inference["features"]
        return path.split("/")[-1].replace("T1w", "features"), nibabel.Nifti1Image(
            features, np.diag([2.0, 2, 2, 1])
        )

    with pipeline() as run:
        images = run | ReadNifti(f"{tmp_path}/*_T1w.nii.gz")
        arrays = images | beam.MapTuple(lambda path, image: (path, np.asarray(image.dataobj)))
        results = arrays | RunInference(KeyedModelHandler(SavedModelHandler(folder)))
        paths = results | beam.Map(named) | WriteNifti(f"{tmp_path}/out/deep")
        wanted = [f"{tmp_path}/out/deep/sub-{number}_features.nii.gz" for number in (1, 2)]
        assert_that(paths, equal_to(wanted))
    assert sorted(path.name for path in (tmp_path / "out" / "deep").iterdir()) == [
        "sub-1_features.nii.gz",
        "sub-2_features.nii.gz",
    ]
    for number in (1, 2):
        found = np.asarray(nibabel.load(wanted[number - 1]).dataobj)
        scan = nibabel.as_closest_canonical(nibabel.load(tmp_path / f"sub-{number}_T1w.nii.gz"))
        np.testing.assert_allclose(found, features_of(scan.get_fdata(), encoder), atol=1e-5)


def test_the_pipeline_of_the_documentation(exported, tmp_path, rng, monkeypatch):
    write_cohort(tmp_path / "my-study", rng)
    exported[1].rename(tmp_path / "saved_model")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert "beam.Pipeline()" in code
    # Which looks for a program on the net.
    exec(code.replace("beam.Pipeline()", 'beam.Pipeline("FnApiRunner")'), {})
    names = {path.name for path in (tmp_path / "features").iterdir()}
    assert names == {f"sub-{number}_features.nii.gz" for number in range(1, SUBJECTS + 1)}
    assert nibabel.load(tmp_path / "features/sub-3_features.nii.gz").shape == (12, 6, 10, 3)


def test_names_and_axes_of_inputs_are_checked(exported, rng):
    handler = SavedModelHandler(exported[1])
    model = handler.load_model()
    with pytest.raises(ValueError, match=r"shape \(4, 5\), but the model is for 3D images"):
        next(iter(handler.run_inference([np.ones((4, 5))], model)))
    with pytest.raises(ValueError, match="got moving, but the model takes image"):
        next(iter(handler.run_inference([{"moving": np.ones((4, 5))}], model)))
    assert handler.get_num_bytes([np.ones((4, 5), np.float32)]) == 80


def test_pairs_are_registered(tmp_path, rng):
    network = cifl_tf.Registration(None, (16, 24), num_filters=2, int_steps=0)
    cifl_tf.export_registration(network, tmp_path / "exported")
    handler = SavedModelHandler(tmp_path / "exported")
    pair = dict(zip(("moving", "fixed"), rng.random((2, 16, 24)), strict=True))
    (result,) = handler.run_inference([pair], handler.load_model())
    shapes = {name: array.shape for name, array in result.inference.items()}
    assert shapes == {"displacement": (16, 24, 2), "warped": (16, 24, 1)}


def test_what_cannot_be_read_is_named_by_its_path(tmp_path):
    path = tmp_path / "broken.nii.gz"
    path.write_bytes(b"no image")
    for given in (path, tmp_path / "none.nii"):
        with pytest.raises(Exception, match=re.escape(str(given))), pipeline() as run:
            _ = run | ReadNifti(str(given))


def test_a_file_is_replaced_and_another_ending_refused(tmp_path):
    for value in (1, 2):
        image = nibabel.Nifti1Image(np.full((3, 3, 3), value, np.int16), np.eye(4))
        assert write_image(f"{tmp_path}/a.nii", image) == f"{tmp_path}/a.nii"
    assert nibabel.load(tmp_path / "a.nii").get_fdata().max() == 2
    with pytest.raises(ValueError, match=r"give it one of these names"):
        write_image(f"{tmp_path}/a.mgz", image)
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii"]
