import dataclasses
import json

import numpy as np
import pytest

from cifl_tf._random_keys import WHOLE
from cifl_tf.augmentation.intensity import IntensityAugmentation
from cifl_tf.augmentation.spatial import SpatialAugmentation
from cifl_tf.datasets import Subject, make_cohort, stack_cohort, virtual_cohort
from cifl_tf.registration import training as registration_training
from cifl_tf.registration.arrays import register_arrays
from cifl_tf.registration.config import RegistrationConfig
from cifl_tf.registration.data import (
    NUM_SHAPES,
    pair_data,
    shape_pairs,
    synthetic_pairs,
    validation_pairs,
)
from cifl_tf.registration.displacements import warp
from cifl_tf.registration.loading import load_registration
from cifl_tf.registration.similarity import soft_dice
from cifl_tf.registration.training import train_registration
from cifl_tf.synthesis.appearance import Appearance
from cifl_tf.synthesis.pairs import label_painter
from cifl_tf.training.callbacks import read_history

NAMES = ["a", "a", "b", "b", "c", "c"]


def numbered(shape=(9, 10)):
    """Two images of three subjects, each with one number for all voxels, and labels as these."""
    numbers = np.arange(6).reshape(6, *[1] * len(shape), 1)
    labels = np.broadcast_to(numbers, (6, *shape, 1)).astype(np.int32)
    return labels.astype(np.float32) / 10, labels


def test_pairs_are_of_different_subjects_at_the_same_place():
    images, labels = numbered()
    pairs = []
    for batch in pair_data(images, labels, NAMES, 6, batch_size=4, seed=1).take(40):
        batch_images, batch_labels = ([one.numpy() for one in both] for both in batch)
        assert batch_images[0].shape == (4, 9, 10, 1)
        assert batch_labels[0].shape == (4, 9, 10, 6)
        for image, one_hot in zip(batch_images, batch_labels, strict=True):
            np.testing.assert_allclose(one_hot.argmax(-1)[..., None], 10 * image, atol=1e-5)
        moving, fixed = (np.rint(10 * image[:, 0, 0, 0]).astype(int) for image in batch_images)
        pairs += zip(moving.tolist(), fixed.tolist(), strict=True)
    expected = {
        (2 * moving + place, 2 * fixed + place)
        for moving in range(3)
        for fixed in range(3)
        for place in range(2)
        if moving != fixed
    }
    assert set(pairs) == expected


def test_the_seed_makes_the_order():
    images, _ = numbered()

    def first(seed):
        ((moving, fixed),) = next(iter(pair_data(images, None, NAMES, 6, 32, seed=seed)))
        return np.stack([moving, fixed]).tobytes()

    assert first(3) == first(3)
    assert first(3) != first(4)


def test_both_images_of_a_pair_are_deformed_alike_and_every_pair_in_its_own_way():
    labels = np.zeros((6, 40, 44, 1), np.int32)
    labels[:, 10:30, 8:36] = 1
    images = labels.astype(np.float32)
    batch = next(iter(pair_data(images, labels, NAMES, 2, 4, SpatialAugmentation(), seed=0)))
    for image, one_hot in zip(*batch, strict=True):
        assert np.mean(np.abs(image[..., 0] - one_hot[..., 1]) < 0.51) > 0.99
    moving, fixed = batch[0]
    np.testing.assert_array_equal(moving, fixed)
    assert len({image.numpy().tobytes() for image in moving}) == 4
    assert np.abs(moving - images[:4]).mean() > 0.01
    ((moving, fixed),) = next(iter(pair_data(images, None, NAMES, 2, 4, SpatialAugmentation())))
    np.testing.assert_array_equal(moving, fixed)


def test_validation_moves_each_subject_onto_the_next():
    images, labels = numbered()
    batches = list(validation_pairs(images, labels, NAMES, 6, batch_size=4))
    moving, fixed = (
        np.rint(np.concatenate([10 * batch[0][side][:, 0, 0, 0] for batch in batches]))
        for side in range(2)
    )
    assert moving.tolist() == [0, 1, 2, 3, 4, 5]
    assert fixed.tolist() == [2, 3, 4, 5, 0, 1]
    assert [len(batch[0][0]) for batch in batches] == [4, 2]


@pytest.fixture(scope="module")
def cohort():
    return virtual_cohort(4, seed=0, resolution=6)


@pytest.fixture
def config(tiny_encoder, tmp_path, monkeypatch):
    monkeypatch.setattr("cifl_tf.training.folder.MAX_STEPS_PER_EPOCH", 2)
    tiny_encoder.save(tmp_path / "encoder.keras")
    return RegistrationConfig(
        str(tmp_path / "encoder.keras"),
        num_slices=2,
        remappings=["gamma"],  # a list, as it comes from JSON
        similarity="features",
        loss="ncc",
        smoothness=0.3,
        label_weight=0.5,
        int_steps=1,
        int_resolution=1,
        steps=4,
        batch_size=2,
    )


