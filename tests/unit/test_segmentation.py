import dataclasses

import nibabel
import numpy as np
import pytest
import tensorflow as tf

import cifl_tf
from cifl_tf import segmentation_training
from cifl_tf._compat import keras
from cifl_tf.augmentation import IntensityAugmentation, SpatialAugmentation
from cifl_tf.callbacks import KeepBest, read_history
from cifl_tf.datasets import virtual_cohort
from cifl_tf.metrics import dice
from cifl_tf.segmentation import (
    MeanDice,
    SegmentationLoss,
    build_segmenter,
    encode_once,
    training_data,
    without_features,
)
from cifl_tf.segmentation_training import (
    SegmentationConfig,
    cohort_arrays,
    segment_image,
    train_segmenter,
)


def slow_loss(labels, probabilities):
    """Loops over labels and voxels, from the formula of the docstring."""
    num_labels = probabilities.shape[-1]
    labels, probabilities = labels.ravel(), probabilities.reshape(-1, num_labels).astype(float)
    dice_sum, cross_entropy = 0.0, 0.0
    for label in range(1, num_labels):
        overlap = sizes = 0.0
        for truth, row in zip(labels, probabilities, strict=True):
            overlap += row[label] * (truth == label)
            sizes += row[label] + (truth == label)
        dice_sum += (2 * overlap + 1) / (sizes + 1)
    for truth, row in zip(labels, probabilities, strict=True):
        cross_entropy -= np.log(row[truth])
    return 1 - dice_sum / (num_labels - 1) + cross_entropy / len(labels)


@pytest.mark.parametrize("shape", [(5, 6), (3, 4, 5)])
def test_loss_is_the_formula_for_each_image(shape, rng):
    labels = rng.integers(0, 4, (2, *shape, 1))
    probabilities = rng.dirichlet(np.ones(4), (2, *shape)).astype(np.float32)
    loss = SegmentationLoss(reduction="none")(labels, probabilities)
    expected = [slow_loss(*pair) for pair in zip(labels, probabilities, strict=True)]
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_perfect_segmentation_costs_nothing():
    labels = np.array([0, 1, 1, 0]).reshape(1, 2, 2, 1)  # label 2 is absent and not predicted
    assert float(SegmentationLoss()(labels, np.eye(3)[labels[..., 0]])) == pytest.approx(
        0, abs=1e-5
    )


def test_mean_dice_is_dice_over_all_batches(rng):
    labels = rng.integers(0, 4, (6, 7, 8))
    predicted = np.where(rng.random(labels.shape) < 0.7, labels, rng.integers(0, 4, labels.shape))
    metric = MeanDice(5)  # label 4 occurs nowhere
    for part in (slice(0, 2), slice(2, 6)):
        metric.update_state(labels[part][..., None], np.eye(5)[predicted[part]])
    expected = np.mean(dice(labels, predicted, [1, 2, 3]))
    assert float(metric.result()) == pytest.approx(expected, rel=1e-5)


def test_only_the_unet_learns(tiny_encoder, rng):
    segmenter = build_segmenter(tiny_encoder, 3, num_filters=2, num_levels=2)
    segmenter.compile("adam", SegmentationLoss(), metrics=[MeanDice(3)])
    before = [weight.numpy() for weight in tiny_encoder.weights]
    unet = segmenter.get_layer("unet").get_weights()
    images = rng.random((4, 21, 22, 1)).astype(np.float32)
    segmenter.fit(images, rng.integers(0, 3, images.shape), epochs=2, verbose=0)
    for old, weight in zip(before, tiny_encoder.weights, strict=True):
        np.testing.assert_array_equal(old, weight)
    assert any(
        np.any(old != new)
        for old, new in zip(unet, segmenter.get_layer("unet").get_weights(), strict=True)
    )


