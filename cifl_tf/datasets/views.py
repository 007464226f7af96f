"""Views of subjects: the slices or volumes that a network sees."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from nibabel.affines import voxel_sizes
from tqdm import tqdm

from cifl_tf._checks import NDIM
from cifl_tf._former_names import accepts_former
from cifl_tf.datasets.cohorts import Cohort
from cifl_tf.images.intensity import is_air
from cifl_tf.images.volumes import plane_axis

LARGEST_RATIO = 1.01  # of two voxel sizes that count as the same
MOST_SLICES = 40  # of a subject, where all of them would be more
SLICES_AROUND_A_LABEL = 9


@dataclass(frozen=True)
class View:
    """Which part of every subject a network sees.

    Subjects of one slice, as in two-dimensional neurite-OASIS, give this slice; the attributes but
    the first say nothing then.

    Attributes:
        ndim: 2 for slices; 3 for volumes, to which the other attributes say nothing.
        plane: "sagittal", "coronal" or "axial".
        num_slices: neighboring slices per subject; None for the whole extent of the subject's
            labels (of what is not air, where there are none), evenly spaced where these are more
            than 40, and for 9 around a label.
        center_label: name of the label on whose center of mass the slices are centered, in each
            subject; None for the middle of the volume.

    Raises:
        ValueError: there is no such plane, or ``ndim`` is neither.

    Example:
        ``**view`` gives the attributes by name, as configurations of trainings take them.

        >>> import cifl_tf as cifl
        >>> view = View(plane="axial", num_slices=3)
        >>> cifl.SegmentationConfig("intensity", **view).plane
        'axial'
    """

    ndim: int = 2
    plane: str = "coronal"
    num_slices: int | None = 9
    center_label: str | None = None

    def __post_init__(self):
        NDIM.check("ndim", self.ndim)
        plane_axis(self.plane)

    def keys(self) -> Iterable[str]:
        """Names of the attributes."""
        return [each.name for each in fields(self)]

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def stack(self, cohort: Cohort, contrast: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The view of every subject, the same one whatever the contrast.

        Args:
            cohort: all subjects have the same shape and voxel size.
            contrast: as for ``Subject.image``, so "T1w:inverted" too.

        Returns:
            Images, float32 (n, *spatial, 1) in [0, 1]; labels, int32 (n, *spatial, 1), all
            background where the cohort has none; and names of the subjects, (n,). Slices follow
            each other in space, subjects in the order of the cohort.

        Raises:
            ValueError: the cohort is empty, there is no such contrast or label, a subject lacks the
                label, its shape or voxel size is different, or the slices reach beyond it.

        Example:
            >>> from cifl_tf.datasets import virtual_cohort
            >>> cohort = virtual_cohort(2, resolution=6)
            >>> images, labels, names = View(num_slices=3).stack(cohort, "T1w")
            >>> images.shape == labels.shape, len(names)
            (True, 6)
        """
        images, labels, names = zip(*self.parts(cohort, contrast), strict=True)
        names = np.repeat(names, [len(image) for image in images])
        return np.concatenate(images), np.concatenate(labels), names

    def parts(self, cohort: Cohort, contrast: str) -> Iterator[tuple[np.ndarray, np.ndarray, str]]:
        """Images, labels and name of one subject after another; see ``stack``.

        Yields:
            float32 (n, *spatial, 1), int32 (n, *spatial, 1), and the name.
        """
        if self.ndim == 3:
            if not len(cohort):
                raise ValueError("volumes of 0 subjects: ask for one at least")
            for subject, image, label_map in _arrays(cohort, contrast):
                yield image[None, ..., None], label_map[None, ..., None], subject.name
            return
        for subject, image, label_map, axis, chosen in _cut(cohort, contrast, self):
            cut = (np.moveaxis(each.take(chosen, axis), axis, 0) for each in (image, label_map))
            yield *(each[..., None] for each in cut), subject.name

    def coverage(self, cohort: Cohort, contrast: str) -> tuple[float, float] | None:
        """Where the slices lie between the first (0) and the last (1) that shows something.

        Args:
            cohort, contrast: see ``stack``, also for what is raised.

        Returns:
            The lowest and the highest place of a slice, over all subjects; None for volumes, and
            for files of single slices.
        """
        if self.ndim == 3:
            return None
        places = []
        for _, image, _, axis, chosen in _cut(cohort, contrast, self):
            if image.shape[axis] == 1:  # a file of one slice does not say where the slice lies
                return None
            shown = np.flatnonzero((~is_air(np.moveaxis(image, axis, 0))).any(axis=(1, 2)))
            places.append((chosen[[0, -1]] - shown[0]) / max(1, shown[-1] - shown[0]))
        return float(np.min(places)), float(np.max(places))


