import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import cifl_tf

ELSEWHERE = """
import sys
for name in ("cifl_tf", "neurite", "voxelmorph", "tf_keras", "keras"):
    sys.modules[name] = None  # importing it raises ImportError
import numpy as np
import tensorflow as tf
folder, image_file, features_file = sys.argv[1:]
images = np.load(image_file)
model = tf.saved_model.load(folder)
served = model.signatures["serving_default"](tf.constant(images))["features"].numpy()
mapped = tf.data.Dataset.from_tensor_slices(images).batch(1).map(model)
mapped = np.concatenate([batch["features"].numpy() for batch in mapped])
np.save(features_file, [served, mapped])
"""


def test_runs_without_this_package(tiny_encoder, tmp_path, rng):
    images = (rng.normal(size=(3, 37, 26, 1)) * 100 + 500).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    cifl_tf.export_saved_model(tiny_encoder, tmp_path / "saved_model")
    arguments = [tmp_path / name for name in ("saved_model", "images.npy", "features.npy")]
    subprocess.run([sys.executable, "-c", ELSEWHERE, *arguments], check=True, cwd=tmp_path)
    expected = [cifl_tf.features_of(image[..., 0], tiny_encoder) for image in images]
    for features in np.load(tmp_path / "features.npy"):
        np.testing.assert_allclose(features, expected, atol=1e-4)


def test_volumes_and_sizes(tmp_path, rng):
    encoder = cifl_tf.build_encoder(3, num_features=2, num_filters=2, architecture="unet")
    cifl_tf.export_saved_model(cifl_tf.CIFL(encoder), tmp_path / "new" / "saved_model")
    model = tf.saved_model.load(str(tmp_path / "new" / "saved_model"))
    for shape in ((9, 10, 11), (12, 8, 13)):
        volume = rng.random(shape).astype(np.float32)
        features = model(volume[None, ..., None])["features"][0]
        np.testing.assert_allclose(features, cifl_tf.features_of(volume, encoder), atol=1e-4)


def test_existing_folder(tiny_encoder, tmp_path):
    (tmp_path / "empty").mkdir()
    cifl_tf.export_saved_model(tiny_encoder, tmp_path / "empty")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="not empty"):
        cifl_tf.export_saved_model(tiny_encoder, tmp_path / "empty")
    assert sorted(tmp_path.rglob("*")) == before


IMAGES = {
    "normal": lambda rng: rng.normal(size=(2, 31, 17, 1)) * 1e3,
    "constant": lambda rng: np.full((2, 8, 8, 1), 0.1),
    "one voxel": lambda rng: np.eye(1, 4096, 5).reshape(1, 64, 64, 1),
    "integers": lambda rng: rng.integers(0, 5, (2, 40, 40, 1)),
    "3D": lambda rng: rng.random((1, 9, 10, 11, 1)) ** 5,
}


@pytest.mark.parametrize("kind", IMAGES)
def test_scaling_in_the_graph_is_the_scaling_of_arrays(kind, rng):
    images = IMAGES[kind](rng).astype(np.float32)
    expected = [cifl_tf.rescale_intensity(image) for image in images]
    scaled = tf.function(cifl_tf.RescaleIntensity())(images)
    np.testing.assert_allclose(scaled, expected, atol=1e-6)
