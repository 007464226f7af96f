"""Register any two scans of any contrast, in stages: rigid or affine, then deformable."""

import contextlib
import functools
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace

from cifl_tf._checks import AT_LEAST_0
from cifl_tf._compat import keras
from cifl_tf.features.pretrained import load_encoder
from cifl_tf.images.grid import resized
from cifl_tf.images.memory import forget_peak, peak_memory
from cifl_tf.images.volumes import read_volume
from cifl_tf.models.image_model import preprocessing_of
from cifl_tf.registration.affine import Affine
from cifl_tf.registration.affine_registration import feature_similarity, register_affine
from cifl_tf.registration.arrays import register_arrays
from cifl_tf.registration.companions import labels_of, mask_of
from cifl_tf.registration.config import AFFINE, DEFORMABLE, RIGID, STAGES, checked_stages
from cifl_tf.registration.demons import DemonsSettings
from cifl_tf.registration.images import register_read
from cifl_tf.registration.methods import DeformableMethod, Method, NoDeformation
from cifl_tf.registration.plausibility import (
    foreground_overlap,
    matrix_doubts,
    overlap_doubts,
    warp_doubts,
)
from cifl_tf.registration.result import RegistrationResult

ENCODERS = ("shapes-3d", "shapes-2d-wide")  # that align, and that deform
FAST = DemonsSettings(scales=(4, 2), steps=(30, 25))


