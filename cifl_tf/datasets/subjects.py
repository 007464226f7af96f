"""One subject: images in named contrasts and a label map, on one grid, read when asked for."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.ndimage import binary_fill_holes

from cifl_tf.datasets.contrasts import remap_contrast
from cifl_tf.images.intensity import is_air, rescale_intensity
from cifl_tf.images.volumes import (
    Volume,
    fit_shape,
    read_label_volume,
    read_volume,
    resample_labels,
    resample_volume,
)

NUM_CACHED = 32  # images, and as many label maps, over all subjects
LEAST_LABELED = 0.5  # share of what an image shows, for labels that are a mask of the brain
LARGEST_DIFFERENCE = 1e-3  # of two affines that count as the same grid, in mm

ImageSource = Path | Callable[[], Volume]
LabelSource = Path | Callable[[], np.ndarray]


@dataclass(frozen=True, eq=False)
class Subject:
    """Images of one subject in several contrasts, and labels, all on the same grid.

    Nothing is read before it is asked for; what was read last is kept, and is read-only. Arrays
    are in canonical orientation: axes towards right, anterior, superior.

    Attributes:
        name: unique in a cohort.
        images: for each contrast a file, or a function that returns a ``Volume``.
        segmentation: a label map file, or a function that returns one as an array in canonical
            orientation; None if there is none.
        label_values: the labels as they are in the segmentation, background 0 first. ``labels``
            returns indices of it.
        brain: what ``mask`` means: "labels", the labelled voxels, if they are at least
            ``LEAST_LABELED`` of all that the image shows; or "image", the voxels of the first
            contrast that are not air, for images whose labels leave out part of the brain, and for
            images without labels.
        voxel_size: in mm, one number or three, to which images and labels are resampled; None for
            their own.
        shape: three sizes in voxels to which they are cut or padded after it, about their middle;
            None for what the voxel size gives.

    Raises:
        FileNotFoundError: one of the files does not exist; names the subject and the file.
        ValueError: there is no image, or ``brain`` does not fit.
    """

    name: str
    images: Mapping[str, ImageSource] = field(repr=False)
    segmentation: LabelSource | None = field(default=None, repr=False)
    label_values: tuple[int, ...] = field(default=(0,), repr=False)
    brain: Literal["labels", "image"] = field(default="labels", repr=False)
    voxel_size: float | tuple[float | None, ...] | None = field(default=None, repr=False)
    shape: tuple[int, ...] | None = field(default=None, repr=False)

    def __post_init__(self):
        if not self.images:
            raise ValueError(f"subject {self.name} has no images: give one contrast at least")
        if self.brain not in ("labels", "image"):
            raise ValueError(f"brain is {self.brain!r}: choose 'labels' or 'image'")
        for source in (*self.images.values(), self.segmentation):
            if isinstance(source, Path) and not source.exists():
                raise FileNotFoundError(
                    f"subject {self.name}: {source} does not exist; complete the dataset, or leave "
                    "out this subject or contrast"
                )

    @property
    def contrasts(self) -> tuple[str, ...]:
        """Names of the contrasts, without those derived from them."""
        return tuple(self.images)

    @property
    def affine(self) -> np.ndarray:
        """Array (4, 4) from voxels of the canonical grid to mm."""
        return _image(self, self.contrasts[0])[1].copy()

    def volume(self, contrast: str) -> Volume:
        """Read the image, intensities not scaled, for ``volumes.to_original``.

        Raises:
            ValueError: as ``image``; not for derived contrasts.
        """
        if contrast not in self.images:
            raise ValueError(
                f"subject {self.name} has no contrast {contrast!r}: choose from {self.contrasts}"
            )
        volume = self._read(contrast)
        if self.voxel_size is not None:
            volume = resample_volume(volume, self.voxel_size)
        return volume if self.shape is None else fit_shape(volume, self.shape)

    def _read(self, contrast):
        """The image on the grid of its file."""
        source = self.images[contrast]
        with _naming(self.name):
            return source() if callable(source) else read_volume(source)

    def image(self, contrast: str) -> np.ndarray:
        """Intensities in [0, 1] of one contrast, float32 (x, y, z).

        Scaled by ``intensity.rescale_intensity``. "T1w:inverted" is the contrast T1w remapped
        inside the brain mask, zero outside; see ``datasets.remapping`` for what may stand after the
        colon.

        Raises:
            FileNotFoundError: the file is no longer there.
            ValueError: there is no such contrast, the image cannot be used, or its grid is not that
                of the first contrast. All name the subject, and the file where there is one.
        """
        base, _, derived = contrast.partition(":")
        image, _ = _image(self, base)
        if ":" not in contrast:
            return image
        with _naming(self.name):
            return remap_contrast(image, self.mask(), derived)

    def labels(self) -> np.ndarray:
        """Labels as indices of ``label_values``, int32 (x, y, z); 0 is background.

        ``np.take(subject.label_values, labels)`` has the values of the segmentation again.

        Raises:
            FileNotFoundError: the file is no longer there.
            ValueError: there is no segmentation, it cannot be used, it lies on another grid than
                the images, or holds other labels. All name the subject and the file.
        """
        return _labels(self)

    def mask(self) -> np.ndarray:
        """Brain mask, boolean (x, y, z): see the attribute ``brain``.

        Holes in the mask of an image, such as ventricles as dark as air, are filled.
        """
        shown = ~is_air(_image(self, self.contrasts[0])[0])
        if self.brain == "labels":
            labeled = self.labels() > 0
            # A mask of few structures would show a network where they are.
            if np.count_nonzero(labeled) >= LEAST_LABELED * np.count_nonzero(shown):
                return labeled
        # One slice would be all border to a filling in three dimensions.
        return binary_fill_holes(shown.squeeze()).reshape(shown.shape)


@contextlib.contextmanager
def _naming(name):
    """Put the subject's name before the message of an error."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"subject {name}: {error}") from error
    except ValueError as error:
        raise ValueError(f"subject {name}: {error}") from error


