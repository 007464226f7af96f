import dataclasses
from functools import partial

import nibabel
import numpy as np
import pytest
import tensorflow as tf

from cifl_tf.augmentation.intensity import IntensityAugmentation
from cifl_tf.augmentation.spatial import SpatialAugmentation
from cifl_tf.augmentation.stripping import RandomStrip
from cifl_tf.datasets import stored, virtual_cohort
from cifl_tf.datasets.stored import reader
from cifl_tf.metrics import dice
from cifl_tf.registration.config import RegistrationConfig
from cifl_tf.segmentation import data as segmentation_data
from cifl_tf.segmentation import training as segmentation_training
from cifl_tf.segmentation.config import SegmentationConfig
from cifl_tf.segmentation.data import (
    cache_features,
    cohort_arrays,
    training_data,
    validation_data,
)
from cifl_tf.segmentation.images import segment_image
from cifl_tf.segmentation.network import build_segmenter
from cifl_tf.segmentation.training import train_segmenter
from cifl_tf.training.callbacks import KeepBest, read_history


def test_volumes_have_batch_norm_unless_it_is_chosen():
    assert SegmentationConfig("intensity").batch_norm is False
    assert SegmentationConfig("intensity", ndim=3).batch_norm is True
    assert SegmentationConfig("intensity", ndim=3, batch_norm=False).batch_norm is False
    assert SegmentationConfig("intensity", batch_norm=True).batch_norm is True


def test_whole_volumes_come_one_by_one():
    assert SegmentationConfig("intensity").batch_size == 8
    assert SegmentationConfig("intensity", ndim=3, patch=32).batch_size == 8
    assert SegmentationConfig("intensity", ndim=3).batch_size == 1
    assert SegmentationConfig("intensity", ndim=3, batch_size=2).batch_size == 2


def test_config_errors():
    with pytest.raises(ValueError, match="remappings are"):
        SegmentationConfig("intensity", remappings=("gamma", "gamma"))
    with pytest.raises(ValueError, match=r"random_contrast is 1\.5"):
        SegmentationConfig("intensity", random_contrast=1.5)
    with pytest.raises(ValueError, match=r"zoom_factors are \(1\.0,\)"):
        SegmentationConfig("intensity", zoom_factors=(1,))
    with pytest.raises(ValueError, match="encoder is 'intensity', which is the image already"):
        SegmentationConfig("intensity", with_image=True)
    with pytest.raises(ValueError, match="copies is 0"):
        SegmentationConfig("intensity", cached_copies=0)
    for name in ("steps", "batch_size", "learning_rate", "num_filters", "patience"):
        with pytest.raises(ValueError, match=f"{name} is -1; give a positive number"):
            SegmentationConfig("intensity", **{name: -1})


@pytest.fixture(scope="module")
def cohort():
    return virtual_cohort(4, seed=0, resolution=4)


@pytest.fixture
def config(tiny_encoder, tmp_path):
    tiny_encoder.save(tmp_path / "encoder.keras")
    return SegmentationConfig(
        str(tmp_path / "encoder.keras"),
        num_slices=3,
        num_filters=2,
        steps=6,
        batch_size=3,
    )


def test_training_folder_and_application(cohort, config, tmp_path, monkeypatch):
    monkeypatch.setattr("cifl_tf.training.folder.MAX_STEPS_PER_EPOCH", 3)
    train, validation, _ = cohort.split((3, 1, 0))
    folder = tmp_path / "segmenter"
    segmenter = train_segmenter(folder, config, train, validation, verbose=0)
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "history.csv", "checkpoints", "logs", "segmenter.keras"}
    history = read_history(folder / "history.csv")
    assert [row["step"] for row in history] == ["3", "6"]
    assert "val_dice" in history[0]

    # The best epoch was kept: its validation Dice is measured again.
    images, labels = cohort_arrays(validation, "T1w", config, tmp_path / "images")
    predicted = np.argmax(segmenter.predict(images, verbose=0), axis=-1)
    measured = np.nan_to_num(dice(labels[..., 0], predicted, [1, 2, 3, 4])).mean()
    best = max(float(row["val_dice"]) for row in history)
    assert measured == pytest.approx(best, abs=1e-4)

    subject = validation.subjects[0]
    oblique = subject.affine[[1, 0, 2, 3]]
    data = subject.image("T1w").astype(np.float32)
    image = nibabel.Nifti1Image(data, oblique)
    found = segment_image(image, folder)
    assert found.labels.shape == data.shape
    assert found.probabilities.shape == (*data.shape, 5)
    np.testing.assert_allclose(found.labels.affine, oblique)
    values = np.asarray(found.labels.dataobj)
    assert set(np.unique(values)) <= set(train.label_values)
    assert list(found.volumes) == list(train.label_names.values())
    voxel = abs(np.linalg.det(oblique[:3, :3]))
    for index, volume in enumerate(found.volumes.values(), start=1):
        assert volume == pytest.approx(voxel * np.sum(values == train.label_values[index]))

    with pytest.raises(ValueError, match="another configuration"):
        train_segmenter(folder, config, train, train, verbose=0)


