"""Cohorts: subjects with the same contrasts and labels, and slices of them."""

import itertools
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from nibabel.affines import voxel_sizes
from tqdm import tqdm

from cifl_tf.checks import SEED
from cifl_tf.datasets.subjects import Subject
from cifl_tf.grid import resized
from cifl_tf.intensity import is_air
from cifl_tf.volumes import plane_axis

MOST_SLICES = 40  # of a subject, where all of them would be more
SLICES_AROUND_A_LABEL = 9
LARGEST_RATIO = 1.01  # of two voxel sizes that count as the same


@dataclass(frozen=True, eq=False)
class Cohort:
    """Subjects that share contrasts and a table of labels.

    Attributes:
        subjects: in the order of the dataset.
        contrasts: those that every subject has; any may be derived from, as in "T1w:inverted".
        label_names: names of the labels 1..K-1 that ``Subject.labels`` returns; 0 is background.
        label_values: for each of 0..K-1 the value that the dataset's own files have, for writing.
        source: where they come from, as ``open_cohort`` says: an absolute folder, or "virtual".

    Raises:
        ValueError: two subjects have the same name.
    """

    subjects: tuple[Subject, ...] = field(repr=False)
    contrasts: tuple[str, ...]
    label_names: dict[int, str]
    label_values: tuple[int, ...]
    source: str | None = None

    def __post_init__(self):
        names = self.names
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"subjects {twice} occur more than once: give each name once")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the subjects."""
        return tuple(subject.name for subject in self.subjects)

    @property
    def num_labels(self) -> int:
        """Number K of labels, background included."""
        return len(self.label_values)

    def __len__(self) -> int:
        return len(self.subjects)

    def __iter__(self) -> Iterator[Subject]:
        return iter(self.subjects)

    def select(self, names: Sequence[str]) -> "Cohort":
        """Return the subjects with these names, in this order.

        Raises:
            ValueError: there is no subject of that name.
        """
        found = {subject.name: subject for subject in self.subjects}
        missing = [name for name in names if name not in found]
        if missing:
            raise ValueError(f"there are no subjects {missing}: choose from {list(found)}")
        return replace(self, subjects=tuple(found[name] for name in names))

    def resampled(self, voxel_size: float | Sequence[float]) -> "Cohort":
        """The same subjects in voxels of another size, and all of one shape.

        Images are smoothed where they become coarser; a voxel gets the label with the largest share
        of it. Smaller images are padded with air about their middle.

        Args:
            voxel_size: in mm, one number or three in canonical order.

        Raises:
            ValueError: ``voxel_size`` is not one or three positive numbers.
        """
        size = tuple(voxel_size) if isinstance(voxel_size, Sequence) else voxel_size
        subjects = [replace(subject, voxel_size=size, shape=None) for subject in self.subjects]
        shapes = []
        for subject in tqdm(self.subjects, desc="voxel sizes", disable=None, leave=False):
            volume = subject.volume(subject.contrasts[0])
            shapes.append(resized(volume.affine, volume.data.shape, size)[1])
        largest = tuple(int(length) for length in np.max(shapes, axis=0))
        return replace(
            self, subjects=tuple(replace(subject, shape=largest) for subject in subjects)
        )

    def with_labels(self, names: Sequence[str]) -> "Cohort":
        """Return the subjects with the labels of a network, in the network's order.

        Args:
            names: of labels 1..K-1; those of this cohort, and perhaps others, which no subject has.

        Raises:
            ValueError: a label of this cohort is not among them, or a name occurs twice.
        """
        own = {name: self.label_values[label] for label, name in self.label_names.items()}
        unknown = [name for name in own if name not in names]
        if unknown or len(set(names)) < len(names):
            raise ValueError(
                f"the labels {reprlib.repr(unknown)} are not among {reprlib.repr([*names])}, which "
                "must all be different: give data with the same table of labels"
            )
        # Values of absent labels are never met; they must only differ from those that are.
        spare = itertools.count(max(self.label_values) + 1)
        values = (0, *(own[name] if name in own else next(spare) for name in names))
        subjects = tuple(replace(subject, label_values=values) for subject in self.subjects)
        labels = dict(enumerate(names, start=1))
        return replace(self, subjects=subjects, label_names=labels, label_values=values)

    def split(self, sizes: Sequence[int], seed: int = 0) -> tuple["Cohort", "Cohort", "Cohort"]:
        """Share out the subjects at random among training, validation and test.

        Args:
            sizes: three numbers of subjects, as (232, 58, 100) in the paper; what is left over is
                in none of the three.
            seed: the same seed gives the same split of the same cohort.

        Returns:
            Training, validation and test cohort, each in the order of this cohort.

        Raises:
            ValueError: there are not three sizes, one is negative, they ask for more subjects than
                there are, or the seed is none.
        """
        sizes = tuple(sizes)
        SEED.check("seed", seed)
        if len(sizes) != 3 or min(sizes) < 0 or sum(sizes) > len(self):
            raise ValueError(
                f"sizes are {sizes}, of {len(self)} subjects: give three numbers from 0 that sum "
                f"to {len(self)} at most"
            )
        order = np.random.default_rng(seed).permutation(len(self))
        parts = np.split(order, np.cumsum(sizes))[:3]
        train, validation, test = (
            replace(self, subjects=tuple(self.subjects[i] for i in sorted(part))) for part in parts
        )
        return train, validation, test


def make_cohort(subjects: Sequence[Subject], table: Mapping[int, str] | None = None) -> Cohort:
    """Put subjects together into a cohort.

    Args:
        subjects: their ``label_values`` are ``(0, *table)``.
        table: label names by the values in the segmentations, without background; their order is
            that of the labels 1..K-1. None or empty for images without labels.

    Raises:
        ValueError: there are no subjects, no contrast is common to all, or a subject has other
            label values.
    """
    if not subjects:
        raise ValueError("there are no subjects: give one at least")
    table = dict(table or {})
    values = (0, *table)
    other = [subject.name for subject in subjects if subject.label_values != values]
    if other:
        raise ValueError(f"subjects {other} have other label values than {values}: give them these")
    contrasts = tuple(
        name
        for name in subjects[0].contrasts
        if all(name in subject.contrasts for subject in subjects)
    )
    if not contrasts:
        raise ValueError("no contrast is common to all subjects: leave out those that lack it")
    names = dict(enumerate(table.values(), start=1))
    return Cohort(tuple(subjects), contrasts, names, values)


def slices(
    cohort: Cohort,
    contrast: str,
    plane: str = "coronal",
    count: int | None = 9,
    around: str | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut slices from every subject, the same ones whatever the contrast.

    Subjects of one slice, as in two-dimensional neurite-OASIS, give this slice; ``plane``,
    ``count`` and ``around`` say nothing then.

    Args:
        cohort: all subjects have the same shape and voxel size.
        contrast: as for ``Subject.image``, so "T1w:inverted" too.
        plane: "sagittal", "coronal" or "axial".
        count: neighboring slices per subject; None for the whole extent of the subject's labels
            (of what is not air, where there are none), evenly spaced where these are more than 40,
            and for 9 around a label.
        around: name of the label on whose center of mass the slices are centered, in each subject;
            None for the middle of the volume.

    Returns:
        Images, float32 (n, x, y, 1) in [0, 1]; labels, int32 (n, x, y), all background where the
        cohort has none; and names of the subjects, (n,). Slices follow each other in space,
        subjects in the order of the cohort.

    Raises:
        ValueError: the cohort is empty, there is no such plane, contrast or label, a subject lacks
            the label, its shape or voxel size is different, or the slices reach beyond it.
    """
    images, labels, names = [], [], []
    for subject, image, label_map, axis, chosen in _cut(cohort, contrast, plane, count, around):
        images.append(np.moveaxis(image.take(chosen, axis), axis, 0)[..., None])
        labels.append(np.moveaxis(label_map.take(chosen, axis), axis, 0))
        names += [subject.name] * len(chosen)
    return np.concatenate(images), np.concatenate(labels), np.array(names)