def test_training_folder_and_the_best_epoch(cohort, config, tmp_path):
    train, validation = cohort.select(cohort.names[:2]), cohort.select(cohort.names[2:])
    folder = tmp_path / "registration"
    network = train_registration(folder, config, train, validation, verbose=0)
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "history.csv", "checkpoints", "logs", "registration.keras"}
    history = read_history(folder / "history.csv")
    assert [row["step"] for row in history] == ["2", "4"]
    assert "label_dice" in history[0]
    settings = network.get_config()
    for name in ("similarity", "smoothness", "label_weight", "int_steps", "int_resolution"):
        assert settings[name] == getattr(config, name)
    written = json.loads((folder / "config.json").read_text())
    assert written["remappings"] == ["gamma 0.4"]
    assert settings["remappings"] == config.remappings == ("gamma 0.4",)
    assert written["train"] == list(train.names)
    assert written["validation"] == list(validation.names)

    # The best epoch was kept: its validation Dice is measured again.
    images, labels, _ = stack_cohort(validation, "T1w", count=2)
    one_hot = np.eye(5, dtype=np.float32)[labels[..., 0]]
    turned = np.roll(images, 2, axis=0), np.roll(one_hot, 2, axis=0)
    displacement = register_arrays(network, images, turned[0])
    measured = soft_dice(turned[1], warp(one_hot, displacement)).numpy().mean()
    best = max(float(row["val_label_dice"]) for row in history)
    assert measured == pytest.approx(best, abs=1e-4)

    with pytest.raises(ValueError, match="another configuration"):
        train_registration(folder, config, validation, train, verbose=0)


def test_only_the_network_sees_other_intensities(cohort, config, tmp_path, monkeypatch):
    looks = []

    def fit(network, *_, **__):
        looks.append(network.intensity_augmentation)

    monkeypatch.setattr("cifl_tf.training.folder.fit_in_folder", fit)
    monkeypatch.setattr("cifl_tf.training.folder.load_network", lambda *_: None)
    train, validation = cohort.select(cohort.names[:2]), cohort.select(cohort.names[2:])
    for vary, random_contrast in ((True, 0.25), (False, 0.25), (False, 0.0)):
        config = dataclasses.replace(
            config, intensity_augmentation=vary, random_contrast=random_contrast
        )
        train_registration(tmp_path / f"{vary} {random_contrast}", config, train, validation)
    alone = {"gamma_std": 0, "bias_std": 0, "thickness_std": 0, "noise_std": 0}
    assert looks == [
        IntensityAugmentation(random_contrast=0.25),
        IntensityAugmentation(random_contrast=0.25, **alone),
        None,
    ]


def test_synthetic_pairs_are_of_the_labels_and_of_contrasts_of_their_own():
    labels = np.zeros((4, 24, 22, 1), np.int32)
    labels[:2, 6:18, 5:12], labels[2:, 4:12, 5:16], labels[:, 14:20, 13:20] = 1, 1, 2
    pairs = pair_data(labels / 9, labels, ["a", "a", "b", "b"], 3, batch_size=3)
    paint = label_painter(
        (24, 22), 3, Appearance(noise_std=(0, 0), blur_std=(0, 0), thickness_std=0, bias_std=(0, 0))
    )
    first, second = list(synthetic_pairs(pairs, paint, seed=1).take(2))
    for given, (images, maps) in zip(pairs.take(2), (first, second), strict=True):
        for image, one_hot, expected in zip(images, maps, given[1], strict=True):
            np.testing.assert_array_equal(one_hot, expected)
            assert image.shape == (3, 24, 22, 1)
            for one, label_map in zip(image.numpy(), one_hot.numpy(), strict=True):
                for label in range(3):
                    inside = one[..., 0][label_map[..., label] == 1]
                    assert not inside.size or np.ptp(inside) < 1e-3
    values = {float(image.numpy()[0].mean()) for images, _ in (first, second) for image in images}
    assert len(values) == 4
    # What follows does not depend on where a training begins.
    later = next(iter(synthetic_pairs(pairs.skip(1), paint, seed=1, start=1)))
    np.testing.assert_array_equal(later[0][0], second[0][0])


def test_shapes_are_deformed_in_two_ways():
    batches = list(shape_pairs((40, 44), batch_size=2, seed=3).take(2))
    for _, (moving, fixed) in batches:
        assert moving.shape == fixed.shape == (2, 40, 44, NUM_SHAPES)
        overlap = np.mean(moving.numpy().argmax(-1) == fixed.numpy().argmax(-1))
        assert 0.3 < overlap < 0.97
    later = next(iter(shape_pairs((40, 44), batch_size=2, seed=3, start=1)))
    np.testing.assert_array_equal(later[1][0], batches[1][1][0])