def test_a_folder_is_claimed_when_nothing_can_be_wrong(cohort, config, tmp_path):
    train, validation, _ = cohort.split((3, 1, 0))
    folder = tmp_path / "segmenter"
    wrong = dataclasses.replace(config, contrast="T3w")
    with pytest.raises(ValueError, match="no contrast 'T3w'"):
        train_segmenter(folder, wrong, train, validation, verbose=0)
    assert not folder.exists()


def test_a_dataset_with_the_same_names_is_another(cohort, config, tmp_path, monkeypatch):
    monkeypatch.setattr("cifl_tf.training.folder.fit_in_folder", lambda _, data, *__, **___: data())
    monkeypatch.setattr("cifl_tf.training.folder.load_network", lambda *_: None)
    monkeypatch.setattr(segmentation_training, "as_segmenter", lambda network, out: network)
    here, there = (dataclasses.replace(cohort, source=name) for name in ("/here", "/there"))
    train_segmenter(tmp_path / "out", config, *here.split((3, 1, 0))[:2])
    with pytest.raises(ValueError, match="data '/here' there, '/there' asked"):
        train_segmenter(tmp_path / "out", config, *there.split((3, 1, 0))[:2])


def test_a_training_out_of_patience_is_complete(cohort, config, tmp_path, monkeypatch):
    config = dataclasses.replace(config, steps=1000, patience=2)
    train, validation, _ = cohort.split((3, 1, 0))
    folder = tmp_path / "segmenter"
    fits = []

    def fit(*_, **__):
        fits.append(len(fits))
        lines = ["epoch,step,val_dice", "0,2,0.3", "1,4,0.2", *(["2,6,0.1"] if fits[1:] else [])]
        (folder / "history.csv").write_text("\n".join(lines) + "\n")

    monkeypatch.setattr("cifl_tf.training.folder.fit_in_folder", fit)
    monkeypatch.setattr("cifl_tf.training.folder.load_network", lambda *_: None)
    monkeypatch.setattr(segmentation_training, "as_segmenter", lambda network, out: network)
    monkeypatch.setattr("cifl_tf.training.progress.load_network", lambda *_: "whole")
    again = partial(train_segmenter, folder, config, train, validation, verbose=0)
    again()
    with pytest.warns(UserWarning, match="holds no checkpoint: training .* anew") as notes:
        again()  # cut off once, then out of patience
    assert len(notes) == 1
    again()
    assert fits == [0, 1]


def test_a_segmenter_with_test_time_augmentation(cohort, config, tmp_path, monkeypatch):
    def fit(model, data, steps, out, callbacks, *_, **__):
        (best,) = callbacks
        best.save()

    monkeypatch.setattr("cifl_tf.training.folder.fit_in_folder", fit)
    config = dataclasses.replace(config, flip_axis=0, zoom_factors=(1.2,))
    train, validation, _ = cohort.split((3, 1, 0))
    segmenter = train_segmenter(tmp_path / "segmenter", config, train, validation, verbose=0)
    assert segmenter.network.get_layer("average_over_copies").zoom_factors == (1.2,)
    image = cohort_arrays(validation, "T1w", config, tmp_path / "images")[0]
    mirrored = segmenter.predict(image[:, ::-1], verbose=0)
    np.testing.assert_allclose(mirrored[:, ::-1], segmenter.predict(image, verbose=0), atol=1e-5)


