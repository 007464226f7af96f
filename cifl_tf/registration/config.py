"""What a registration network is trained with."""

import dataclasses
from typing import Literal, get_args

from cifl_tf._checks import COUNT, NDIM, POSITIVE, SEED, check_choice, check_fields, check_given
from cifl_tf.augmentation.intensity import make_intensity_augmentation
from cifl_tf.datasets.views import View
from cifl_tf.features.frozen import checked_remappings
from cifl_tf.images.volumes import PLANES
from cifl_tf.registration.settings import check_settings

SimilarityName = Literal["image", "features"]


LossName = Literal["mse", "multiscale-mse", "ncc"]


@dataclasses.dataclass(frozen=True)
class RegistrationConfig:
    """What a registration network is trained with.

    Attributes:
        encoder: folder or .keras file of the encoder, or "intensity" for the paper's baseline.
        contrast: the one contrast to train on, such as "T1w"; see ``Subject.image``.
        ndim: 2 for slices, 3 for volumes.
        voxel_size: in mm, to which the images of both cohorts are resampled, see
            ``Cohort.resampled``; None for their own, which must be the same then.
        plane: of the slices.
        num_slices: slices per subject; slice i of one is registered to slice i of another.
        center_label: name of the label on which the slices are centered; None for the middle.
        remappings: see ``FrozenFeatures``.
        similarity: what the loss compares, "image" or "features"; see ``Registration``.
        loss: how: "mse", "multiscale-mse" (``MultiScaleMSE``) or "ncc" (``LocalNCC``).
        smoothness: see ``Registration``, as for the next three.
        label_weight: 0 trains without labels.
        int_steps: squarings that integrate the velocity.
        int_resolution: voxel size of the velocity, in voxels.
        num_filters: channels of the U-Net at full resolution.
        num_cascades: how many times the network is applied; see ``Registration``.
        steps: optimization steps.
        batch_size: pairs per step; 0 for 6 of slices, or 1 of volumes.
        learning_rate: of Adam at the start; it falls to zero along a cosine.
        augment: deform both images of a pair in one random way; see ``SpatialAugmentation``. In a
            way each, it would ask for larger warps than subjects need, and trained worse.
        intensity_augmentation: change the intensities that the network sees, of each image in its
            own way, see ``IntensityAugmentation``; the loss compares the images as they are.
        random_contrast: share of the images that get a random contrast, also where nothing else
            varies.
        seed: of weights, order and augmentation.

    Raises:
        ValueError: there is no such loss, similarity or plane, or the ensemble names what there is
            not, or something twice; ``random_contrast`` is no share, a weight is negative, or
            another number is not positive, finite or whole.
    """

    encoder: str
    contrast: str = "T1w"
    ndim: int = 2
    voxel_size: float | None = None
    plane: str = "coronal"
    num_slices: int = 9
    center_label: str | None = None
    remappings: tuple[str, ...] = ("inverted",)
    similarity: SimilarityName = "image"
    loss: LossName = "mse"
    smoothness: float = 0.02
    label_weight: float = 0.0
    int_steps: int = 7
    int_resolution: int = 2
    num_filters: int = 16
    num_cascades: int = 2
    steps: int = 1500
    batch_size: int = 0
    learning_rate: float = 1e-3
    augment: bool = True
    intensity_augmentation: bool = True
    random_contrast: float = 0.0
    seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "remappings", checked_remappings(self.remappings))
        # It refuses what is no share.
        make_intensity_augmentation(self.intensity_augmentation, self.random_contrast)
        check_fields(self, ndim=NDIM)
        check_choice("plane", self.plane, [*PLANES])
        check_choice("loss", self.loss, get_args(LossName))
        if self.batch_size == 0:
            object.__setattr__(self, "batch_size", 6 if self.ndim == 2 else 1)
        counts = ("num_slices", "steps", "batch_size")
        check_fields(self, learning_rate=POSITIVE, seed=SEED, **dict.fromkeys(counts, COUNT))
        check_given(self, voxel_size=POSITIVE)
        check_settings(self)

    @property
    def view(self) -> View:
        """Of every subject."""
        return View(self.ndim, self.plane, self.num_slices, self.center_label)
