"""What a segmenter is trained with."""

import dataclasses
from typing import TYPE_CHECKING, Annotated

from cifl_tf._checks import (
    COUNT,
    NDIM,
    POSITIVE,
    SEED,
    SHARE,
    check_choice,
    check_contrasts,
    check_fields,
    check_given,
    checked_zoom_factors,
)
from cifl_tf._former_names import accepts_former
from cifl_tf._options import Option
from cifl_tf.datasets.remappings import checked_remappings
from cifl_tf.features.pretrained import INTENSITY, absolute_model
from cifl_tf.images.planes import PLANES, PlaneName

if TYPE_CHECKING:  # images take seconds to import
    from cifl_tf.datasets.views import View


def _flip_axis(flip):
    return 0 if flip else None


def _flips(flip_axis):
    if flip_axis not in (None, 0):
        raise ValueError(f"flip_axis is {flip_axis}; --flip mirrors axis 0 only, left and right")
    return flip_axis is not None


@accepts_former(model="encoder")
@dataclasses.dataclass(frozen=True)
class SegmentationConfig:
    """What a segmenter is trained with.

    The first sentence of each attribute is the help of its option of ``cifl segment train``.

    Attributes:
        encoder: a name of `cifl info`, a folder of `cifl train`, a .keras file, or 'intensity', the
            paper's baseline. An encoder for slices sees volumes in three planes; see ``in_planes``.
        contrast: the one contrast to train on, such as T1w. See ``Subject.image``.
        synthetic: train on images made from the label maps instead (SynthSeg style). Each has a
            random contrast, and ``contrast`` only chooses the best epoch; see ``label_painter``.
        ndim: 2 for slices, 3 for volumes.
        voxel_size: resample all images to this size in mm before. See ``Cohort.resampled``; None
            for their own size, which must be the same then.
        plane: plane of the slices.
        num_slices: neighboring slices per subject. None for the whole extent of the labels, see
            ``datasets.slices``.
        center_label: name of the label on which the slices are centered. None for the middle.
        remappings: average the features of an image and of remapped copies of it: names out of
            inverted, gamma and folded with commas between, or none. See ``FrozenFeatures``.
        with_image: give the U-Net the image beside its features. Then random contrasts in training
            help most, see ``random_contrast``.
        num_filters: channels of the U-Net at full resolution.
        batch_norm: normalize the channels after every level of the U-Net. None for volumes only,
            which do not begin to learn in large patches without it; see ``build_segmenter``.
        steps: optimization steps at most.
        batch_size: images per step. 0 for 8 slices or patches, or 1 whole volume.
        cached_copies: encode this many augmented copies of each image once, not new ones in every
            step. They are kept in half precision, in files where they would fill the memory.
        patch: train on random patches of this size in voxels. For volumes that do not fit into
            memory with their features; None for whole images, which validation sees always.
            Patches are cut from copies after these were encoded, so nothing is missing at their
            borders.
        learning_rate: learning rate of Adam at the start; it falls to zero along a cosine.
        patience: epochs without a better validation Dice after which training stops.
        flip_axis: mirror left and right at random, and when applied average over both; not for
            lateralized labels. The axis to mirror, or None; see ``SpatialAugmentation``. The
            trained segmenter takes the mean over the image and its mirror image.
        zoom_factors: when applied, average over copies too that are zoomed by these factors, such
            as 1.2 or 0.9,1.2. See ``AverageOverCopies``.
        intensity_augmentation: vary gamma, bias field, slice thickness and noise at random. See
            ``IntensityAugmentation``.
        random_contrast: share of the training images that get a random contrast, also where
            nothing else varies.
        random_strip: share of the training images that lose what lies beyond their labels and a rim
            of 0 to 3 voxels; for labels that fill the brain. Other tools leave other rims when they
            take the skull away. See ``RandomStrip``.
        seed: seed of weights, order, augmentation and the choice of subjects.

    Raises:
        ValueError: the remappings name what there is not, or something twice, the image is asked
            for beside intensities, ``random_contrast`` is no share, zoom factors are out of range,
            there is no such plane or axis, or another number is not positive, finite or whole.

    Example:
        >>> import cifl_tf as cifl
        >>> config = cifl.SegmentationConfig("shapes-3d", ndim=3, patch=64)
        >>> config.batch_size, config.batch_norm
        (8, True)
    """

    encoder: Annotated[
        str,
        Option(default="shapes-2d-v2 or shapes-3d-v2", kind=str | None, to_field=absolute_model),
    ]
    contrast: str = "T1w"
    synthetic: bool = False
    ndim: int = 2
    voxel_size: Annotated[float | None, Option(default="their own, which must be the same")] = None
    plane: PlaneName = "coronal"
    num_slices: Annotated[
        int | None,
        Option(default="the whole extent of the labels, 40 at most; 9 with --center-label"),
    ] = None
    center_label: Annotated[str | None, Option(default="the middle")] = None
    remappings: tuple[str, ...] = ("inverted",)
    with_image: bool = False
    num_filters: int = 16
    batch_norm: Annotated[bool | None, Option(default="for volumes only")] = None
    steps: int = 2000
    batch_size: Annotated[int, Option(default="8; of whole volumes 1")] = 0
    cached_copies: int | None = None
    patch: Annotated[int | None, Option(default="whole images")] = None
    learning_rate: float = 1e-3
    patience: int = 10
    flip_axis: Annotated[
        int | None, Option(name="flip", kind=bool, to_field=_flip_axis, from_field=_flips)
    ] = None
    zoom_factors: Annotated[tuple[float, ...], Option(name="zoom")] = ()
    intensity_augmentation: bool = True
    random_contrast: float = 0.0
    random_strip: float = 0.0
    seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "remappings", checked_remappings(self.remappings))
        object.__setattr__(self, "zoom_factors", checked_zoom_factors(self.zoom_factors))
        check_fields(self, random_contrast=SHARE, random_strip=SHARE, ndim=NDIM)
        check_choice("plane", self.plane, [*PLANES])
        check_choice("flip_axis", self.flip_axis, [None, *range(self.ndim)])
        if self.batch_size == 0:
            whole_volumes = self.ndim == 3 and self.patch is None
            object.__setattr__(self, "batch_size", 1 if whole_volumes else 8)
        if self.batch_norm is None:
            object.__setattr__(self, "batch_norm", self.ndim == 3)
        if self.flip_axis is not None and self.ndim == 2 and self.plane == "sagittal":
            raise ValueError(
                "--flip mirrors left and right, which sagittal slices do not show; leave it out"
            )
        check_contrasts(self.random_contrast, self.synthetic)
        if self.random_strip and self.synthetic:
            raise ValueError(
                "random_strip strips images, and synthetic makes them from labels; leave one out"
            )
        if self.with_image and self.encoder == INTENSITY:
            raise ValueError(
                f"with_image is True, but encoder is {INTENSITY!r}, which is the image already; "
                "give another encoder, or leave with_image out"
            )
        counts = dict.fromkeys(("steps", "batch_size", "num_filters", "patience"), COUNT)
        check_fields(self, learning_rate=POSITIVE, seed=SEED, **counts)
        check_given(self, voxel_size=POSITIVE, num_slices=COUNT, cached_copies=COUNT, patch=COUNT)

    @property
    def view(self) -> "View":
        """Of every subject."""
        from cifl_tf.datasets.views import View

        return View(self.ndim, self.plane, self.num_slices, self.center_label)