@pytest.mark.parametrize("synthetic", [False, True])
def test_trains_on_patches(cohort, config, tmp_path, synthetic):
    config = dataclasses.replace(config, patch=16, synthetic=synthetic, steps=2)
    train, validation, _ = cohort.split((3, 1, 0))
    segmenter = train_segmenter(tmp_path / "segmenter", config, train, validation, verbose=0)
    image = cohort_arrays(validation, "T1w", config, tmp_path / "images")[0]
    assert min(image.shape[1:-1]) > 16
    assert segmenter.predict(image, verbose=0).shape == (*image.shape[:-1], 5)


@pytest.mark.parametrize("on_disk", [False, True])
def test_encoded_copies_are_features_of_the_augmented_images(
    tiny_encoder, rng, tmp_path, monkeypatch, on_disk
):
    if on_disk:
        monkeypatch.setattr(stored, "MOST_OF_MEMORY", 0)
    extract = build_segmenter(tiny_encoder, 4, remappings=("inverted",)).get_layer("features")
    images = rng.random((3, 9, 10, 1)).astype(np.float32)
    labels = rng.integers(0, 4, images.shape).astype(np.uint8)

    def brighter(images, labels, seed):
        return images + 1, labels

    data = training_data(images, labels, 1, intensity=brighter, seed=1)
    features, encoded_labels = cache_features(extract, data, 6, tmp_path, quiet=True)
    assert np.dtype(features.dtype) == np.float16
    assert isinstance(features, stored.StoredRows) == on_disk
    features = np.asarray(reader(features)(np.arange(6)))
    for i in range(6):  # every image twice, with its own labels
        found = [n for n in range(3) if np.array_equal(labels[n], encoded_labels[i])]
        expected = extract(images[found] + 1)[0]
        np.testing.assert_allclose(features[i], expected, atol=1e-3)
    assert len(np.unique(encoded_labels, axis=0)) == 3


@pytest.mark.parametrize("patch", [None, 16])
def test_trains_on_copies_encoded_once(cohort, config, tmp_path, monkeypatch, patch):
    counts = []

    def counted(extract, data, count, folder, quiet):
        counts.append(count)
        return cache_features(extract, data, count, folder, quiet)

    monkeypatch.setattr(segmentation_training, "cache_features", counted)
    config = dataclasses.replace(config, cached_copies=2, patch=patch)
    train, validation, _ = cohort.split((3, 1, 0))
    folder = tmp_path / "segmenter"
    segmenter = train_segmenter(folder, config, train, validation, verbose=0)
    assert counts == [2 * 9, 3]
    images, labels = cohort_arrays(validation, "T1w", config, tmp_path / "images")
    predicted = np.argmax(segmenter.predict(images, verbose=0), axis=-1)
    measured = np.nan_to_num(dice(labels[..., 0], predicted, [1, 2, 3, 4])).mean()
    (row,) = read_history(folder / "history.csv")
    assert measured == pytest.approx(float(row["val_dice"]), abs=2e-3)
    train_segmenter(folder, config, train, validation, verbose=0)
    assert len(counts) == 2  # a complete training is loaded


def test_interrupted_training_keeps_the_best_epoch(cohort, config, tmp_path, monkeypatch):
    saved = []
    history = tmp_path / "history.csv"
    monkeypatch.setattr(KeepBest, "model", None, raising=False)
    for values, expected in (([0.3], 1), ([0.3, 0.5], 2), ([0.3, 0.5, 0.4], 2)):
        # The last row is of an epoch that was cut off before its checkpoint, and is trained again.
        lines = [f"{epoch},{value}" for epoch, value in enumerate([*values[:-1], 0.9])]
        history.write_text("\n".join(["epoch,val_dice", *lines]) + "\n")
        # A new callback each time, as after an interruption.
        keep = KeepBest(tmp_path / "best.keras", history, "val_dice", patience=1)

        class Model:
            stop_training = False

            def save(self, path):
                saved.append(path)
                path.write_text("model")

        keep.set_model(Model())
        keep.on_epoch_end(len(values) - 1, {"val_dice": values[-1]})
        assert len(saved) == expected
        assert keep.model.stop_training == (len(values) == 3)


REMAPPED_ALONE = IntensityAugmentation(
    gamma_std=0, bias_std=0, thickness_std=0, noise_std=0, random_contrast=0.25
)
VARIED = IntensityAugmentation(random_contrast=0.25)
LOOKS = {  # by case: what is asked, how images are varied, and whether they are rendered
    "features": ({}, VARIED, False),
    "features of random contrasts": ({"intensity_augmentation": False}, REMAPPED_ALONE, False),
    "features of images as they are": (
        {"intensity_augmentation": False, "random_contrast": 0},
        None,
        False,
    ),
    "intensities": ({"encoder": "intensity"}, VARIED, False),
    "synthetic": ({"synthetic": True, "random_contrast": 0}, None, True),
}