@pytest.mark.parametrize(("ndim", "shape"), [(2, (19, 30)), (3, (9, 10, 11))])
@pytest.mark.parametrize("baseline", [False, True])
def test_any_size_and_reload(ndim, shape, baseline, tmp_path, rng):
    encoder = None if baseline else cifl_tf.build_encoder(ndim, 3, 2)
    segmenter = build_segmenter(encoder, 4, ndim, 2, num_levels=3, ensemble=("inverted",))
    image = rng.random((2, *shape, 1)).astype(np.float32)
    probabilities = segmenter(image)
    assert probabilities.shape == (2, *shape, 4)
    np.testing.assert_allclose(np.sum(probabilities, axis=-1), 1, atol=1e-5)
    features = segmenter.get_layer("features")(image)
    np.testing.assert_array_equal(without_features(segmenter)(features), probabilities)
    segmenter.save(tmp_path / "segmenter.keras")
    reloaded = keras.models.load_model(tmp_path / "segmenter.keras")
    np.testing.assert_array_equal(reloaded(image), probabilities)
    assert len(reloaded.trainable_weights) == len(segmenter.trainable_weights)


@pytest.mark.parametrize("ndim", [2, 3])
def test_batch_norm_is_that_of_training_until_it_is_applied(ndim, tmp_path, rng):
    segmenter = build_segmenter(None, 3, ndim, 2, num_levels=2, batch_norm=True)
    kinds = [type(layer).__name__ for layer in segmenter.get_layer("unet").layers]
    assert kinds.count("BatchNormalization") == 3  # two levels down, one up
    images = rng.random((4, *[12] * ndim, 1)).astype(np.float32)
    segmenter.compile("adam", SegmentationLoss())
    segmenter.fit(images, rng.integers(0, 3, images.shape), epochs=2, verbose=0)
    probabilities = segmenter.predict(images, verbose=0)
    alone = segmenter.predict(images[:1], verbose=0)  # does not depend on its batch
    np.testing.assert_allclose(alone, probabilities[:1], atol=1e-6)
    segmenter.save(tmp_path / "segmenter.keras")
    reloaded = keras.models.load_model(tmp_path / "segmenter.keras")
    np.testing.assert_array_equal(reloaded.predict(images, verbose=0), probabilities)
    assert np.abs(segmenter(images, training=True) - probabilities).max() > 1e-3


def test_volumes_have_batch_norm_unless_it_is_chosen():
    assert SegmentationConfig("intensity").batch_norm is False
    assert SegmentationConfig("intensity", ndim=3).batch_norm is True
    assert SegmentationConfig("intensity", ndim=3, batch_norm=False).batch_norm is False
    assert SegmentationConfig("intensity", batch_norm=True).batch_norm is True


def test_segmenter_errors(tiny_encoder):
    with pytest.raises(ValueError, match="the encoder is for 2D images, but ndim is 3"):
        build_segmenter(tiny_encoder, 4, ndim=3)
    with pytest.raises(ValueError, match="num_labels is 1"):
        build_segmenter(tiny_encoder, 1)
    with pytest.raises(ValueError, match=r"ensemble is \('t2',\)"):
        build_segmenter(tiny_encoder, 4, ensemble=("t2",))
    with pytest.raises(ValueError, match="ensemble is"):
        SegmentationConfig("intensity", ensemble=("gamma", "gamma"))
    with pytest.raises(ValueError, match=r"remapped is 1\.5"):
        SegmentationConfig("intensity", remapped=1.5)
    with pytest.raises(ValueError, match=r"zoom_factors are \(1\.0,\)"):
        SegmentationConfig("intensity", zoom_factors=(1,))
    with pytest.raises(ValueError, match="copies is 0"):
        SegmentationConfig("intensity", copies=0)
    for name in ("steps", "batch_size", "learning_rate", "num_filters", "patience"):
        with pytest.raises(ValueError, match=f"{name} is -1; give a positive number"):
            SegmentationConfig("intensity", **{name: -1})


def test_whole_volumes_come_one_by_one():
    assert SegmentationConfig("intensity").batch_size == 8
    assert SegmentationConfig("intensity", ndim=3, patch=32).batch_size == 8
    assert SegmentationConfig("intensity", ndim=3).batch_size == 1
    assert SegmentationConfig("intensity", ndim=3, batch_size=2).batch_size == 2


