"""Models that carry all that applying them needs, in a file and in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

import cifl_tf as cifl
from cifl_tf.datasets import View, virtual_cohort
from cifl_tf.features.pretrained import WEIGHTS
from cifl_tf.images.preprocessing import Preprocessing, exact_voxel_size
from cifl_tf.models.config import checked_config
from cifl_tf.registration.methods import NetworkMethod

PREPROCESSING = Preprocessing(exact_voxel_size((2, 2, 2)), "coronal")
# A process for each file, so that none finds classes that another one imported.
LOADING = """
import os, sys
import cifl_tf
import tf_keras
for file in sys.argv[1:]:
    process = os.fork()
    if not process:
        print(type(tf_keras.models.load_model(file)).__name__, flush=True)
        os._exit(0)
    os.waitpid(process, 0)
"""


@pytest.fixture
def image(rng):
    return nibabel.Nifti1Image(rng.random((12, 10, 14)).astype("f4"), np.diag([2, 2, 2, 1]))


@pytest.fixture
def segmenter():
    network = cifl.build_segmenter(None, 3, num_filters=2, num_levels=2)
    return cifl.Segmenter(network, PREPROCESSING, label_values=(0, 2, 41))


@pytest.fixture
def registration():
    return cifl.Registration(
        None, (16, 16), int_steps=1, num_filters=2, preprocessing=PREPROCESSING
    )


def test_keras_alone_loads_every_kind_in_a_new_process(
    tmp_path, tiny_encoder, segmenter, registration
):
    models = {
        "Encoder": cifl.Encoder(tiny_encoder),
        "Segmenter": segmenter,
        "Registration": registration,
        "CIFL": cifl.CIFL(tiny_encoder),
    }
    files = [tmp_path / f"{name}.keras" for name in models]
    for model, file in zip(models.values(), files, strict=True):
        model.save(file)
    # Its classes are named by modules of before.
    files.append(WEIGHTS / "shapes-2d" / "encoder.keras")
    root = Path(cifl.__file__).parents[1]
    run = subprocess.run(
        [sys.executable, "-c", LOADING, *files],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.stdout.split() == [*models, "Encoder"], run.stderr[-2000:]


def test_an_encoder_by_name_folder_and_file(tmp_path, tiny_encoder, rng):
    by_name = cifl.Encoder.from_pretrained("shapes-2d")
    assert (by_name.receptive_radius, by_name.preprocessing.voxel_range[0]) == (8, (0.8, 2.5))
    tiny_encoder.save(tmp_path / "encoder.keras")
    images = rng.random((1, 12, 10, 1)).astype(np.float32)
    for where in (tmp_path, tmp_path / "encoder.keras"):
        found = cifl.Encoder.from_pretrained(where)
        assert (type(found), found.receptive_radius) == (cifl.Encoder, 8)
        np.testing.assert_array_equal(found(images), tiny_encoder(images))


def test_the_receptive_radius_of_an_encoder(tiny_encoder):
    unet = cifl.build_encoder(num_features=2, num_filters=1, architecture="unet")
    assert cifl.Encoder(unet).receptive_radius == cifl.receptive_radius("unet")
    assert cifl.Encoder(cifl.Encoder(tiny_encoder)).receptive_radius == 8
    assert cifl.Encoder(tiny_encoder, receptive_radius=3).receptive_radius == 3


def test_features_are_an_array_on_the_grid_of_the_image(tmp_path, tiny_encoder, image):
    encoder = cifl.Encoder(tiny_encoder)
    nibabel.save(image, tmp_path / "image.nii")
    expected = cifl.features_of(image, tiny_encoder, "axial").get_fdata()
    for given in (image, tmp_path / "image.nii", str(tmp_path / "image.nii")):
        found = encoder.features(given, plane="axial")
        assert found.shape == (12, 10, 14, 4)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    array = image.get_fdata()
    np.testing.assert_array_equal(encoder.features(array), cifl.features_of(array, encoder))


def test_a_segmenter_by_folder_and_file(tmp_path, segmenter, image):
    segmenter.save(tmp_path / "segmenter.keras")
    expected = segmenter.segment(image)
    assert set(np.unique(expected.labels.dataobj)) <= {0, 2, 41}
    for where in (tmp_path, tmp_path / "segmenter.keras"):
        found = cifl.Segmenter.from_pretrained(where).segment(image)
        np.testing.assert_array_equal(found.labels.dataobj, expected.labels.dataobj)
        assert found.volumes == cifl.segment_image(image, where).volumes


def test_a_segmenter_takes_no_arrays_for_files(segmenter, image):
    with pytest.raises(ValueError, match="make it a nibabel"):
        segmenter.segment(image.get_fdata())


def test_a_registration_by_folder_and_file(tmp_path, registration, image, rng):
    for weight in registration.trainable_variables[-2:]:
        weight.assign(0.2 * rng.standard_normal(weight.shape))
    registration.save(tmp_path / "registration.keras")
    fixed = nibabel.Nifti1Image(image.get_fdata()[::-1], image.affine)
    expected = cifl.register_images(image, fixed, NetworkMethod(registration))
    assert np.abs(expected.displacement.field).max() > 0.1
    for where in (tmp_path, tmp_path / "registration.keras"):
        found = cifl.Registration.from_pretrained(where).register(image, fixed)
        np.testing.assert_allclose(found.warped.get_fdata(), expected.warped.get_fdata(), atol=1e-5)


def test_a_registration_by_its_former_name(registration):
    assert cifl.RegistrationNetwork is cifl.Registration
    config = registration.get_config()
    former = {
        "module": "cifl_tf.registration.network",
        "class_name": "RegistrationNetwork",
        "registered_name": "cifl_tf>RegistrationNetwork",
        "config": config,
    }
    found = checked_config(json.dumps(former).encode())
    assert found["class_name"] == "Registration"


@pytest.mark.parametrize("view", [View(num_slices=2), View(ndim=3)])
def test_a_cohort_as_a_dataset_is_what_fit_takes(view):
    cohort = virtual_cohort(3, resolution=8)
    images, labels, _ = view.stack(cohort, "T2w")
    batches = [*cohort.to_dataset(view, "T2w", 2, shuffle=False).as_numpy_iterator()]
    np.testing.assert_array_equal(np.concatenate([batch[0] for batch in batches]), images)
    np.testing.assert_array_equal(np.concatenate([batch[1] for batch in batches]), labels)
    assert {len(batch[0]) for batch in batches[:-1]} == {2}
    data = cohort.to_dataset(view, "T2w", len(images), seed=1)
    orders = [next(data.as_numpy_iterator())[0] for _ in range(4)]
    assert any(np.any(order != images) for order in orders)
    for order in orders:
        assert sorted(order.sum(axis=tuple(range(1, order.ndim)))) == pytest.approx(
            sorted(images.sum(axis=tuple(range(1, images.ndim)))), rel=1e-5
        )
