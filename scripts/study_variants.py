"""What `study_features.py` compares: recipes, architectures, losses and label maps."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cifl_tf  # noqa: F401  isort: skip  (first: it selects Keras 2 for TensorFlow)

import nibabel as nib  # isort: skip
import numpy as np
from tensorflow import keras

from cifl_tf.datasets import Cohort
from cifl_tf.features.cifl import CIFL
from cifl_tf.features.config import TrainingConfig
from cifl_tf.features.layers import CropTo, L2Normalize
from cifl_tf.features.losses import ContrastiveLoss
from cifl_tf.features.training import Builder, build_model
from cifl_tf.registration.instance import InstanceSettings
from cifl_tf.synthesis.pairs import PairSynthesizer
from cifl_tf.synthesis.shapes import shape_maps

REFERENCES = ("untrained", "mind-ssc", "intensities", "shapes-2d", "shapes-2d-wide")
BASE = TrainingConfig(scales=(2, 4, 8, 16), window=40, num_features=32, steps=500)
SHORT = 100  # steps of the trainings that differ from the base in one thing
DILATION_RATES = (1, 1, 2, 2, 4, 2, 1)  # of the hidden convolutions
DILATED_RADIUS = sum(DILATION_RATES) + 1
REGIONS = 4  # random parts of each label
NUM_SHAPES, NUM_BANDS, NUM_LAYERED = 16, 8, 60
# The default adds intensities, which hide what features differ in.
FEATURES_ALONE = InstanceSettings(intensity_weight=0.0)


@dataclass(frozen=True)
class Variant:
    """One kind of features.

    Attributes:
        group: what it varies.
        name: of its lines, and of its folders.
        config: of the encoder's training; None for features that are not trained here.
        settings: of the registration.
        training: name of the variant whose training it shares; None for its own.
        two_scales: see ``at_two_scales``.
        build: the compiled model; for what no option of `cifl train` changes.
        label_maps: writes files to train on into a folder, from the subjects that train.
    """

    group: str
    name: str
    config: TrainingConfig | None = None
    settings: InstanceSettings = FEATURES_ALONE
    training: str | None = None
    two_scales: bool = False
    build: Builder = build_model
    label_maps: Callable[[Cohort, Path], None] | None = None


def variants() -> list[Variant]:
    """All variants: what is trained elsewhere or not at all first, then the most promising."""
    choices: dict[str, dict[str, dict]] = {
        "length": {f"small-{steps}": {"steps": steps} for steps in (60, 30, 120, 500)},
        "learning rate": {f"rate-{rate:g}": {"learning_rate": rate} for rate in (3e-4, 3e-3)},
        "window": {f"window-{size or 'image'}": {"window": size} for size in (20, 80, 0)},
        "channels": {f"channels-{count}": {"num_features": count} for count in (16, 64)},
        "temperatures": {
            "tau-0.1": {"tau_alpha": 0.1, "tau_beta": 0.1, "tau_gamma": 0.1},
            "tau-1-1-0.1": {"tau_alpha": 1.0, "tau_beta": 1.0, "tau_gamma": 0.1},
        },
        "architecture": {"unet": {"architecture": "unet", "shape": (128, 128)}},
        "shapes": {"shapes-4-32": {"scales": (4, 8, 16, 32)}},
    }
    settings: dict[str, dict] = {
        **{f"smoothness-{value:g}": {"smoothness": value} for value in (0.05, 0.1, 0.4)},
        "spacing-4": {"spacing": 4},
        "steps-twice": {"steps": (80, 80, 80, 120)},
        "three-scales": {"scales": (4, 2, 1), "steps": (40, 40, 60)},
    }
    shorter = replace(BASE, steps=60)
    trained = [
        Variant(group, name, replace(shorter, **changes))
        for group, members in choices.items()
        for name, changes in members.items()
    ]
    registered = [
        Variant(
            "registration", f"{name}-{changed}", config, replace(FEATURES_ALONE, **changes), name
        )
        for changed, changes in settings.items()
        for name, config in (("small-60", shorter), ("intensities", None), ("untrained", None))
    ]
    side_by_side = [
        Variant("two scales", f"{name}-two-scales", config, training=name, two_scales=True)
        for name, config in (("small-60", shorter), ("untrained", None))
    ]
    references = [Variant("reference", name) for name in REFERENCES]
    return [*references, *trained, *_mended(), *side_by_side, *registered]


def _mended():
    """What might mend that training costs detail, each against ``short``."""
    short = replace(BASE, steps=SHORT)
    dilated = replace(short, crop=DILATED_RADIUS)
    return [
        Variant("mended", "short", short),
        Variant("mended", "short-300", replace(BASE, steps=300)),
        Variant("mended", "short-64-filters", replace(short, num_filters=64)),
        Variant("mended", "unsigned", replace(short, unsigned=True)),
        Variant("mended", "unsigned-500", replace(BASE, unsigned=True)),
        Variant("mended", "unsigned-residual", replace(short, unsigned=True), build=residual_model),
        Variant("mended", "spatial-term", short, build=with_spatial_term),
        Variant("mended", "three-windows", short, build=with_three_windows),
        Variant("mended", "weight-decay", short, build=with_weight_decay),
        Variant("mended", "averaged-weights", short, build=with_averaged_weights),
        Variant("mended", "residual", short, build=residual_model),
        Variant("mended", "orthogonal", short, build=orthogonal_model),
        Variant("mended", "dilated", dilated, build=dilated_model),
        Variant("mended", "brain-regions", short, label_maps=write_brain_regions),
        Variant("mended", "layers", short, label_maps=write_layered_shapes),
    ]


def with_spatial_term(config: TrainingConfig, synthesizer: PairSynthesizer | None) -> CIFL:
    """Voxels are told apart too, by a term beside the paper's loss."""
    model = build_model(config, synthesizer)
    loss = ContrastiveLoss.from_config({**model.loss.get_config(), "spatial_weight": 1.0})
    model.compile(model.optimizer, loss)
    return model


