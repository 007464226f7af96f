"""Cohorts: subjects with the same contrasts and labels, and slices of them."""

import itertools
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from cifl_tf._checks import SEED
from cifl_tf.datasets.subjects import Subject
from cifl_tf.images.grid import resized

if TYPE_CHECKING:
    import tensorflow as tf

    from cifl_tf.datasets.views import View


@dataclass(frozen=True, eq=False)
class Cohort:
    """Subjects that share contrasts and a table of labels.

    Attributes:
        subjects: in the order of the dataset.
        contrasts: those that every subject has; any may be derived from, as in "T1w:inverted".
        label_names: names of the labels 1..K-1 that ``Subject.labels`` returns; 0 is background.
        label_values: for each of 0..K-1 the value that the dataset's own files have, for writing.
        source: where they come from, as ``load_cohort`` takes it: an absolute folder, or "virtual".
        segmentation: which of several label maps, as ``load_cohort`` takes it; None for the
            reader's own choice.

    Raises:
        ValueError: two subjects have the same name.
    """

    subjects: tuple[Subject, ...] = field(repr=False)
    contrasts: tuple[str, ...]
    label_names: dict[int, str]
    label_values: tuple[int, ...]
    source: str | None = None
    segmentation: str | None = None

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

    @property
    def channel_names(self) -> list[str]:
        """Names of the K channels of a segmentation: "background", and those of the labels."""
        return ["background", *self.label_names.values()]

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

    def resampled(self, voxel_size: float | Sequence[float | None]) -> "Cohort":
        """The same subjects in voxels of another size, and all of one shape.

        Images are smoothed where they become coarser; a voxel gets the label with the largest share
        of it. Smaller images are padded with air about their middle.

        Args:
            voxel_size: in mm, one number or three in canonical order, of which None keeps that of
                the axis.

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

    def resampled_with(self, other: "Cohort", voxel_size: float) -> tuple["Cohort", "Cohort"]:
        """Both cohorts in voxels of another size, all of one shape; see ``resampled``.

        Args:
            other: other subjects.
            voxel_size: in mm.
        """
        both = replace(self, subjects=self.subjects + other.subjects).resampled(voxel_size)
        mine, others = (both.select(cohort.names).subjects for cohort in (self, other))
        return replace(self, subjects=mine), replace(other, subjects=others)

    def to_dataset(
        self,
        view: "View",
        contrast: str = "T1w",
        batch_size: int = 8,
        shuffle: bool = True,
        seed: int = 0,
    ) -> "tf.data.Dataset":
        """What a segmenter's ``fit`` takes: every image and its labels once.

        Args:
            view: which part of every subject.
            contrast: as for ``Subject.image``.
            batch_size: images per batch.
            shuffle: in another order in every epoch.
            seed: of the order.

        Returns:
            Batches of images, float32 (batch, *spatial, 1) in [0, 1], and of labels, int32 (batch,
            *spatial, 1), as ``SegmentationLoss`` takes them.

        Raises:
            ValueError: as ``View.stack``.

        Example:
            >>> from cifl_tf.datasets import View, virtual_cohort
            >>> data = virtual_cohort(2, resolution=6).to_dataset(View(num_slices=3), batch_size=4)
            >>> [len(images) for images, labels in data]
            [4, 2]
        """
        import tensorflow as tf  # only here, as it takes seconds

        images, labels, _ = view.stack(self, contrast)
        data = tf.data.Dataset.from_tensor_slices((images, labels))
        if shuffle:
            data = data.shuffle(len(images), seed)
        return data.batch(batch_size).prefetch(2)

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