def test_augmentation_moves_image_and_labels_alike(rng):
    labels = np.zeros((4, 40, 44, 1), np.int32)
    labels[:, 10:30, 8:36] = 3
    images = labels.astype(np.float32)
    augment = tf.function(SpatialAugmentation(flip_axis=0))
    moved_images, moved_labels = augment(images, labels)
    assert moved_labels.dtype == tf.int32
    assert set(np.unique(moved_labels)) == {0, 3}
    # Linear and nearest interpolation agree but at boundaries, and every image moved its own way.
    assert np.mean(np.abs(moved_images - tf.cast(moved_labels, tf.float32)) < 1.5) > 0.99
    assert len({moved.numpy().tobytes() for moved in moved_labels}) == 4
    assert np.mean(moved_labels != labels) > 0.01


def test_augmentation_without_ranges_is_the_identity(rng):
    images = rng.random((2, 12, 13, 14, 1)).astype(np.float32)
    labels = rng.integers(0, 5, images.shape)
    same = SpatialAugmentation(smooth_std=0, affine_std=0)(tf.constant(images), tf.constant(labels))
    np.testing.assert_allclose(same[0], images, atol=1e-5)
    np.testing.assert_array_equal(same[1], labels)


def test_flip_mirrors_both(rng):
    images = rng.random((64, 6, 7, 1)).astype(np.float32)
    flipped, labels = SpatialAugmentation(0, (), 0, flip_axis=0)(
        tf.constant(images), tf.constant(images * 1000, tf.int32)
    )
    mirrored = np.isclose(flipped, images[:, ::-1], atol=1e-5).all(axis=(1, 2, 3))
    same = np.isclose(flipped, images, atol=1e-5).all(axis=(1, 2, 3))
    assert np.all(mirrored ^ same)
    assert 15 < mirrored.sum() < 49
    np.testing.assert_allclose(labels, 1000 * flipped.numpy(), atol=1.01)


STILL = IntensityAugmentation(gamma_std=0, bias_std=0, thickness_std=0, noise_std=0)


def masked_images(rng, shape):
    """Images that are 0 outside a box, and reach 1 inside."""
    images = np.zeros(shape, np.float32)
    inside = images[:, 3:-3, 4:-4]
    inside[...] = rng.uniform(0.1, 0.9, inside.shape)
    inside[:, 2, 2] = 1
    return images


@pytest.mark.parametrize("shape", [(3, 14, 17, 1), (2, 14, 12, 13, 1)])
def test_intensity_augmentation_without_ranges_is_the_identity(rng, shape):
    images = masked_images(rng, shape)
    same, labels = STILL(tf.constant(images), "labels")
    np.testing.assert_allclose(same, images, atol=1e-6)
    assert labels == "labels"


@pytest.mark.parametrize("shape", [(16, 24, 27, 1), (4, 14, 12, 13, 1)])
def test_intensity_augmentation_changes_each_image_inside_only(rng, shape):
    images = masked_images(rng, shape)
    changed = tf.function(IntensityAugmentation())(tf.constant(images), 0)[0].numpy()
    assert np.all(changed[images == 0] == 0)
    np.testing.assert_allclose(changed.max(axis=tuple(range(1, len(shape)))), 1, atol=1e-6)
    assert changed.min() == 0
    differences = (changed - images)[images > 0].reshape(len(images), -1)
    assert differences.std(axis=1).min() > 0.01
    assert np.abs(np.corrcoef(differences)[0, 1]) < 0.9