@accepts_former()
def slices(
    cohort: Cohort,
    contrast: str,
    plane: str = "coronal",
    count: int | None = 9,
    center_label: str | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut slices from every subject: ``View.stack``, but labels (n, x, y).

    Args:
        cohort, contrast: see ``View.stack``, also for what is raised.
        plane, count, center_label: see ``View``, where ``count`` is ``num_slices``.
    """
    images, labels, names = View(2, plane, count, center_label).stack(cohort, contrast)
    return images, labels[..., 0], names


@accepts_former()
def slice_coverage(
    cohort: Cohort,
    contrast: str,
    plane: str = "coronal",
    count: int | None = 9,
    center_label: str | None = None,
) -> tuple[float, float] | None:
    """``View.coverage`` of slices; arguments as for ``slices``."""
    return View(2, plane, count, center_label).coverage(cohort, contrast)


@accepts_former()
def stack_cohort(
    cohort: Cohort,
    contrast: str,
    ndim: int = 2,
    plane: str = "coronal",
    count: int | None = 9,
    center_label: str | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``View.stack``; arguments as for ``slices``, and ``ndim`` of ``View``."""
    return View(ndim, plane, count, center_label).stack(cohort, contrast)


def _arrays(cohort, contrast):
    """Yield each subject, its image and its label map, all of one shape and voxel size."""
    first = None
    for subject in tqdm(cohort, desc="subjects", disable=None, leave=False):
        image = subject.image(contrast)
        found = subject.name, voxel_sizes(subject.affine), image.shape
        first = first or found
        _check_stackable(first, found)
        labelled = cohort.num_labels > 1
        yield subject, image, subject.labels() if labelled else np.zeros(image.shape, np.int32)


def _check_stackable(first, found):
    """Raise ValueError if a subject does not fit onto the first one, voxel by voxel.

    Args:
        first, found: name, voxel sizes and shape.
    """
    (first_name, expected, expected_shape), (name, sizes, shape) = first, found
    if np.abs(np.log(sizes / expected)).max() > np.log(LARGEST_RATIO):
        raise ValueError(
            f"subject {name} has voxels of {_in_mm(sizes)}, {first_name} of "
            f"{_in_mm(expected)}: resample all to one size first, or select those that share one"
        )
    if shape != expected_shape:
        raise ValueError(
            f"subject {name} has the shape {shape}, {first_name} {expected_shape}: bring "
            "all to one grid first, or select those that share one"
        )


def _cut(cohort, contrast, view):
    """Yield each subject, its image and labels, and axis and positions of its slices."""
    axis, count, center_label = plane_axis(view.plane), view.num_slices, view.center_label
    if not len(cohort) or (count is not None and count < 1):
        raise ValueError(f"{count} slices of {len(cohort)} subjects: ask for one of one at least")
    index = None
    if center_label is not None:
        count = count or SLICES_AROUND_A_LABEL
        index = {name: label for label, name in cohort.label_names.items()}.get(center_label)
        if index is None:
            raise ValueError(
                f"there is no label {center_label!r}: choose from "
                f"{list(cohort.label_names.values())}"
            )
    for subject, image, labels in _arrays(cohort, contrast):
        if image.shape.count(1) == 1:
            yield subject, image, labels, image.shape.index(1), np.zeros(1, int)
        elif count is None:
            yield subject, image, labels, axis, _whole_extent(image, labels, axis)
        else:
            chosen = _neighbors(subject, labels, axis, count, index, center_label)
            yield subject, image, labels, axis, chosen


def _whole_extent(image, labels, axis):
    """Return the positions of slices over the extent of the labels, or of what is not air."""
    shown = labels > 0 if labels.any() else ~is_air(image)
    positions = np.nonzero(shown)[axis]
    first, last = (positions.min(), positions.max()) if positions.size else (0, 0)
    evenly = np.linspace(first, last, min(last - first + 1, MOST_SLICES))
    return np.rint(evenly).astype(int)


def _neighbors(subject, labels, axis, count, index, center_label):
    """Return the positions of slices around the middle, or around the label with this index."""
    size = labels.shape[axis]
    center = (size - 1) / 2
    if index is not None:
        positions = np.nonzero(labels == index)[axis]
        if not positions.size:
            raise ValueError(f"subject {subject.name} has no voxel of the label {center_label!r}")
        center = positions.mean()
    start = round(center - (count - 1) / 2)
    if not 0 <= start <= size - count:
        raise ValueError(
            f"subject {subject.name} has {size} slices, of which {count} around {center:.1f} "
            "reach beyond the volume: ask for fewer"
        )
    return np.arange(start, start + count)


def _in_mm(sizes):
    return f"{' x '.join(f'{size:.3g}' for size in sizes)} mm"