@pytest.mark.parametrize("case", LOOKS)
def test_what_is_fitted_on_what(cohort, config, tmp_path, monkeypatch, case):
    changes, varied, rendered = LOOKS[case]
    config = dataclasses.replace(config, **{"random_contrast": 0.25, **changes})
    seen = {}

    def data(images, labels, batch_size, **given):
        seen.update({name: given[name] for name in ("intensity", "render", "strip")})
        assert given["patch"] is None
        assert isinstance(given["augmentation"], SpatialAugmentation)

    monkeypatch.setattr(segmentation_training, "training_data", data)
    monkeypatch.setattr("cifl_tf.training.folder.fit_in_folder", lambda _, data, *__, **___: data())
    monkeypatch.setattr("cifl_tf.training.folder.load_network", lambda *_: None)
    monkeypatch.setattr(segmentation_training, "as_segmenter", lambda network, out: network)
    train, validation, _ = cohort.split((2, 1, 0))
    train_segmenter(tmp_path / "segmenter", config, train, validation)
    assert seen["intensity"] == varied
    assert (seen["render"] is not None) == rendered
    assert seen["strip"] is None


def test_stripped_images_lose_what_lies_beyond_their_labels():
    labels = np.zeros((1, 20, 20, 1), np.int32)
    labels[:, 8:12, 8:12] = 1
    images = np.ones_like(labels, np.float32)
    data = training_data(images, labels, batch_size=1, strip=RandomStrip(1.0, rim=1))
    sizes = {int(tf.reduce_sum(image)) for image, _ in data.take(8)}
    assert sizes == {16, 36}
    patches = training_data(images, labels, 1, strip=RandomStrip(1.0, rim=0), patch=10)
    image, label = next(iter(patches))
    np.testing.assert_array_equal(image, label)


def test_large_volumes_are_validated_in_tiles_that_cover_them_once(rng, monkeypatch):
    images = rng.random((2, 9, 4, 7, 1), np.float32)
    labels = np.arange(images.size, dtype=np.int32).reshape(images.shape)
    (whole,) = {image.shape for image, _ in validation_data(images, labels, 1)}
    assert whole == (1, 9, 4, 7, 1)
    monkeypatch.setattr(segmentation_data, "LARGEST_TILE", 4)
    data = validation_data(images, labels, 1)
    assert data.cardinality() == 12
    seen = []
    for image, label in data:
        assert max(image.shape[1:-1]) <= 4
        np.testing.assert_array_equal(image, images.ravel()[label])
        seen.append(np.ravel(label))
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.arange(images.size))
    slices = validation_data(images[:, :, :, 0], labels[:, :, :, 0], 2)
    assert next(iter(slices))[0].shape == (2, 9, 4, 1)


@pytest.mark.parametrize(
    ("names", "refused"),
    [
        (["Left-Hippocampus", "Right-Hippocampus"], True),
        (["hippocampus_right", "hippocampus_left", "fluid"], True),
        (["L hippocampus", "R hippocampus"], True),
        (["Left-Hippocampus", "leftover", "white"], False),
    ],
)
def test_mirror_images_are_refused_for_labels_of_sides(names, refused, tmp_path):
    cohort = dataclasses.replace(
        virtual_cohort(2, resolution=8),
        label_names=dict(enumerate(names, 1)),
        label_values=tuple(range(len(names) + 1)),
    )
    config = SegmentationConfig("intensity", flip_axis=0)
    if refused:
        with pytest.raises(ValueError, match="tell left from right"):
            train_segmenter(tmp_path / "out", config, cohort, cohort)
        assert not (tmp_path / "out").exists()
    else:
        segmentation_training._check_sides(names)


def test_options_that_do_not_go_together():
    with pytest.raises(ValueError, match="sagittal slices do not show"):
        SegmentationConfig("intensity", plane="sagittal", flip_axis=0)
    for config in (SegmentationConfig, RegistrationConfig):
        synthetic = True if config is SegmentationConfig else "subjects"
        with pytest.raises(ValueError, match="leave one out"):
            config("intensity", synthetic=synthetic, random_contrast=0.5)