def test_slices_grow_thick_along_one_axis(rng):
    images = np.tile(masked_images(rng, (1, 40, 41, 1)), (64, 1, 1, 1))
    augment = dataclasses.replace(STILL, thickness_std=3.0)
    changed = augment(tf.constant(images), 0)[0].numpy()
    inner = (slice(None), slice(12, -12), slice(12, -12))
    # White noise stays white across the axis of the blur, and gets smooth along it.
    smooth = [
        np.abs(np.diff(changed[inner], axis=axis)).mean(axis=(1, 2, 3))
        / np.abs(np.diff(images[inner], axis=axis)).mean(axis=(1, 2, 3))
        / changed[inner].std(axis=(1, 2, 3))
        * images[inner].std(axis=(1, 2, 3))
        for axis in (1, 2)
    ]
    untouched = np.isclose(changed, images).all(axis=(1, 2, 3))
    assert 16 < untouched.sum() < 48
    along_first, along_second = smooth[0] < 0.8, smooth[1] < 0.8
    assert not np.any(along_first & along_second)
    assert min(along_first.sum(), along_second.sum()) > 5


def test_training_on_rendered_labels_sees_no_image():
    images = np.full((4, 8, 8, 1), np.nan, np.float32)
    labels = np.arange(4).reshape(4, 1, 1, 1) * np.ones((1, 8, 8, 1), int)
    data = training_data(
        images, labels, batch_size=4, render=lambda maps: tf.cast(maps, tf.float32) / 10
    )
    rendered, truth = next(iter(data))
    np.testing.assert_allclose(rendered, truth / 10, atol=1e-6)
    assert len(np.unique(truth)) > 1


def test_patches_keep_the_scale_of_the_whole_image():
    images = np.zeros((2, 20, 24, 1), np.float32)
    images[:, 3:-3, 3:-3], images[:, 10, 12] = 0.5, 1
    labels = (images > 0).astype(np.int32)
    still = IntensityAugmentation(gamma_std=0, bias_std=0, thickness_std=0, noise_std=0)
    smooth = SpatialAugmentation(smooth_std=1.0, affine_std=0.0)
    data = training_data(images, labels, 2, smooth, still, patch=6)
    batches = [batch for batch in data.take(30).as_numpy_iterator()]
    highest = np.array([patches.max(axis=(1, 2, 3)) for patches, _ in batches])
    assert batches[0][0].shape == batches[0][1].shape == (2, 6, 6, 1)
    # Most patches miss the one bright voxel; scaled by themselves, they would reach 1.
    assert np.mean(np.isclose(highest, 0.5, atol=1e-3)) > 0.5
    assert not np.isclose(highest, 0.5, atol=1e-3).all()
    inside = np.concatenate([patches[labels == 1] for patches, labels in batches])
    assert np.mean(inside > 0.2) > 0.95


def test_training_data_is_endless_and_shuffled():
    images = np.arange(10, dtype=np.float32).reshape(10, 1, 1, 1)
    data = training_data(images, images.astype(int), batch_size=4, seed=3)
    values = [batch[0].numpy().ravel().tolist() for batch in data.take(5)]
    flat = [value for batch in values for value in batch]
    assert flat != sorted(flat)
    assert set(flat) == set(range(10))


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
    monkeypatch.setattr("cifl_tf.training_folder.MAX_STEPS_PER_EPOCH", 3)
    train, validation, _ = cohort.split((3, 1, 0))
    folder = tmp_path / "segmenter"
    segmenter = train_segmenter(folder, config, train, validation, verbose=0)
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "history.csv", "checkpoints", "logs", "segmenter.keras"}
    history = read_history(folder / "history.csv")
    assert [row["step"] for row in history] == ["3", "6"]
    assert "val_dice" in history[0]

    # The best epoch was kept: its validation Dice is measured again.
    images, labels = cohort_arrays(validation, "T1w", config)
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
    monkeypatch.setattr(segmentation_training, "fit_in_folder", lambda *_, **__: None)
    monkeypatch.setattr(segmentation_training, "load_segmenter", lambda out: None)
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

    monkeypatch.setattr(segmentation_training, "fit_in_folder", fit)
    monkeypatch.setattr(segmentation_training, "load_segmenter", lambda out: None)
    for _ in range(4):  # cut off once, then out of patience
        train_segmenter(folder, config, train, validation, verbose=0)
    assert fits == [0, 1]