def _accepts_network(function):
    """Make a function pass a call of before version 0.4, by a network, to ``register_arrays``."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        if isinstance(args[0] if args else kwargs.get("network"), keras.Model):
            warnings.warn(
                "register of a network is register_arrays now", DeprecationWarning, stacklevel=2
            )
            return register_arrays(*args, **kwargs)
        return function(*args, **kwargs)

    return call


@_accepts_network
def register(
    moving,
    fixed,
    encoder: str | keras.Model | None = None,
    *,
    stages: Sequence[str] = STAGES,
    labels=None,
    initial=None,
    moving_mask=None,
    fixed_mask=None,
    moving_channels=None,
    fixed_channels=None,
    remappings: Sequence[str] = ("inverted",),
    fast: bool = False,
    smoothness: float | None = None,
    voxel_size: float | None = None,
    moving_volume_index: int | None = None,
    fixed_volume_index: int | None = None,
    moving_window: tuple[float, float] | None = None,
    fixed_window: tuple[float, float] | None = None,
) -> RegistrationResult:
    """Register two scans of any contrast, orientation, voxel size and place, without training.

    Args:
        moving: NIfTI or MGZ file, or nibabel image, of the scan to warp.
        fixed: the scan it is warped to.
        encoder: for volumes; see ``load_encoder``, or the model itself. None to align with
            "shapes-3d" and to deform with "shapes-2d-wide" in all three planes.
        stages: "rigid" for two scans of one person; "affine", which may scale and shear as well;
            "deformable" after one of them, or alone for scans that are aligned.
        labels: label map of the moving scan to warp too.
        initial: ``Affine``, or a file of ``Affine.from_file``, fixed to moving, to start from.
        moving_mask: image that is not 0 where the moving scan shows what to align; the rest counts
            in no stage.
        fixed_mask: the same of the fixed scan.
        moving_channels: image (x, y, z, C), on any grid, whose channels the deformable stage
            compares in place of features, such as probabilities of tissues.
        fixed_channels: the same of the fixed scan.
        remappings: see ``FrozenFeatures``.
        fast: leave out the finest level of the deformable stage, which takes most of the time.
        smoothness: of the warp in mm: the standard deviation of the Gaussian that smooths it after
            each step at the finest level; None for 0.7 voxels.
        voxel_size: of the deformable stage in mm; see ``register_images``.
        moving_volume_index: for a 4D moving image, which of them.
        fixed_volume_index: the same for the fixed image.
        moving_window: see ``features_of``.
        fixed_window: the same for the fixed image.

    Returns:
        With ``warped``, ``transform``, ``inverse``, ``affine`` and ``report``.

    Raises:
        ValueError: an unknown stage, an image cannot be used, or there are channels of one scan
            alone, or without the deformable stage.
        FileNotFoundError: there is no such file.

    Example:
        One brain, moved by 12 mm, is brought back:

        >>> import cifl_tf as cifl, nibabel, numpy as np
        >>> from cifl_tf.datasets import virtual_cohort
        >>> subject = virtual_cohort(1, resolution=6).subjects[0]
        >>> fixed = nibabel.Nifti1Image(subject.image("T1w"), subject.affine)
        >>> there = subject.affine.copy()
        >>> there[0, 3] += 12
        >>> moving = nibabel.Nifti1Image(subject.image("T2w"), there)
        >>> found = cifl.register(moving, fixed, stages=["rigid"])
        >>> bool(np.abs(found.affine.matrix[:3, 3] - [12, 0, 0]).max() < 2)
        True
    """
    chosen = checked_stages(stages)
    if smoothness is not None:
        AT_LEAST_0.check("smoothness", smoothness)
    channels = _checked_channels(moving_channels, fixed_channels, chosen)
    if encoder is None:
        compares_features = DEFORMABLE in chosen and channels is None
        aligning = _shipped(ENCODERS[0])
        deforming = _shipped(ENCODERS[1]) if compares_features else aligning
    else:
        aligning = deforming = load_encoder(encoder) if isinstance(encoder, str) else encoder
    volumes = read_volume(moving, moving_volume_index), read_volume(fixed, fixed_volume_index)
    if initial is not None and not isinstance(initial, Affine):
        initial = Affine.from_file(initial, *(volume.original for volume in volumes))
    label_volume = labels_of(labels, *volumes)
    moving_mask = mask_of(moving_mask, volumes[0], "moving")
    fixed_mask = mask_of(fixed_mask, volumes[1], "fixed")
    if voxel_size is not None:  # refused before the work of the first stage, not after
        resized(volumes[1].affine, volumes[1].data.shape, voxel_size)
    report: dict[str, float] = {}
    doubts: list[str] = []
    affine = initial
    if RIGID in chosen or AFFINE in chosen:
        with _measured(report, "matrix"):
            found = register_affine(
                *volumes,
                aligning,
                rigid=AFFINE not in chosen,
                initial=initial,
                remappings=remappings,
                moving_mask=moving_mask,
                fixed_mask=fixed_mask,
                moving_window=moving_window,
                fixed_window=fixed_window,
            )
        affine = found.affine
        report["similarity before"] = found.before
        report["similarity after the matrix"] = found.after
        doubts += matrix_doubts(affine, found.before, found.after)
    method: Method = NoDeformation(preprocessing_of(aligning))
    if DEFORMABLE in chosen:
        method = DeformableMethod(deforming, tuple(remappings), FAST if fast else None)
    with _measured(report, "warp" if DEFORMABLE in chosen else "resampling"):
        result = register_read(
            *volumes,
            method,
            label_volume,
            voxel_size,
            moving_window,
            fixed_window,
            affine,
            moving_mask,
            fixed_mask,
            channels,
            smoothness,
        )
    if DEFORMABLE in chosen:
        linear = (affine or Affine.identity()).apply(volumes[0], volumes[1].original)
        judge = aligning if len(aligning.input_shape) == 5 else _shipped(ENCODERS[0])
        before, after = (
            feature_similarity(
                image, volumes[1], judge, remappings, fixed_mask, moving_window, fixed_window
            )
            for image in (linear, result.warped)
        )
        report["similarity before the warp"] = before
        report["similarity after the warp"] = after
        doubts += warp_doubts(before, after)
    overlap = foreground_overlap(*volumes, result.displacement, moving_mask, fixed_mask)
    if overlap is not None:
        report["overlap of foregrounds (Dice)"] = overlap
        doubts += overlap_doubts(overlap)
    return replace(result, affine=affine, report=report, warnings=tuple(doubts))


def _checked_channels(moving, fixed, stages):
    """Channels of both scans; None without."""
    if moving is None and fixed is None:
        return None
    if moving is None or fixed is None:
        missing = "moving" if moving is None else "fixed"
        raise ValueError(f"there are no channels of the {missing} scan; give those of both or none")
    if DEFORMABLE not in stages:
        raise ValueError(f"channels are for the deformable stage, but stages are {stages}")
    return moving, fixed


@functools.cache
def _shipped(name):
    """An encoder that ships, loaded once for all pairs."""
    return load_encoder(name)


@contextlib.contextmanager
def _measured(report, name):
    """Note the seconds and, as far as it is known, the memory of a stage in a report."""
    forget_peak()
    started = time.perf_counter()
    yield
    report[f"{name} (s)"] = time.perf_counter() - started
    memory = peak_memory()
    if memory is not None:
        report[f"{name}, peak memory (MB)"] = memory
