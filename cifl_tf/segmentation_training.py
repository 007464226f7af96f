"""Train a segmenter in a folder, and apply it to image files."""

import dataclasses
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import tensorflow as tf

from cifl_tf._compat import keras
from cifl_tf.augmentation import SpatialAugmentation, intensity_augmentation
from cifl_tf.averaging import average_over_copies, checked_zoom_factors
from cifl_tf.callbacks import KeepBest
from cifl_tf.checks import COUNT, NDIM, POSITIVE, SEED, check_choice, check_fields, check_given
from cifl_tf.datasets import Cohort, slice_coverage, stack_cohort
from cifl_tf.datasets.geometry import cohort_preprocessing
from cifl_tf.files import expanded
from cifl_tf.frozen_features import checked_ensemble
from cifl_tf.image_model import Preprocessing, Segmenter
from cifl_tf.inference import apply_to_volume
from cifl_tf.intensity import BEFORE_0_2, air_mask
from cifl_tf.metrics import volumes_mm3
from cifl_tf.model_files import SEGMENTER, load_network
from cifl_tf.pretrained import load_features
from cifl_tf.segmentation import (
    MeanDice,
    SegmentationLoss,
    build_segmenter,
    encode_once,
    training_data,
    without_features,
)
from cifl_tf.synthesis import Appearance, PairSynthesizer
from cifl_tf.training_folder import (
    CONFIG_FILE,
    check_folder,
    claim_folder,
    cosine_adam,
    fit_in_folder,
    read_config,
    require_memory,
)
from cifl_tf.training_progress import HISTORY_FILE, Goal, read_progress
from cifl_tf.volumes import PLANES, read_volume, slice_axis, to_original

SEGMENTER_FILE = "segmenter.keras"
MONITOR = "val_dice"
# Of images made from label maps: more noise than shapes need, for the tissue that labels leave out,
# and air as black as in a skull-stripped image (Billot et al., Medical Image Analysis 2023).
SYNTHETIC_LOOK = Appearance(noise_std=(0.0, 35.0), zero_background=1.0)


@dataclasses.dataclass(frozen=True)
class SegmentationConfig:
    """What a segmenter is trained with.

    Attributes:
        model: folder or .keras file of the encoder, or "intensity" for the paper's baseline.
        contrast: the one contrast to train on, such as "T1w"; see ``Subject.image``.
        synthetic: train on images made from the label maps instead, each of a random contrast, and
            only choose the best epoch on ``contrast``; see ``SYNTHETIC_LOOK``.
        ndim: 2 for slices, 3 for volumes.
        voxel_size: in mm, to which the images of both cohorts are resampled, see
            ``Cohort.resampled``; None for their own, which must be the same then.
        plane: of the slices.
        num_slices: neighboring slices per subject; None for the whole extent of the labels, see
            ``datasets.slices``.
        around: name of the label on which the slices are centred; None for the middle.
        ensemble: see ``FrozenFeatures``.
        num_filters: channels of the U-Net at full resolution.
        batch_norm: see ``build_segmenter``; None for volumes only, which do not begin to learn in
            large patches without it.
        steps: optimisation steps at most.
        batch_size: images per step; 0 for 8 slices or patches, or 1 whole volume.
        copies: how many augmented copies of each training image are encoded once, before training,
            and kept in memory in half precision; None encodes new ones in every step.
        patch: size in voxels of the random patches that training sees, for volumes that do not fit
            into memory with their features; None for whole images. Validation sees these. Patches
            are cut from copies after these were encoded, so nothing is missing at their borders.
        learning_rate: of Adam at the start; it falls to zero along a cosine.
        patience: epochs without a better validation Dice after which training stops.
        flip_axis: axis to mirror at random, or None; see ``SpatialAugmentation``. The trained
            segmenter takes the mean over the image and its mirror image.
        zoom_factors: of copies of the image that are in this mean too; see ``AverageOverCopies``.
        vary_intensity: change the intensities at random too; see ``IntensityAugmentation``.
        remapped: share of the images that get a random contrast, also where nothing else varies.
        seed: of weights, order and augmentation.

    Raises:
        ValueError: the ensemble names what there is not, or something twice, ``remapped`` is no
            share, zoom factors are out of range, there is no such plane or axis, or another number
            is not positive, finite or whole.
    """

    model: str
    contrast: str = "T1w"
    synthetic: bool = False
    ndim: int = 2
    voxel_size: float | None = None
    plane: str = "coronal"
    num_slices: int | None = None
    around: str | None = None
    ensemble: tuple[str, ...] = ("inverted",)
    num_filters: int = 16
    batch_norm: bool | None = None
    steps: int = 2000
    batch_size: int = 0
    copies: int | None = None
    patch: int | None = None
    learning_rate: float = 1e-3
    patience: int = 10
    flip_axis: int | None = None
    zoom_factors: tuple[float, ...] = ()
    vary_intensity: bool = True
    remapped: float = 0.0
    seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "ensemble", checked_ensemble(self.ensemble))
        object.__setattr__(self, "zoom_factors", checked_zoom_factors(self.zoom_factors))
        intensity_augmentation(self.vary_intensity, self.remapped)  # refuses what is no share
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
        check_given(self, voxel_size=POSITIVE, num_slices=COUNT, copies=COUNT, patch=COUNT)


