"""What an encoder is trained with."""

import dataclasses
from typing import Annotated, Literal, get_args

from cifl_tf._checks import (
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
from cifl_tf._options import Option
from cifl_tf.features.architectures import (
    ARCHITECTURES,
    NUM_CONVOLUTIONS,
    Architecture,
    receptive_radius,
)
from cifl_tf.features.pretrained import absolute_model
from cifl_tf.images.atomic import absolute_path
from cifl_tf.synthesis.appearance import Appearance, Range

Precision = Literal["float32", "mixed_bfloat16"]


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """What an encoder is trained with.

    The first sentence of each attribute is the help of its option of ``cifl train``.

    Attributes:
        ndim: 2 for slices, 3 for volumes.
        shape: sizes of the training images in voxels. Empty for 96 x 96 or 40 x 40 x 40.
        num_features: channels of the features.
        num_filters: channels of the hidden layers.
        architecture: the paper's eight convolutions ("plain"), or a small U-Net. See
            ``build_encoder``.
        scales: typical sizes of the random shapes in voxels. See ``shape_maps``.
        noise_std: lowest and highest SD of the noise in a shape, of 255.
        blur_std: lowest and highest SD of the blur in voxels.
        thickness_std: highest SD in voxels of a blur along one axis, as of thick slices.
        bias_std: lowest and highest SD of the logarithm of the bias field.
        steps: optimization steps in all.
        batch_size: pairs per step.
        tau_alpha, tau_beta, tau_gamma: temperature of the loss. See ``ContrastiveLoss``.
        window: size of the loss's windows in voxels; 0 for the whole image.
        crop: voxels of the border that the loss leaves out. None for the receptive radius of the
            architecture.
        both_orders: contrast the channels of both views, not of one. See ``ContrastiveLoss``.
        unsigned: contrast different channels by the absolute value of their similarity. In the
            paper's form, long trainings make pairs of channels that are negatives of each other.
        learning_rate: learning rate of Adam at the start; it falls to zero along a cosine.
        precision: number type of the convolutions; bfloat16 is faster where a processor has it.
            The saved encoder is in float32.
        seed: seed of weights, shapes and contrasts.
        labels: folder of segmentations to take in place of random shapes. None for these.
        initial: encoder to start from: a name of `cifl info`, a folder of `cifl train`, or a .keras
            file; for volumes also one for slices. See ``transfer_weights``. None for random
            weights.

    Raises:
        ValueError: a number is not finite or out of its range, or a name is none of the choices.

    Example:
        >>> from cifl_tf.features.config import TrainingConfig
        >>> config = TrainingConfig(architecture="unet", steps=1000)
        >>> config.shape, config.loss_crop
        ((96, 96), 23)
    """

    ndim: int = 2
    shape: Annotated[tuple[int, ...], Option(default="96,96 or 40,40,40")] = ()
    num_features: int = 16
    num_filters: int = 32
    architecture: Architecture = "plain"
    scales: tuple[float, ...] = (4, 8, 16, 32)
    noise_std: Range = Appearance.noise_std
    blur_std: Range = Appearance.blur_std
    thickness_std: float = Appearance.thickness_std
    bias_std: Range = Appearance.bias_std
    steps: int = 2000
    batch_size: int = 6
    tau_alpha: float = 0.3
    tau_beta: float = 0.3
    tau_gamma: float = 0.3
    window: int = 20
    crop: Annotated[int | None, Option(default="as far as the encoder sees")] = None
    both_orders: bool = False
    unsigned: bool = False
    learning_rate: float = 1e-3
    precision: Precision = "float32"
    seed: int = 0
    labels: Annotated[str | None, Option(default="random shapes", to_field=absolute_path)] = None
    initial: Annotated[str | None, Option(default="random weights", to_field=absolute_model)] = None

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
        """Of the synthesized images."""
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
