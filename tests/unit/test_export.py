import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import cifl_tf
from cifl_tf.export import export_registration, export_segmenter
from cifl_tf.images.preprocessing import Preprocessing, exact_voxel_size
from cifl_tf.models.description import read_description

ELSEWHERE = """
import json, sys
for name in ("cifl_tf", "neurite", "voxelmorph", "tf_keras", "keras"):
    sys.modules[name] = None  # importing it raises ImportError
import numpy as np
import tensorflow as tf
for line in sys.stdin:
    folder, images_file, outputs_file = json.loads(line)
    images = dict(np.load(images_file))
    model = tf.saved_model.load(folder)
    tensors = {name: tf.constant(images[name]) for name in images}
    served = model.signatures["serving_default"](**tensors)
    batches = tf.data.Dataset.from_tensor_slices(tuple(images.values())).batch(1)
    mapped = list(batches.map(model))
    outputs = {f"served {name}": values for name, values in served.items()}
    for name in served:
        outputs[f"mapped {name}"] = np.concatenate([batch[name] for batch in mapped])
    np.savez(outputs_file, **outputs)
    print("done", flush=True)
"""


@pytest.fixture(scope="module")
def run_elsewhere(tmp_path_factory):
    """Outputs of a SavedModel in a process without this package, twice, by signature and call."""
    place = tmp_path_factory.mktemp("elsewhere")
    process = subprocess.Popen(
        [sys.executable, "-c", ELSEWHERE],
        cwd=place,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def run(folder, **images):
        files = [folder.parent / name for name in ("images.npz", "outputs.npz")]
        np.savez(files[0], **images)
        print(json.dumps([*map(str, (folder, *files))]), file=process.stdin, flush=True)
        assert process.stdout.readline() == "done\n"
        outputs = np.load(files[1])
        names = {name.partition(" ")[2] for name in outputs}
        return [{name: outputs[f"{way} {name}"] for name in names} for way in ("served", "mapped")]

    with process:
        yield run


def raw(rng, *shape):
    """Images with intensities far from [0, 1]."""
    return (rng.normal(size=(*shape, 1)) * 100 + 500).astype(np.float32)


def scaled(images):
    return np.stack([cifl_tf.rescale_intensity(image) for image in images])


def test_runs_without_this_package(run_elsewhere, tiny_encoder, tmp_path, rng):
    images = raw(rng, 3, 37, 26)
    cifl_tf.export_saved_model(tiny_encoder, tmp_path / "saved_model")
    expected = [cifl_tf.features_of(image[..., 0], tiny_encoder) for image in images]
    for outputs in run_elsewhere(tmp_path / "saved_model", image=images):
        np.testing.assert_allclose(outputs["features"], expected, atol=1e-4)


def test_segmenter_runs_without_this_package(run_elsewhere, tiny_encoder, tmp_path, rng):
    segmenter = cifl_tf.build_segmenter(tiny_encoder, 3, 2, 2, 3, ("inverted", "gamma"))
    values = np.array([0, 17, 4])
    export_segmenter(segmenter, tmp_path / "saved_model", values.tolist())
    images = raw(rng, 2, 21, 30)
    probabilities = segmenter(scaled(images)).numpy()
    chosen = probabilities.argmax(axis=-1)
    assert len(np.unique(chosen)) > 1
    for outputs in run_elsewhere(tmp_path / "saved_model", image=images):
        np.testing.assert_allclose(outputs["probabilities"], probabilities, atol=1e-5)
        assert outputs["labels"].dtype == np.int32
        np.testing.assert_array_equal(outputs["labels"], values[chosen])


def test_labels_of_a_segmenter(tmp_path, rng):
    segmenter = cifl_tf.build_segmenter(None, 3, 3, 2, 2)
    with pytest.raises(ValueError, match=r"label_values are \[0, 17\], but the segmenter has 3"):
        export_segmenter(segmenter, tmp_path / "saved_model", [0, 17])
    assert not (tmp_path / "saved_model").exists()
    export_segmenter(segmenter, tmp_path / "saved_model")
    outputs = tf.saved_model.load(str(tmp_path / "saved_model"))(raw(rng, 1, 7, 8, 9))
    np.testing.assert_array_equal(outputs["labels"], tf.argmax(outputs["probabilities"], axis=-1))


def test_registration_runs_without_this_package(run_elsewhere, tiny_encoder, tmp_path, rng):
    network = cifl_tf.RegistrationNetwork(tiny_encoder, (19, 26), ("inverted", "folded"))
    for weight in network.trainable_variables[-2:]:
        weight.assign(tf.random.normal(weight.shape, stddev=0.3))
    export_registration(network, tmp_path / "saved_model")
    moving, fixed = raw(rng, 2, 19, 26), raw(rng, 2, 19, 26)
    displacement = cifl_tf.register_arrays(network, scaled(moving), scaled(fixed))
    assert np.abs(displacement).max() > 0.5
    warped = cifl_tf.warp(moving, displacement)
    for outputs in run_elsewhere(tmp_path / "saved_model", moving=moving, fixed=fixed):
        np.testing.assert_allclose(outputs["displacement"], displacement, atol=1e-5)
        np.testing.assert_allclose(outputs["warped"], warped, rtol=1e-5)


def test_volumes_and_sizes(tmp_path, rng):
    encoder = cifl_tf.build_encoder(3, num_features=2, num_filters=2, architecture="unet")
    cifl_tf.export_saved_model(cifl_tf.CIFL(encoder), tmp_path / "new" / "saved_model")
    model = tf.saved_model.load(str(tmp_path / "new" / "saved_model"))
    for shape in ((9, 10, 11), (12, 8, 13)):
        volume = rng.random(shape).astype(np.float32)
        features = model(volume[None, ..., None])["features"][0]
        np.testing.assert_allclose(features, cifl_tf.features_of(volume, encoder), atol=1e-4)


def test_the_second_signature_takes_scaled_intensities(tiny_encoder, tmp_path, rng):
    cifl_tf.export_saved_model(tiny_encoder, tmp_path / "encoder")
    cifl_tf.export_registration(cifl_tf.Registration(None, (16, 24), num_filters=2), tmp_path / "r")
    images = rng.uniform(0.2, 0.6, (2, 16, 24, 1)).astype(np.float32)
    run = tf.saved_model.load(str(tmp_path / "encoder")).signatures["scaled"]
    np.testing.assert_allclose(run(image=images)["features"], tiny_encoder(images), atol=1e-5)
    run = tf.saved_model.load(str(tmp_path / "r")).signatures["scaled"]
    found = run(moving=tf.constant(images), fixed=tf.constant(images[::-1].copy()))
    warped = cifl_tf.warp(images, found["displacement"].numpy())
    np.testing.assert_allclose(found["warped"], warped, atol=1e-5)


def test_a_folder_tells_what_it_takes(tmp_path):
    segmenter = cifl_tf.Segmenter(
        cifl_tf.build_segmenter(None, 3, 2, 2, 2),
        Preprocessing(exact_voxel_size([1, 1, 3]), plane="axial"),
        label_names=("background", "tumor", "edema"),
        label_values=(0, 4, 2),
        field_margin=10.0,
    )
    export_segmenter(segmenter, tmp_path / "first")
    (tmp_path / "first").rename(tmp_path / "moved")
    found = read_description(tmp_path / "moved")
    assert Preprocessing.from_config(found.preprocessing) == segmenter.preprocessing
    assert found.labels == {0: "background", 4: "tumor", 2: "edema"}
    assert "cut images to what is no air and 10 mm around" in "\n".join(found.lines())
    assert found.outputs == {
        "labels": [None, None, None],
        "probabilities": [None, None, None, 3],
    }
    assert (
        tf.saved_model.load(str(tmp_path / "moved"))
        .description.asset_path.numpy()
        .endswith(b"moved/assets/cifl_model.json")
    )


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"give the folder of a SavedModel of cifl_tf 0\.8"):
        read_description(tmp_path)


