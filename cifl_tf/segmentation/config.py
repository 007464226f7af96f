"""What a segmenter is trained with."""

import dataclasses

from cifl_tf._checks import COUNT, NDIM, POSITIVE, SEED, check_choice, check_fields, check_given
from cifl_tf.augmentation.intensity import make_intensity_augmentation
from cifl_tf.augmentation.test_time import checked_zoom_factors
from cifl_tf.datasets.views import View
from cifl_tf.features.frozen import checked_remappings
from cifl_tf.images.volumes import PLANES


@dataclasses.dataclass(frozen=True)
class SegmentationConfig:
    """What a segmenter is trained with.

    Attributes:
        encoder: folder or .keras file of the encoder, or "intensity" for the paper's baseline.
        contrast: the one contrast to train on, such as "T1w"; see ``Subject.image``.
        synthetic: train on images made from the label maps instead, each of a random contrast, and
            only choose the best epoch on ``contrast``; see ``SYNTHETIC_LOOK``.
        ndim: 2 for slices, 3 for volumes.
        voxel_size: in mm, to which the images of both cohorts are resampled, see
            ``Cohort.resampled``; None for their own, which must be the same then.
        plane: of the slices.
        num_slices: neighboring slices per subject; None for the whole extent of the labels, see
            ``datasets.slices``.
        center_label: name of the label on which the slices are centered; None for the middle.
        remappings: see ``FrozenFeatures``.
        num_filters: channels of the U-Net at full resolution.
        batch_norm: see ``build_segmenter``; None for volumes only, which do not begin to learn in
            large patches without it.
        steps: optimization steps at most.
        batch_size: images per step; 0 for 8 slices or patches, or 1 whole volume.
        cached_copies: how many augmented copies of each training image are encoded once, before
            training, and kept in memory in half precision; None encodes new ones in every step.
        patch: size in voxels of the random patches that training sees, for volumes that do not fit
            into memory with their features; None for whole images. Validation sees these. Patches
            are cut from copies after these were encoded, so nothing is missing at their borders.
        learning_rate: of Adam at the start; it falls to zero along a cosine.
        patience: epochs without a better validation Dice after which training stops.
        flip_axis: axis to mirror at random, or None; see ``SpatialAugmentation``. The trained
            segmenter takes the mean over the image and its mirror image.
        zoom_factors: of copies of the image that are in this mean too; see ``AverageOverCopies``.
        intensity_augmentation: change the intensities at random too; see ``IntensityAugmentation``.
        random_contrast: share of the images that get a random contrast, also where nothing else
            varies.
        seed: of weights, order and augmentation.

    Raises:
        ValueError: the ensemble names what there is not, or something twice, ``random_contrast``
            is no
            share, zoom factors are out of range, there is no such plane or axis, or another number
            is not positive, finite or whole.
    """

    encoder: str
    contrast: str = "T1w"
    synthetic: bool = False
    ndim: int = 2
    voxel_size: float | None = None
    plane: str = "coronal"
    num_slices: int | None = None
    center_label: str | None = None
    remappings: tuple[str, ...] = ("inverted",)
    num_filters: int = 16
    batch_norm: bool | None = None
    steps: int = 2000
    batch_size: int = 0
    cached_copies: int | None = None
    patch: int | None = None
    learning_rate: float = 1e-3
    patience: int = 10
    flip_axis: int | None = None
    zoom_factors: tuple[float, ...] = ()
    intensity_augmentation: bool = True
    random_contrast: float = 0.0
    seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "remappings", checked_remappings(self.remappings))
        object.__setattr__(self, "zoom_factors", checked_zoom_factors(self.zoom_factors))
        # It refuses what is no share.
        make_intensity_augmentation(self.intensity_augmentation, self.random_contrast)
        check_fields(self, ndim=NDIM)
        check_choice("plane", self.plane, [*PLANES])
        check_choice("flip_axis", self.flip_axis, [None, *range(self.ndim)])
        if self.batch_size == 0:
            whole_volumes = self.ndim == 3 and self.patch is None
            object.__setattr__(self, "batch_size", 1 if whole_volumes else 8)
        if self.batch_norm is None:
            object.__setattr__(self, "batch_norm", self.ndim == 3)
        counts = dict.fromkeys(("steps", "batch_size", "num_filters", "patience"), COUNT)
        check_fields(self, learning_rate=POSITIVE, seed=SEED, **counts)
        check_given(self, voxel_size=POSITIVE, num_slices=COUNT, cached_copies=COUNT, patch=COUNT)

    @property
    def view(self) -> View:
        """Of every subject."""
        return View(self.ndim, self.plane, self.num_slices, self.center_label)
