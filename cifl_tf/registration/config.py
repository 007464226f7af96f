"""What a registration network is trained with."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, get_args

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
)
from cifl_tf._former_names import accepts_former
from cifl_tf._options import Option
from cifl_tf.datasets.remappings import checked_remappings
from cifl_tf.features.pretrained import absolute_model
from cifl_tf.images.planes import PLANES, PlaneName
from cifl_tf.registration.settings import check_settings

if TYPE_CHECKING:  # images take seconds to import
    from cifl_tf.datasets.views import View

# Of a volume whose warp is optimized: a head at 2 mm. 1.1 million voxels took 3.9 GB of memory.
MOST_VOXELS = 1_500_000
LARGEST_RESIDUAL = 0.5  # mm, of an inverse that is worth no words

# Of the registration of two scans, see ``register``.
RIGID, AFFINE, DEFORMABLE = STAGES = ("rigid", "affine", "deformable")

SimilarityName = Literal["image", "features", "labels"]
SyntheticName = Literal["subjects", "shapes"]
LossName = Literal["mse", "multiscale-mse", "ncc"]


@accepts_former(model="encoder")
@dataclasses.dataclass(frozen=True)
class RegistrationConfig:
    """What a registration network is trained with.

    The first sentence of each attribute is the help of its option of ``cifl register train``.

    Attributes:
        encoder: a name of `cifl info`, a folder of `cifl train`, a .keras file, or 'intensity', the
            paper's baseline. An encoder for slices sees volumes in three planes; see ``in_planes``.
        contrast: the one contrast to train on, such as T1w. See ``Subject.image``.
        synthetic: train on images of random contrasts, made from the label maps of the 'subjects'
            or from random 'shapes' (SynthMorph style). The loss then compares labels alone, with a
            weight of 1 where none is given, and ``contrast`` only chooses the best epoch; see
            ``synthetic_pairs``. None for the images of the subjects.
        ndim: 2 for slices, 3 for volumes.
        voxel_size: resample all images to this size in mm before. See ``Cohort.resampled``; None
            for their own size, which must be the same then.
        plane: plane of the slices.
        num_slices: slices per subject; slice i of one is registered to slice i of another.
        center_label: name of the label on which the slices are centered. None for the middle.
        remappings: average the features of an image and of remapped copies of it: names out of
            inverted, gamma and folded with commas between, or none. See ``FrozenFeatures``.
        similarity: what the loss compares. See ``Registration``, as for the next three.
        loss: how the loss compares. Also ``MultiScaleMSE`` and ``LocalNCC``.
        smoothness: weight of the smoothness of the warp.
        label_weight: weight of the overlap of the labels; 0 trains without them.
        int_steps: squarings that integrate the velocity; 0 for a warp without velocity.
        int_resolution: voxel size of the velocity, in voxels of the image.
        num_filters: channels of the U-Net at full resolution.
        num_cascades: how many times the network is applied, each time to what it warped before. See
            ``Registration``.
        steps: optimization steps.
        batch_size: pairs per step. 0 for 6 of slices, or 1 of volumes.
        learning_rate: learning rate of Adam at the start; it falls to zero along a cosine.
        augment: deform both images of a pair at random, in one way. See ``SpatialAugmentation``. In
            a way each, it would ask for larger warps than subjects need, and trained worse.
        intensity_augmentation: vary gamma, bias field, slice thickness and noise at random. Of each
            image in its own way, see ``IntensityAugmentation``; the loss compares the images as
            they are.
        random_contrast: share of the training images that get a random contrast, also where
            nothing else varies.
        seed: seed of weights, order, augmentation and the choice of subjects.

    Raises:
        ValueError: there is no such loss, similarity or plane, or the remappings name what there
            is not, or something twice; ``random_contrast`` is no share, a weight is negative, or
            another number is not positive, finite or whole.

    Example:
        >>> import cifl_tf as cifl
        >>> config = cifl.RegistrationConfig("shapes-2d", contrast="T2w", plane="axial")
        >>> config.batch_size, config.view.plane
        (6, 'axial')
    """

    encoder: Annotated[
        str, Option(default="shapes-2d or shapes-3d", kind=str | None, to_field=absolute_model)
    ]
    contrast: str = "T1w"
    synthetic: Annotated[SyntheticName | None, Option(default="images of the subjects")] = None
    ndim: int = 2
    voxel_size: Annotated[float | None, Option(default="their own, which must be the same")] = None
    plane: PlaneName = "coronal"
    num_slices: int = 9
    center_label: Annotated[str | None, Option(default="the middle")] = None
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
    batch_size: Annotated[int, Option(default="6; of volumes 1")] = 0
    learning_rate: float = 1e-3
    augment: bool = True
    intensity_augmentation: bool = True
    random_contrast: float = 0.0
    seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "remappings", checked_remappings(self.remappings))
        check_fields(self, random_contrast=SHARE, ndim=NDIM)
        check_choice("plane", self.plane, [*PLANES])
        check_choice("loss", self.loss, get_args(LossName))
        if self.batch_size == 0:
            object.__setattr__(self, "batch_size", 6 if self.ndim == 2 else 1)
        check_contrasts(self.random_contrast, self.synthetic)
        if self.synthetic is not None:
            check_choice("synthetic", self.synthetic, get_args(SyntheticName))
            object.__setattr__(self, "similarity", "labels")
            object.__setattr__(self, "label_weight", self.label_weight or 1.0)
        counts = ("num_slices", "steps", "batch_size")
        check_fields(self, learning_rate=POSITIVE, seed=SEED, **dict.fromkeys(counts, COUNT))
        check_given(self, voxel_size=POSITIVE)
        check_settings(self)

    @property
    def view(self) -> "View":
        """Of every subject."""
        from cifl_tf.datasets.views import View

        return View(self.ndim, self.plane, self.num_slices, self.center_label)


def check_tissues_stage(tissues: bool | None, stages: Sequence[str]) -> None:
    """Refuse tissues to be compared without the stage that does so.

    Raises:
        ValueError: there is no deformable stage.
    """
    if tissues and DEFORMABLE not in stages:
        raise ValueError(
            f"tissues are compared in the {DEFORMABLE} stage, but stages are {', '.join(stages)}; "
            "add it, or leave tissues out"
        )


def checked_stages(stages: Sequence[str]) -> tuple[str, ...]:
    """The stages of the registration of two scans, in their order.

    Raises:
        ValueError: there are none, or an unknown one.
    """
    chosen = [stages] if isinstance(stages, str) else stages
    if not chosen or not {*chosen} <= {*STAGES}:
        raise ValueError(
            f"the stages are {', '.join(chosen) or 'none'}; give one or more of {', '.join(STAGES)}"
        )
    return tuple(name for name in STAGES if name in chosen)