@pytest.mark.parametrize("synthetic", ["subjects", "shapes"])
def test_training_on_synthetic_pairs(cohort, config, tmp_path, monkeypatch, synthetic):
    seen = {}

    def fit(network, data, *_, **__):
        images, labels = next(iter(data(share=WHOLE)))
        seen.update(
            network=network, images=images, labels=labels, change=network.intensity_augmentation
        )
        network.compile("adam", "mse")
        # The images say nothing to the loss: only the smoothness and the overlap count.
        logs = network.train_on_batch(images, labels, return_dict=True)
        expected = 0.3 * logs["smoothness"] + 1 - logs["label_dice"]
        assert logs["loss"] == pytest.approx(expected, rel=1e-4)

    monkeypatch.setattr("cifl_tf.training.folder.fit_in_folder", fit)
    monkeypatch.setattr("cifl_tf.training.folder.load_network", lambda *_: None)
    train, validation = cohort.select(cohort.names[:2]), cohort.select(cohort.names[2:])
    config = dataclasses.replace(config, label_weight=0.0, synthetic=synthetic)
    train_registration(tmp_path / "registration", config, train, validation)
    assert seen["change"] is None
    settings = seen["network"].get_config()
    assert (settings["similarity"], settings["label_weight"]) == ("labels", 1.0)
    count = NUM_SHAPES if synthetic == "shapes" else train.num_labels
    for image, one_hot in zip(seen["images"], seen["labels"], strict=True):
        assert image.shape == (2, *seen["network"].shape, 1)
        assert one_hot.shape == (2, *seen["network"].shape, count)


def test_volumes_without_labels_keep_the_last_network(config, tmp_path):
    whole = virtual_cohort(4, seed=0, resolution=12)
    unlabelled = make_cohort([Subject(one.name, one.images, brain="image") for one in whole])
    train, validation, _ = unlabelled.split((2, 2, 0))
    folder = tmp_path / "registration"
    changes = {"encoder": "intensity", "ndim": 3, "label_weight": 0.0, "loss": "multiscale-mse"}
    config = dataclasses.replace(config, **changes, learning_rate=0.05)
    network = train_registration(folder, config, train, validation, verbose=0)
    history = read_history(folder / "history.csv")
    assert not {"label_dice", "val_label_dice"} & set(history[0])
    assert history[0]["val_loss"] != history[1]["val_loss"]
    images, _, names = stack_cohort(validation, "T1w", ndim=3)
    network.compile(loss=registration_training.LOSSES["multiscale-mse"]())
    found = network.evaluate(validation_pairs(images, None, names, 1, 2), verbose=0)
    loss = found[0] if isinstance(found, list) else found
    assert loss == pytest.approx(float(history[1]["val_loss"]), rel=1e-3)

    labelled = dataclasses.replace(config, label_weight=1.0)
    with pytest.raises(ValueError, match=r"label_weight is 1\.0, but the subjects have no labels"):
        train_registration(tmp_path / "labelled", labelled, train, validation)


def test_volumes_come_one_pair_at_a_time():
    assert RegistrationConfig("intensity").batch_size == 6
    assert RegistrationConfig("intensity", ndim=3).batch_size == 1
    assert RegistrationConfig("intensity", ndim=3, batch_size=2).batch_size == 2


def test_refuses(cohort, config, tmp_path):
    one, others = cohort.select(cohort.names[:1]), cohort.select(cohort.names[1:])
    with pytest.raises(ValueError, match=r"validation subjects are \['virtual-001'\]"):
        train_registration(tmp_path / "new", config, others, one)
    with pytest.raises(ValueError, match=r"training subjects are \['virtual-001'\]"):
        train_registration(tmp_path / "new", config, one, others)
    assert not (tmp_path / "new").exists()
    for name in ("steps", "batch_size", "learning_rate", "num_filters"):
        with pytest.raises(ValueError, match=f"{name} is -1; give a positive number"):
            dataclasses.replace(config, **{name: -1})
    with pytest.raises(ValueError, match="loss is 'mae'"):
        dataclasses.replace(config, loss="mae")
    with pytest.raises(ValueError, match="synthetic is 'brains'"):
        dataclasses.replace(config, synthetic="brains")
    with pytest.raises(ValueError, match="label_weight is 0, so the loss compares nothing"):
        dataclasses.replace(config, similarity="labels", label_weight=0)
    with pytest.raises(ValueError, match="remappings are"):
        dataclasses.replace(config, remappings=("t2",))
    with pytest.raises(ValueError, match=r"random_contrast is 1\.5"):
        dataclasses.replace(config, random_contrast=1.5)
    images, _ = numbered()
    with pytest.raises(ValueError, match=r"1 subjects with \[6\] images"):
        pair_data(images, None, ["a"] * 6, 1, 2)
    with pytest.raises(ValueError, match=r"2 subjects with \[2, 4\] images"):
        pair_data(images, None, [*"aabbbb"], 1, 2)
    with pytest.raises(ValueError, match="does not exist"):
        load_registration(tmp_path / "new")
