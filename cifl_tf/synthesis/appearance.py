"""What gives a label map its contrast: the ranges that synthesis draws from."""

import dataclasses

from cifl_tf._checks import AT_LEAST_0, POSITIVE, Number, check_fields, checked_range

Range = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Appearance:
    """Ranges of everything that gives a label map its contrast, each drawn anew per image.

    Attributes:
        mean: lowest and highest mean intensity of a label, of 255.
        noise_std: lowest and highest SD of the noise within a label, of 255.
        zero_background: probability that label 0 is black.
        blur_std: lowest and highest SD of the Gaussian blur, in voxels.
        thickness_std: highest SD in voxels of a further blur along one axis, as of thick slices, in
            half of the images.
        bias_std: lowest and highest SD of the logarithm of the bias field.
        bias_scale: distance between the independent points of the bias field, in voxels.
        gamma_std: SD of the logarithm of the exponent applied to intensities in [0, 1].

    Example:
        >>> import cifl_tf as cifl
        >>> cifl.Appearance(bias_std=(0, 0.5), thickness_std=0).bias_std
        (0.0, 0.5)
    """

    mean: Range = (0.0, 255.0)
    noise_std: Range = (0.0, 20.0)
    zero_background: float = 0.2
    blur_std: Range = (0.0, 1.5)
    thickness_std: float = 3.0
    bias_std: Range = (0.0, 0.3)
    bias_scale: float = 40.0
    gamma_std: float = 0.25

    def __post_init__(self):
        for name in ("mean", "noise_std", "blur_std", "bias_std"):
            object.__setattr__(self, name, checked_range(name, getattr(self, name)))
        check_fields(
            self,
            zero_background=Number("a probability", 0, 1),
            bias_scale=POSITIVE,
            gamma_std=AT_LEAST_0,
            thickness_std=AT_LEAST_0,
        )
