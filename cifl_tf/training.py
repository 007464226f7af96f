"""Train an encoder in a folder, so that the same call goes on after a kill."""

import dataclasses
from pathlib import Path
from typing import Literal, get_args

import tensorflow as tf

from cifl_tf._compat import keras
from cifl_tf.callbacks import FeaturePictures, SaveEncoder
from cifl_tf.datasets import segmentation_maps
from cifl_tf.encoder import build_encoder, receptive_radius, start_from
from cifl_tf.inference import ENCODER_FILE
from cifl_tf.losses import ContrastiveLoss
from cifl_tf.model import CIFL
from cifl_tf.model_files import load_network
from cifl_tf.precision import precision_policy
from cifl_tf.pretrained import load_encoder
from cifl_tf.synthesis import Appearance, PairSynthesizer, Range, shape_maps
from cifl_tf.training_folder import (
    LOG_FOLDER,
    check_folder,
    claim_folder,
    cosine_adam,
    fit_in_folder,
    require_positive,
    steps_done,
)

Precision = Literal["float32", "mixed_bfloat16"]


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """What a training folder was made with.

    Attributes:
        ndim: 2 or 3.
        shape: sizes of the training images in voxels; empty for 96 x 96 or 40 x 40 x 40.
        num_features: channels of the features.
        num_filters: channels of the hidden layers.
        architecture: see ``build_encoder``.
        scales: typical sizes of the random shapes in voxels; see ``shape_maps``.
        steps: optimisation steps in all.
        batch_size: pairs per step.
        tau_alpha, tau_beta, tau_gamma: temperatures of the loss.
        window: size of the loss's windows in voxels; 0 normalises each channel once over the whole
            image.
        crop: voxels of the border that the loss leaves out; None for the receptive radius of the
            architecture.
        both_orders: see ``ContrastiveLoss``.
        noise_std, blur_std, bias_std: lowest and highest, see ``Appearance``.
        thickness_std: highest, see ``Appearance``.
        learning_rate: of Adam at the start; it falls to zero along a cosine.
        precision: "float32", or "mixed_bfloat16" to compute the convolutions in bfloat16, faster on
            processors that have it. The saved encoder is in float32.
        seed: of weights, shapes and contrasts.
        labels: folder of segmentations to take instead of random shapes, or None.
        initial: encoder to start from, see ``load_encoder`` and ``start_from``; None for random
            weights.
    """

    ndim: int = 2
    shape: tuple[int, ...] = ()
    num_features: int = 16
    num_filters: int = 32
    architecture: str = "plain"
    scales: tuple[float, ...] = (4, 8, 16, 32)
    steps: int = 2000
    batch_size: int = 6
    tau_alpha: float = 0.3
    tau_beta: float = 0.3
    tau_gamma: float = 0.3
    window: int = 20
    crop: int | None = None
    both_orders: bool = False
    noise_std: Range = Appearance.noise_std
    blur_std: Range = Appearance.blur_std
    bias_std: Range = Appearance.bias_std
    thickness_std: float = Appearance.thickness_std
    learning_rate: float = 1e-3
    precision: Precision = "float32"
    seed: int = 0
    labels: str | None = None
    initial: str | None = None

    def __post_init__(self):
        if self.ndim not in (2, 3):
            raise ValueError(f"ndim is {self.ndim}; give 2 or 3")
        shape = tuple(self.shape or ((96, 96) if self.ndim == 2 else (40, 40, 40)))
        if len(shape) != self.ndim:
            raise ValueError(f"shape is {shape}, but ndim is {self.ndim}; give one size per axis")
        object.__setattr__(self, "shape", shape)
        for name, voxels in (("crop", self.loss_crop), ("window", self.window)):
            if voxels < 0:
                raise ValueError(f"{name} is {voxels}; give a number of voxels from 0")
        smallest = max(8, 2 * self.loss_crop + 4)  # 8 as in shape_maps
        if min(shape) < smallest:
            raise ValueError(
                f"shape is {shape}; give at least {smallest} voxels along each axis, of which the "
                f"loss leaves out {self.loss_crop} at every border"
            )
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision is {self.precision!r}; choose from {get_args(Precision)}")
        temperatures = ("tau_alpha", "tau_beta", "tau_gamma")
        require_positive(self, "steps", "batch_size", "learning_rate", *temperatures)
        for name in ("noise_std", "blur_std", "bias_std"):
            object.__setattr__(self, name, getattr(self.appearance, name))

    @property
    def loss_crop(self) -> int:
        """Voxels of the border that the loss leaves out."""
        radius = receptive_radius(self.architecture)
        return radius if self.crop is None else self.crop

    @property
    def appearance(self) -> Appearance:
        """Of the synthesised images."""
        return Appearance(
            noise_std=self.noise_std,
            blur_std=self.blur_std,
            bias_std=self.bias_std,
            thickness_std=self.thickness_std,
        )


def train(out, config: TrainingConfig, verbose: int | str = "auto") -> keras.Model:
    """Train an encoder in a folder, or go on with it, or load it when it is complete.

    The folder holds ``config.json``, ``encoder.keras``, ``history.csv``, ``checkpoints`` (of model,
    optimizer and epoch) and ``logs`` (TensorBoard). After a kill at any moment, the same call goes
    on from the last complete epoch and ends with the same number of steps.

    Args:
        out: the folder; new, empty, or of the same configuration.
        config: what to train.
        verbose: as in ``keras.Model.fit``; "auto" shows a bar in a terminal, else a line per epoch.

    Returns:
        The trained encoder.

    Raises:
        ValueError: the folder holds something else, or was made with another configuration.
    """
    out = Path(out)
    claim = dataclasses.asdict(config)
    check_folder(out, claim)
    done = steps_done(out, config.steps)
    if done >= config.steps:
        return load_network(out / ENCODER_FILE)
    keras.utils.set_random_seed(config.seed)
    seen = done * config.batch_size
    maps, num_labels = _label_maps(config, start=seen)
    synthesizer = PairSynthesizer(config.shape, num_labels, appearance=config.appearance)
    fixed_maps, _ = _label_maps(config, start=0)
    fixed_pair = tf.concat(synthesizer(next(iter(fixed_maps.batch(1)))), 0)
    model = build_model(config, synthesizer)
    if config.initial is not None and not seen:
        start_from(model.encoder, load_encoder(config.initial))
    claim_folder(out, claim)
    fit_in_folder(
        model,
        maps.batch(config.batch_size).prefetch(2),
        config.steps,
        out,
        [
            SaveEncoder(out / ENCODER_FILE),
            FeaturePictures(out / LOG_FOLDER / "pictures", fixed_pair),
        ],
        verbose,
    )
    return load_network(out / ENCODER_FILE)


def build_model(config: TrainingConfig, synthesizer: PairSynthesizer | None) -> CIFL:
    """The compiled model of a configuration."""
    with precision_policy(config.precision):
        encoder = build_encoder(
            config.ndim, config.num_features, config.num_filters, config.architecture
        )
    model = CIFL(encoder, synthesizer)
    loss = ContrastiveLoss(
        config.tau_alpha,
        config.tau_beta,
        config.tau_gamma,
        crop=config.loss_crop,
        window=config.window or None,
        both_orders=config.both_orders,
    )
    model.compile(cosine_adam(config), loss)
    return model


def _label_maps(config, start):
    if config.labels is not None:
        return segmentation_maps(config.labels, config.shape, seed=config.seed, start=start)
    num_labels = 16
    maps = shape_maps(config.shape, num_labels, config.scales, seed=config.seed, start=start)
    return maps, num_labels
