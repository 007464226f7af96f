"""Trained on T1w, networks on intensities fail on inverted T1; on features they do not."""

import pytest

from cifl_tf.datasets import virtual_cohort
from cifl_tf.evaluation.scores import registration_scores, segmentation_scores
from cifl_tf.evaluation.summary import summary
from cifl_tf.features.config import TrainingConfig
from cifl_tf.features.training import train
from cifl_tf.registration.arrays import register_arrays
from cifl_tf.registration.config import RegistrationConfig
from cifl_tf.registration.training import train_registration
from cifl_tf.segmentation.config import SegmentationConfig
from cifl_tf.segmentation.training import train_segmenter

CONTRASTS = ["T1w", "T1w:inverted"]
VIEW = {"num_slices": 3, "center_label": "THA"}


@pytest.fixture(scope="module")
def cohorts():
    cohort = virtual_cohort(8, resolution=4)
    return [cohort.select(cohort.names[start:end]) for start, end in ((0, 4), (4, 6), (6, 8))]


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("effect") / "encoder"
    config = TrainingConfig(shape=(56, 56), num_features=8, num_filters=16, steps=200, window=12)
    train(folder, config, verbose=0)
    return folder


def means(rows):
    return {contrast: numbers["dice"]["mean"] for contrast, numbers in summary(rows).items()}


def segmentation_dice(model, cohorts, out):
    training, validation, test = cohorts
    config = SegmentationConfig(model, steps=150, num_filters=8, **VIEW)
    segmenter = train_segmenter(out, config, training, validation, verbose=0)
    return means(segmentation_scores(segmenter.predict_on_batch, test, CONTRASTS, **VIEW))


def registration_gain(model, cohorts, out):
    training, validation, test = cohorts
    config = RegistrationConfig(model, steps=100, augment=False, **VIEW)
    network = train_registration(out, config, training, validation, verbose=0)
    rows = registration_scores(
        lambda *pair: register_arrays(network, *pair), test, "T1w", CONTRASTS, hd95=False, **VIEW
    )
    before = dict(zip(rows["contrast"], rows["dice before"], strict=True))
    return {contrast: dice - before[contrast] for contrast, dice in means(rows).items()}


def test_segmentation_works_on_a_contrast_not_seen(cohorts, encoder_folder, tmp_path):
    baseline = segmentation_dice("intensity", cohorts, tmp_path / "baseline")
    cifl = segmentation_dice(str(encoder_folder), cohorts, tmp_path / "cifl")
    assert baseline["T1w"] > 0.4
    assert baseline["T1w:inverted"] < baseline["T1w"] - 0.15
    assert cifl["T1w:inverted"] > baseline["T1w:inverted"] + 0.2
    assert abs(cifl["T1w"] - cifl["T1w:inverted"]) < 0.15


def test_registration_works_on_a_contrast_not_seen(cohorts, encoder_folder, tmp_path):
    baseline = registration_gain("intensity", cohorts, tmp_path / "baseline")
    cifl = registration_gain(str(encoder_folder), cohorts, tmp_path / "cifl")
    assert baseline["T1w to T1w"] > 0.02
    assert baseline["T1w to T1w:inverted"] < 0
    assert cifl["T1w to T1w:inverted"] > baseline["T1w to T1w:inverted"] + 0.05