class ThreeWindows(ContrastiveLoss):
    """The mean of the loss in windows of half the size, of the size, and in the whole image."""

    def call(self, y_true, y_pred):
        """One loss per pair."""
        config = self.get_config()
        sizes = (self.window // 2, self.window, None)
        losses = [ContrastiveLoss.from_config({**config, "window": size}) for size in sizes]
        return sum(loss.call(y_true, y_pred) for loss in losses) / len(losses)


def with_three_windows(config: TrainingConfig, synthesizer: PairSynthesizer | None) -> CIFL:
    """Windows of several sizes in one loss."""
    model = build_model(config, synthesizer)
    model.compile(model.optimizer, ThreeWindows.from_config(model.loss.get_config()))
    return model


def with_weight_decay(config: TrainingConfig, synthesizer: PairSynthesizer | None) -> CIFL:
    """AdamW instead of Adam."""
    model = build_model(config, synthesizer)
    schedule = keras.optimizers.schedules.CosineDecay(config.learning_rate, config.steps)
    model.compile(keras.optimizers.AdamW(schedule, weight_decay=0.05), model.loss)
    return model


def with_averaged_weights(config: TrainingConfig, synthesizer: PairSynthesizer | None) -> CIFL:
    """A constant learning rate, and the average of the weights over about the last 20 steps."""
    model = build_model(config, synthesizer)
    optimizer = keras.optimizers.Adam(
        config.learning_rate, use_ema=True, ema_momentum=0.95, ema_overwrite_frequency=config.steps
    )
    model.compile(optimizer, model.loss)
    return model


def residual_model(config: TrainingConfig, synthesizer: PairSynthesizer | None) -> CIFL:
    """Three residual blocks of two convolutions in place of six hidden convolutions."""

    def body(image):
        hidden = _convolution(config.num_filters)(image)
        for _ in range(3):
            inner = _convolution(config.num_filters)(hidden)
            inner = _convolution(config.num_filters)(inner)
            hidden = keras.layers.Add()([hidden, inner])
        return hidden

    return _with_body(config, synthesizer, body)


def orthogonal_model(config: TrainingConfig, synthesizer: PairSynthesizer | None) -> CIFL:
    """The paper's convolutions from orthogonal weights."""
    layer = partial(_convolution, config.num_filters, initializer="orthogonal")
    layers = [layer() for _ in DILATION_RATES]
    return _with_body(config, synthesizer, keras.Sequential(layers))


def dilated_model(config: TrainingConfig, synthesizer: PairSynthesizer | None) -> CIFL:
    """Dilated convolutions, which see ``DILATED_RADIUS`` voxels far."""
    layers = [_convolution(config.num_filters, rate) for rate in DILATION_RATES]
    return _with_body(config, synthesizer, keras.Sequential(layers))


def _convolution(filters, rate=1, initializer="he_normal"):
    return keras.layers.Conv2D(
        filters,
        3,
        padding="same",
        dilation_rate=rate,
        activation=keras.layers.LeakyReLU(0.2),
        kernel_initializer=initializer,
    )


def _with_body(config, synthesizer, body):
    """The model of a configuration whose encoder has other hidden layers."""
    image = keras.Input((None, None, 1), name="image")
    features = keras.layers.Conv2D(config.num_features, 3, padding="same")(body(image))
    encoder = keras.Model(image, L2Normalize()([features, image]), name="encoder")
    plain = build_model(config, synthesizer)
    model = CIFL(encoder, synthesizer)
    model.compile(type(plain.optimizer).from_config(plain.optimizer.get_config()), plain.loss)
    return model


def write_brain_regions(cohort: Cohort, folder: Path) -> None:
    """The label maps of subjects, each label cut into ``REGIONS`` parts at random."""
    for index, subject in enumerate(cohort):
        labels = np.asarray(subject.labels()).squeeze()
        parts = _map(labels.shape, REGIONS, (16, 32), seed=index)
        _save(folder / f"{subject.name}.nii.gz", REGIONS * labels + parts)


def write_layered_shapes(_: Cohort, folder: Path) -> None:
    """Random shapes with thin nested layers: every second level of smooth noise is a label more."""
    random = np.random.default_rng(0)
    for index in range(NUM_LAYERED):
        shapes = _map((160, 160), NUM_SHAPES, BASE.scales, seed=index)
        coarse = random.uniform(0, NUM_BANDS, (1, 10, 10, 1))
        smooth = keras.layers.UpSampling2D(16, interpolation="bilinear")(coarse).numpy()
        bands = np.floor(smooth[0, ..., 0]).astype(int) % 2
        _save(folder / f"layers-{index:02}.nii.gz", shapes + NUM_SHAPES * bands)


def _map(shape, num_labels, scales, seed):
    maps = shape_maps(shape, num_labels, scales, seed=seed)
    return next(iter(maps)).numpy()[..., 0]


def _save(file, labels):
    nib.save(nib.Nifti1Image(labels.astype(np.uint8), np.eye(4)), file)


def at_two_scales(encoder: keras.Model) -> keras.Model:
    """Features of an image beside those of its average over blocks of 2 x 2 voxels.

    Args:
        encoder: for slices, from (batch, *spatial, 1) to (batch, *spatial, C).

    Returns:
        A model from (batch, *spatial, 1) to (batch, *spatial, 2 C).
    """
    image = keras.Input((None, None, 1))
    coarse = encoder(keras.layers.AveragePooling2D(2, padding="same")(image))
    fine = keras.layers.UpSampling2D(2, interpolation="bilinear")(coarse)
    features = keras.layers.Concatenate()([encoder(image), CropTo()([fine, image])])
    return keras.Model(image, features)