def cohort_arrays(
    cohort: Cohort, contrast: str, config: SegmentationConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, *spatial, 1) in [0, 1] and labels (n, *spatial, 1) of a cohort.

    Slices for ``config.ndim`` 2, whole volumes for 3. All subjects have one shape.
    """
    images, labels, _ = stack_cohort(
        cohort, contrast, config.ndim, config.plane, config.num_slices, config.around
    )
    return images, labels


def train_segmenter(
    out,
    config: SegmentationConfig,
    train: Cohort,
    validation: Cohort,
    verbose: int | str = "auto",
) -> keras.Model:
    """Train a segmenter in a folder, or go on with it, or load it when it is complete.

    The folder is one of ``fit_in_folder`` and holds the best model so far, by validation Dice
    without test-time augmentation, as ``segmenter.keras``.

    Args:
        out: the folder; new, empty, or of the same configuration and subjects.
        config: what to train.
        train: subjects with ``config.contrast`` and labels.
        validation: other subjects of the same dataset.
        verbose: as in ``keras.Model.fit``.

    Raises:
        ValueError: the folder holds something else or damaged files; the cohorts do not fit the
            configuration, or the images not into memory; or the loss is no finite number.
    """
    out = expanded(out)
    claim = {
        **dataclasses.asdict(config),
        "data": train.source,
        "train": train.names,
        "validation": validation.names,
        "label_names": ["background", *train.label_names.values()],
        "label_values": train.label_values,
    }
    check_folder(out, claim)
    goal = Goal(SEGMENTER_FILE, SEGMENTER, config.steps, MONITOR, config.patience)
    progress = read_progress(out, goal)
    if progress.network is not None:
        return as_segmenter(progress.network, out)
    if config.voxel_size is not None:
        train, validation = (cohort.resampled(config.voxel_size) for cohort in (train, validation))
    encoder = load_features(config.model)
    keras.utils.set_random_seed(config.seed)
    segmenter = build_segmenter(
        encoder,
        train.num_labels,
        config.ndim,
        config.num_filters,
        ensemble=config.ensemble,
        batch_norm=bool(config.batch_norm),
    )
    images, labels = cohort_arrays(train, config.contrast, config)
    held_out = cohort_arrays(validation, config.contrast, config)
    shape = images.shape[1:-1]
    fitted_shape = shape if config.patch is None else (config.patch,) * config.ndim
    look = intensity_augmentation(config.vary_intensity, config.remapped)
    num_features = segmenter.get_layer("features").num_features
    # Of neurite's U-Net at full resolution, two convolutions on the way down and two up.
    require_memory(config.batch_size, fitted_shape, num_features + 4 * config.num_filters)
    # Copies are encoded whole, and patches cut from their features.
    painted = shape if config.copies is not None else fitted_shape
    vary = partial(
        training_data,
        images,
        labels,
        augmentation=SpatialAugmentation(flip_axis=config.flip_axis),
        look=None if config.synthetic else look,
        seed=config.seed,
        render=_painter(painted, train.num_labels) if config.synthetic else None,
    )
    if config.copies is None:
        fitted = segmenter
        data = vary(config.batch_size, patch=config.patch, start=progress.steps)
    else:
        require_memory(config.copies * len(images), shape, num_features, itemsize=2)
        fitted = without_features(segmenter)
        encode = partial(encode_once, segmenter.get_layer("features"), quiet=verbose == 0)
        # Not named, so that the arrays are freed when the dataset has its own copy.
        data = training_data(
            *encode(vary(batch_size=1), config.copies * len(images)),
            config.batch_size,
            seed=config.seed,
            patch=config.patch,
            start=progress.steps,
        )
        held_out = encode(tf.data.Dataset.from_tensor_slices(held_out).batch(1), len(held_out[0]))
    fitted.compile(cosine_adam(config), SegmentationLoss(), metrics=[MeanDice(train.num_labels)])
    product = Segmenter(
        average_over_copies(segmenter, config.flip_axis, config.zoom_factors),
        cohort_preprocessing(train, config.ndim, config.plane),
        claim["label_names"],
        train.label_values,
        _coverage(train, config),
        name="segmenter",
    )
    keep = KeepBest(out / SEGMENTER_FILE, out / HISTORY_FILE, MONITOR, config.patience, product)
    claim_folder(out, claim)
    fit_in_folder(
        fitted,
        data,
        config.steps,
        out,
        [keep],
        verbose,
        progress,
        validation_data=held_out,
        # Whole volumes, also where training sees patches.
        validation_batch_size=1 if config.ndim == 3 else config.batch_size,
    )
    return load_segmenter(out)


def _coverage(cohort, config):
    if config.ndim == 3:
        return None
    view = config.plane, config.num_slices, config.around
    return slice_coverage(cohort, config.contrast, *view)


def _painter(shape, num_labels):
    """The function from label maps to images of random contrasts."""
    return PairSynthesizer(shape, num_labels, appearance=SYNTHETIC_LOOK).render


def load_segmenter(folder) -> Segmenter:
    """Load a segmenter.

    Args:
        folder: of ``train_segmenter``, or the file ``segmenter.keras`` itself. One from before
            version 0.2 needs the ``config.json`` beside it, and does not know its voxel size.

    Raises:
        ValueError: there is none yet, or the file is damaged.
    """
    path = expanded(folder)
    file = path if path.is_file() else path / SEGMENTER_FILE
    return as_segmenter(load_network(file, SEGMENTER), file.parent)


def as_segmenter(network: keras.Model, folder) -> Segmenter:
    """A network of a training folder as a segmenter, which it is but for those of before 0.2.

    Args:
        network: from ``segmenter.keras``.
        folder: with the ``config.json`` of an older one.

    Raises:
        ValueError: there is none.
    """
    if isinstance(network, Segmenter):
        return network
    config = read_config(folder)
    missing = [name for name in ("plane", "label_names", "label_values") if name not in config]
    if missing:
        raise ValueError(
            f"{Path(folder) / CONFIG_FILE} lacks {missing}, which a segmenter of before version "
            "0.2 needs; give the whole folder of its training"
        )
    plane = config["plane"] if len(network.input_shape) == 4 else None
    preprocessing = Preprocessing(plane=plane, scaling=BEFORE_0_2)
    return Segmenter(network, preprocessing, config["label_names"], config["label_values"])


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """Labels of one image.

    Attributes:
        image: intensities on the image's own grid.
        labels: label map on the image's own grid, with the values of the training segmentations.
        probabilities: 4D image of the probabilities of all labels, on the same grid.
        volumes: mm³ by label name, background left out.
        slices_beyond: slices with labels, of a segmenter for slices, in a part of the body that its
            training slices did not show; see ``Segmenter.coverage``.
    """

    image: nibabel.Nifti1Image
    labels: nibabel.Nifti1Image
    probabilities: nibabel.Nifti1Image
    volumes: dict[str, float]
    slices_beyond: int = 0


def segment_image(
    image,
    folder,
    voxel_size=None,
    frame: int | None = None,
    progress: bool = False,
    segmenter: keras.Model | None = None,
    window: tuple[float, float] | None = None,
) -> Segmentation:
    """Segment a NIfTI or MGZ file, or a nibabel image, with a trained segmenter.

    The image is resampled to the voxel size of the training, and the result is on its own grid.

    Args:
        image: the image; a 2D segmenter goes through it slice by slice. Slices that show nothing
            are background.
        folder: see ``load_segmenter``.
        voxel_size: in mm: resample to it before, in place of that of the training images.
        frame: for 4D files, which image.
        progress: show a progress bar over slices.
        segmenter: the folder's, where it is loaded already, to segment many images.
        window: see ``features_of``.

    Raises:
        ValueError, FileNotFoundError: as ``features_of``.
    """
    if not isinstance(segmenter, Segmenter):
        segmenter = load_segmenter(folder)
    preprocessing = segmenter.preprocessing.with_choices(window=window)
    original = read_volume(image, frame)
    probabilities, volume = apply_to_volume(
        original, segmenter, preprocessing, voxel_size, progress=progress, name=image
    )
    beyond = 0
    if len(segmenter.input_shape) == 4:
        axis = slice_axis(volume.data.shape, preprocessing.plane or "coronal")
        slices = np.moveaxis(volume.data, axis, 0).reshape(volume.data.shape[axis], -1)
        np.moveaxis(probabilities, axis, 0)[np.ptp(slices, axis=1) == 0] = _background(segmenter)
        found = np.moveaxis(probabilities, axis, 0).argmax(axis=-1).any(axis=(1, 2))
        shown = np.array([not air.all() for air in np.moveaxis(air_mask(volume.data), axis, 0)])
        beyond = int(np.count_nonzero(segmenter.slices_beyond(shown) & found))
    values = np.array(segmenter.label_values, np.int32)
    # Labels come from probabilities on the image's own grid, so that both agree everywhere.
    on_grid = to_original(probabilities, volume, "linear")
    indices = np.argmax(np.asarray(on_grid.dataobj), axis=-1)
    grid = volume.original
    # Not the product of the voxel sizes: the axes of a sheared grid are not at right angles.
    voxel = abs(np.linalg.det(grid.affine[:3, :3]))
    volumes = voxel * volumes_mm3(indices, range(1, len(values)), (1, 1, 1))
    return Segmentation(
        image=to_original(original.data, original),
        labels=grid.image(values[indices].reshape(grid.shape)),
        probabilities=on_grid,
        volumes=dict(zip(segmenter.label_names[1:], volumes.tolist(), strict=True)),
        slices_beyond=beyond,
    )


def _background(segmenter):
    """Probabilities of a voxel that shows nothing."""
    return np.eye(len(segmenter.label_values), dtype=np.float32)[0]