def test_a_segmenter_with_test_time_augmentation(cohort, config, tmp_path):
    config = dataclasses.replace(config, flip_axis=0, zoom_factors=(1.2,), steps=2)
    train, validation, _ = cohort.split((3, 1, 0))
    segmenter = train_segmenter(tmp_path / "segmenter", config, train, validation, verbose=0)
    assert segmenter.get_layer("average_over_copies").zoom_factors == (1.2,)
    image = cohort_arrays(validation, "T1w", config)[0]
    mirrored = segmenter.predict(image[:, ::-1], verbose=0)
    np.testing.assert_allclose(mirrored[:, ::-1], segmenter.predict(image, verbose=0), atol=1e-5)


@pytest.mark.parametrize("synthetic", [False, True])
def test_trains_on_patches(cohort, config, tmp_path, synthetic):
    config = dataclasses.replace(config, patch=16, synthetic=synthetic, steps=2)
    train, validation, _ = cohort.split((3, 1, 0))
    segmenter = train_segmenter(tmp_path / "segmenter", config, train, validation, verbose=0)
    image = cohort_arrays(validation, "T1w", config)[0]
    assert min(image.shape[1:-1]) > 16
    assert segmenter.predict(image, verbose=0).shape == (*image.shape[:-1], 5)


def test_encoded_copies_are_features_of_the_augmented_images(tiny_encoder, rng):
    extract = build_segmenter(tiny_encoder, 4, ensemble=("inverted",)).get_layer("features")
    images = rng.random((3, 9, 10, 1)).astype(np.float32)
    labels = rng.integers(0, 4, images.shape).astype(np.uint8)

    def brighter(images, labels):
        return images + 1, labels

    data = training_data(images, labels, 1, look=brighter, seed=1)
    features, encoded_labels = encode_once(extract, data, 6, quiet=True)
    assert features.dtype == np.float16
    for i in range(6):  # every image twice, with its own labels
        found = [n for n in range(3) if np.array_equal(labels[n], encoded_labels[i])]
        expected = extract(images[found] + 1)[0]
        np.testing.assert_allclose(features[i], expected, atol=1e-3)
    assert len(np.unique(encoded_labels, axis=0)) == 3


@pytest.mark.parametrize("patch", [None, 16])
def test_trains_on_copies_encoded_once(cohort, config, tmp_path, monkeypatch, patch):
    counts = []

    def counted(extract, data, count, quiet):
        counts.append(count)
        return encode_once(extract, data, count, quiet)

    monkeypatch.setattr(segmentation_training, "encode_once", counted)
    config = dataclasses.replace(config, copies=2, patch=patch)
    train, validation, _ = cohort.split((3, 1, 0))
    folder = tmp_path / "segmenter"
    segmenter = train_segmenter(folder, config, train, validation, verbose=0)
    assert counts == [2 * 9, 3]
    images, labels = cohort_arrays(validation, "T1w", config)
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


LOOKS = {  # by case: what is asked, and whether images are varied and rendered
    "features": ({}, True, False),
    "features of images as they are": ({"vary_intensity": False}, False, False),
    "intensities": ({"model": "intensity"}, True, False),
    "synthetic": ({"synthetic": True}, False, True),
}


@pytest.mark.parametrize("case", LOOKS)
def test_what_is_fitted_on_what(cohort, config, tmp_path, monkeypatch, case):
    changes, varied, rendered = LOOKS[case]
    config = dataclasses.replace(config, **{"remapped": 0.25, **changes})
    seen = {}

    def data(images, labels, batch_size, *, augmentation, look, seed, render, patch):
        seen.update(look=look, render=render)
        assert patch is None
        assert isinstance(augmentation, SpatialAugmentation)

    monkeypatch.setattr(segmentation_training, "training_data", data)
    monkeypatch.setattr(segmentation_training, "fit_in_folder", lambda *_, **__: None)
    monkeypatch.setattr(segmentation_training, "load_segmenter", lambda out: None)
    train, validation, _ = cohort.split((2, 1, 0))
    train_segmenter(tmp_path / "segmenter", config, train, validation)
    assert seen["look"] == (IntensityAugmentation(remapped=0.25) if varied else None)
    assert (seen["render"] is not None) == rendered