def slice_coverage(
    cohort: Cohort,
    contrast: str,
    plane: str = "coronal",
    count: int | None = 9,
    around: str | None = None,
) -> tuple[float, float]:
    """Where the slices of a cohort lie between the first (0) and the last (1) that shows something.

    Args:
        cohort, contrast, plane, count, around: see ``slices``, also for what is raised.

    Returns:
        The lowest and the highest place of a slice, over all subjects.
    """
    places = []
    for _, image, _, axis, chosen in _cut(cohort, contrast, plane, count, around):
        shown = np.flatnonzero((~is_air(np.moveaxis(image, axis, 0))).any(axis=(1, 2)))
        places.append((chosen[[0, -1]] - shown[0]) / max(1, shown[-1] - shown[0]))
    return float(np.min(places)), float(np.max(places))


def stack_cohort(
    cohort: Cohort,
    contrast: str,
    ndim: int = 2,
    plane: str = "coronal",
    count: int | None = 9,
    around: str | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slices or whole volumes of every subject, as networks take them.

    Args:
        cohort, contrast, plane, count, around: see ``slices``.
        ndim: 2 for slices; 3 for volumes, to which the last three say nothing.

    Returns:
        Images, float32 (n, *spatial, 1) in [0, 1]; labels, int32 (n, *spatial, 1), all background
        where the cohort has none; and names of the subjects, (n,).

    Raises:
        ValueError: as ``slices``.
    """
    if ndim == 2:
        images, labels, names = slices(cohort, contrast, plane, count, around)
        return images, labels[..., None], names
    if not len(cohort):
        raise ValueError("volumes of 0 subjects: ask for one at least")
    _, volumes, label_maps = zip(*_arrays(cohort, contrast), strict=True)
    return np.stack(volumes)[..., None], np.stack(label_maps)[..., None], np.array(cohort.names)


def _arrays(cohort, contrast):
    """Yield each subject, its image and its label map, all of one shape and voxel size."""
    for subject in tqdm(cohort, desc="subjects", disable=None, leave=False):
        image = subject.image(contrast)
        _check_stackable(cohort.subjects[0], subject, contrast)
        labelled = cohort.num_labels > 1
        yield subject, image, subject.labels() if labelled else np.zeros(image.shape, np.int32)


def _check_stackable(first, subject, contrast):
    """Raise ValueError if a subject does not fit onto the first one, voxel by voxel."""
    sizes, expected = voxel_sizes(subject.affine), voxel_sizes(first.affine)
    if np.abs(np.log(sizes / expected)).max() > np.log(LARGEST_RATIO):
        raise ValueError(
            f"subject {subject.name} has voxels of {_in_mm(sizes)}, {first.name} of "
            f"{_in_mm(expected)}: resample all to one size first, or select those that share one"
        )
    shape, expected_shape = subject.image(contrast).shape, first.image(contrast).shape
    if shape != expected_shape:
        raise ValueError(
            f"subject {subject.name} has the shape {shape}, {first.name} {expected_shape}: bring "
            "all to one grid first, or select those that share one"
        )


def _in_mm(sizes):
    return f"{' x '.join(f'{size:.3g}' for size in sizes)} mm"


def _cut(cohort, contrast, plane, count, around):
    """Yield each subject, its image and labels, and axis and positions of its slices."""
    axis = plane_axis(plane)
    if not len(cohort) or (count is not None and count < 1):
        raise ValueError(f"{count} slices of {len(cohort)} subjects: ask for one of one at least")
    index = None
    if around is not None:
        count = count or SLICES_AROUND_A_LABEL
        index = {name: label for label, name in cohort.label_names.items()}.get(around)
        if index is None:
            raise ValueError(
                f"there is no label {around!r}: choose from {list(cohort.label_names.values())}"
            )
    for subject, image, labels in _arrays(cohort, contrast):
        if image.shape.count(1) == 1:
            yield subject, image, labels, image.shape.index(1), np.zeros(1, int)
        elif count is None:
            yield subject, image, labels, axis, _whole_extent(image, labels, axis)
        else:
            chosen = _neighbors(subject, labels, axis, count, index, around)
            yield subject, image, labels, axis, chosen


def _whole_extent(image, labels, axis):
    """Return the positions of slices over the extent of the labels, or of what is not air."""
    shown = labels > 0 if labels.any() else ~is_air(image)
    positions = np.nonzero(shown)[axis]
    first, last = (positions.min(), positions.max()) if positions.size else (0, 0)
    evenly = np.linspace(first, last, min(last - first + 1, MOST_SLICES))
    return np.rint(evenly).astype(int)


def _neighbors(subject, labels, axis, count, index, around):
    """Return the positions of slices around the middle, or around the label with this index."""
    size = labels.shape[axis]
    center = (size - 1) / 2
    if index is not None:
        positions = np.nonzero(labels == index)[axis]
        if not positions.size:
            raise ValueError(f"subject {subject.name} has no voxel of the label {around!r}")
        center = positions.mean()
    start = round(center - (count - 1) / 2)
    if not 0 <= start <= size - count:
        raise ValueError(
            f"subject {subject.name} has {size} slices, of which {count} around {center:.1f} "
            "reach beyond the volume: ask for fewer"
        )
    return np.arange(start, start + count)
