"""Train an encoder in a folder, so that the same call goes on after a kill."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Literal, get_args

import tensorflow as tf

from cifl_tf._compat import keras
from cifl_tf.callbacks import FeaturePictures, SaveEncoder
from cifl_tf.checks import (
    COUNT,
    NDIM,
    POSITIVE,
    SEED,
    VOXELS,
    Number,
    check_choice,
    check_fields,
    checked_range,
)
from cifl_tf.datasets import segmentation_maps
from cifl_tf.encoder import (
    ARCHITECTURES,
    NUM_CONVOLUTIONS,
    build_encoder,
    receptive_radius,
    start_from,
)
from cifl_tf.files import expanded
from cifl_tf.inference import ENCODER_FILE
from cifl_tf.losses import ContrastiveLoss
from cifl_tf.model import CIFL
from cifl_tf.model_files import ENCODER, load_network
from cifl_tf.precision import precision_policy
from cifl_tf.pretrained import load_encoder
from cifl_tf.random_keys import key_of
from cifl_tf.synthesis import Appearance, PairSynthesizer, Range, shape_maps
from cifl_tf.training_folder import (
    LOG_FOLDER,
    check_folder,
    claim_folder,
    cosine_adam,
    fit_in_folder,
    require_memory,
)
from cifl_tf.training_progress import Goal, read_progress

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

    Raises:
        ValueError: a number is not finite or out of its range, or a name is none of the choices.
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
        counts = ("num_filters", "steps", "batch_size")
        positive = ("tau_alpha", "tau_beta", "tau_gamma", "learning_rate")
        check_fields(
            self,
            ndim=NDIM,
            num_features=Number("at least 2, as the loss compares channels", 2, whole=True),
            window=VOXELS,
            seed=SEED,
            **dict.fromkeys(counts, COUNT),
            **dict.fromkeys(positive, POSITIVE),
        )
        check_choice("architecture", self.architecture, ARCHITECTURES)
        check_choice("precision", self.precision, get_args(Precision))
        VOXELS.check("crop", self.loss_crop)
        object.__setattr__(self, "shape", self._checked_shape())
        # A blur of the whole image leaves nothing; shapes that much larger leave one label.
        longest = max(self.shape)
        if not self.scales:
            raise ValueError("scales is (); give at least one size in voxels")
        for scale in self.scales:
            Number(f"sizes from 2 to {4 * longest} voxels", 2, 4 * longest).check("scales", scale)
        check_fields(self, thickness_std=Number(f"an SD from 0 to {longest} voxels", 0, longest))
        checked_range("blur_std", self.blur_std, highest=longest)
        for name in ("noise_std", "blur_std", "bias_std"):
            object.__setattr__(self, name, getattr(self.appearance, name))

    def _checked_shape(self):
        shape = tuple(self.shape or ((96, 96) if self.ndim == 2 else (40, 40, 40)))
        if len(shape) != self.ndim:
            raise ValueError(f"shape is {shape}, but ndim is {self.ndim}; give one size per axis")
        for size in shape:
            COUNT.check("shape", size)
        smallest = max(8, 2 * self.loss_crop + 4)  # 8 as in shape_maps
        if min(shape) < smallest:
            raise ValueError(
                f"shape is {shape}; give at least {smallest} voxels along each axis, of which the "
                f"loss leaves out {self.loss_crop} at every border (crop)"
            )
        return shape

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

    @property
    def full_resolution_channels(self) -> int:
        """Channels of all convolutions at full resolution, counted in float32."""
        hidden = NUM_CONVOLUTIONS - 1 if self.architecture == "plain" else 3
        channels = hidden * self.num_filters + self.num_features
        return channels if self.precision == "float32" else channels // 2


def train(
    out,
    config: TrainingConfig,
    verbose: int | str = "auto",
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> keras.Model:
    """Train an encoder in a folder, or go on with it, or load it when it is complete.

    The folder holds ``config.json``, ``encoder.keras``, ``history.csv``, ``checkpoints`` (of model,
    optimizer and epoch) and ``logs`` (TensorBoard). After a kill at any moment, the same call goes
    on from the last complete epoch and ends with the weights of a training that was not killed.

    Args:
        out: the folder; new, empty, or of the same configuration.
        config: what to train.
        verbose: as in ``keras.Model.fit``; "auto" shows a bar in a terminal, else a line per epoch.
        callbacks: further ones, such as ``SnapshotEncoder``; not called when it is complete.

    Returns:
        The trained encoder.

    Raises:
        ValueError: the folder holds something else or damaged files, or was made with another
            configuration; the images do not fit into memory; or the loss is no finite number.
    """
    out = expanded(out)
    claim = dataclasses.asdict(config)
    check_folder(out, claim)
    progress = read_progress(out, Goal(ENCODER_FILE, ENCODER, config.steps))
    if progress.network is not None:
        return progress.network
    require_memory(2 * config.batch_size, config.shape, config.full_resolution_channels)
    keras.utils.set_random_seed(config.seed)
    maps, num_labels = _label_maps(config, start=progress.steps * config.batch_size)
    synthesizer = PairSynthesizer(config.shape, num_labels, appearance=config.appearance)
    fixed_maps, _ = _label_maps(config, start=0)
    fixed_pair = synthesizer(next(iter(fixed_maps.batch(1))), seed=config.seed)
    model = build_model(config, synthesizer)
    if config.initial is not None and not progress.steps:
        start_from(model.encoder, load_encoder(config.initial))
    keys = tf.data.Dataset.counter(progress.steps).map(partial(key_of, config.seed, 1))
    claim_folder(out, claim)
    fit_in_folder(
        model,
        tf.data.Dataset.zip((maps.batch(config.batch_size), keys)).prefetch(2),
        config.steps,
        out,
        [
            SaveEncoder(out / ENCODER_FILE),
            FeaturePictures(out / LOG_FOLDER / "pictures", tf.concat(fixed_pair, 0)),
            *callbacks,
        ],
        verbose,
        progress,
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