@lru_cache(maxsize=NUM_CACHED)
def _image(subject, contrast):
    """Return scaled intensities and affine of a contrast, on the grid of the first contrast."""
    volume = subject.volume(contrast)
    if contrast != subject.contrasts[0]:
        _check_grid(subject, subject.images[contrast], volume.data.shape, volume.affine)
    image = rescale_intensity(volume.data)
    image.setflags(write=False)
    return image, volume.affine


def forget_images() -> None:
    """Free the memory of the images and label maps that were read last."""
    _image.cache_clear()
    _labels.cache_clear()


@lru_cache(maxsize=NUM_CACHED)
def _labels(subject):
    """Return the segmentation as indices of the subject's label values."""
    source = subject.segmentation
    if source is None:
        raise ValueError(f"subject {subject.name} has no labels: use a dataset with segmentations")
    with _naming(subject.name):
        if callable(source):
            image = subject._read(subject.contrasts[0])
            volume = replace(image, data=np.asarray(source(), np.int32))
        else:
            volume = read_label_volume(source)
        if subject.voxel_size is not None:
            volume = resample_labels(volume, subject.voxel_size)
        if subject.shape is not None:
            volume = fit_shape(volume, subject.shape)
        labels = volume.data
    _check_grid(subject, source, labels.shape, volume.affine)
    values = np.array(subject.label_values)
    unknown = np.setdiff1d(labels, values).tolist()
    if unknown:
        raise ValueError(
            f"subject {subject.name}: {_named(source)} holds the labels {unknown}, but the table "
            f"has {values.tolist()}; correct one or the other"
        )
    order = np.argsort(values)
    labels = order[np.searchsorted(values, labels, sorter=order)].astype(np.int32)
    labels.setflags(write=False)
    return labels


def _check_grid(subject, source, shape, affine):
    """Raise ValueError if this is not the grid of the subject's first contrast."""
    first = subject.contrasts[0]
    image, reference = _image(subject, first)
    if shape != image.shape or np.abs(affine - reference).max() > LARGEST_DIFFERENCE:
        raise ValueError(
            f"subject {subject.name}: {_named(source)} lies on another grid, shape {shape} and "
            f"affine {affine[:3].round(3).tolist()}, than {_named(subject.images[first])}, "
            f"{image.shape} and {reference[:3].round(3).tolist()}; resample it first"
        )


def _named(source):
    return str(source) if isinstance(source, Path) else "what was computed"