@pytest.mark.parametrize("content", ["no JSON", "[1]", '{"kind": "encoder"}'])
def test_damaged_descriptions_are_refused(content, tmp_path):
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "cifl_model.json").write_text(content)
    with pytest.raises(ValueError, match=r"cifl_model\.json cannot be read .*again"):
        read_description(tmp_path)


def test_the_tool_of_tensorflow_runs_it(tiny_encoder, tmp_path):
    cifl_tf.export_saved_model(tiny_encoder, tmp_path / "exported")
    tool = "from tensorflow.python.tools.saved_model_cli import main; main()"
    request = ["--tag_set", "serve", "--signature_def", "serving_default", "--outdir", "."]
    np.save(tmp_path / "image.npy", np.ones((1, 9, 10, 1), np.float32))
    inputs = ["--inputs", "image=image.npy"]
    subprocess.run(
        [sys.executable, "-c", tool, "run", "--dir", "exported", *request, *inputs],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    assert np.load(tmp_path / "features.npy").shape == (1, 9, 10, 4)


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_tflite_runs_an_encoder_for_scaled_intensities(tiny_encoder, tmp_path, rng):
    cifl_tf.export_saved_model(tiny_encoder, tmp_path / "exported")
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(tmp_path / "exported"), signature_keys=["scaled"]
    )
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    image = rng.random((1, 20, 24, 1)).astype(np.float32)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], image.shape)
    features = interpreter.get_signature_runner("scaled")(image=image)["features"]
    np.testing.assert_allclose(features, tiny_encoder(image), atol=1e-4)


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
