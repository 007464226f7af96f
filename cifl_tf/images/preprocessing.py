"""What becomes of an image file before a network sees it.

A network sees arrays in [0, 1]. Which voxel size, which slices and which scaling these had in
training is saved with the network, so that nobody has to remember an option.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cifl_tf.images.grid import Grid, canonical
from cifl_tf.images.intensity import IntensityScaling
from cifl_tf.images.volumes import natural_plane, slice_axis

SAME_SIZE = 0.05  # relative difference of voxel sizes that needs no resampling
LEAST_VOXELS = 8  # along an axis that was resampled

AxisRange = tuple[float, float]
VoxelRange = tuple[AxisRange, AxisRange, AxisRange]


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What becomes of an image file before a network sees it.

    Volumes lie in canonical orientation: axes towards right, anterior, superior (RAS).

    Attributes:
        voxel_range: for each canonical axis the smallest and the largest voxel size in mm that the
            network was measured at: other images are taken as they are, with a warning. The same
            size twice is that of the training: images are resampled to it. None for a network that
            does not know its voxel size. A network for slices leaves the axis across them as it is.
        plane: "sagittal", "coronal" or "axial", for a network for slices that were cut in training;
            None for other networks.
        scaling: of the intensities.

    Raises:
        ValueError: the voxel sizes are not three pairs of positive numbers, the smaller first.
    """

    voxel_range: VoxelRange | None = None
    plane: str | None = None
    scaling: IntensityScaling = dataclasses.field(default_factory=IntensityScaling)

    def __post_init__(self):
        pairs = np.array(self.voxel_range or [(1, 1)] * 3, np.float64)
        if pairs.shape != (3, 2) or not np.isfinite(pairs).all() or (pairs <= 0).any():
            raise ValueError(f"voxel_range is {self.voxel_range}; give a pair of mm for each axis")
        if (pairs[:, 0] > pairs[:, 1]).any():
            raise ValueError(f"voxel_range is {self.voxel_range}; give the smaller size first")

    def accepts(self, sizes: Sequence[float], across: int | None = None) -> bool:
        """Whether the network takes images of these voxel sizes; yes, where it does not know.

        Args:
            sizes: three voxel sizes of the image in mm, canonical axes.
            across: the axis across the slices of a network for slices; None for volumes.
        """
        return all(
            low * (1 - SAME_SIZE) <= size <= high * (1 + SAME_SIZE)
            for axis, (size, (low, high)) in enumerate(
                zip(sizes, self.voxel_range or [(0, np.inf)] * 3, strict=True)
            )
            if axis != across
        )

    def voxel_size_for(
        self, shape: Sequence[int], sizes: Sequence[float], across: int | None = None
    ) -> tuple[float | None, ...] | None:
        """Voxel size to resample an image to, that of the training.

        Args:
            shape: three sizes of the image in voxels, canonical axes.
            sizes: see ``accepts``, also for the last.

        Returns:
            For ``read_volume``: three sizes, of which None keeps that of the axis; None where all
            axes stay as they are.

        Raises:
            ValueError: too few voxels would be left.
        """
        trained = self.training_voxel_size
        if trained is None or self.accepts(sizes, across):
            return None
        for axis, (length, size, target) in enumerate(zip(shape, sizes, trained, strict=True)):
            if axis == across:
                continue
            if length >= LEAST_VOXELS > length * size / target:
                raise ValueError(
                    f"the image has {length} voxels of {size:.3g} mm along an axis, but voxels of "
                    f"{target:.3g} mm, as in training, would be {length * size / target:.1f}; "
                    "check the voxel size and its unit in the header, or give a voxel size"
                )
        return tuple(None if axis == across else size for axis, size in enumerate(trained))

    def axis_across(self, grid: Grid) -> int:
        """The canonical axis across the slices of an image that a network for slices gets.

        Args:
            grid: of the image.
        """
        _, shape, affine = canonical(grid)
        return slice_axis(shape, self.plane or natural_plane(affine))

    @property
    def training_voxel_size(self) -> tuple[float, ...] | None:
        """Three sizes in mm of a network that was trained at one voxel size; None for others."""
        if self.voxel_range is None or any(low < high for low, high in self.voxel_range):
            return None
        return tuple(low for low, _ in self.voxel_range)

    def voxel_text(self) -> str:
        """The voxel sizes in words, such as "2 x 2 x 0.8 to 2.5 mm"."""
        if self.voxel_range is None:
            return "unknown"
        pairs = (dict.fromkeys(f"{size:g}" for size in pair) for pair in self.voxel_range)
        return " x ".join(" to ".join(pair) for pair in pairs) + " mm"

    def with_choices(
        self, plane: str | None = None, window: tuple[float, float] | None = None
    ) -> "Preprocessing":
        """The same with another plane or intensity window, where these are given."""
        scaling = self.scaling
        if window is not None:
            scaling = dataclasses.replace(scaling, window=window)
        return dataclasses.replace(self, plane=plane or self.plane, scaling=scaling)

    def to_config(self) -> dict[str, Any]:
        """The attributes as JSON takes them."""
        return {**dataclasses.asdict(self), "orientation": "RAS"}

    @classmethod
    def from_config(cls, config: Mapping) -> "Preprocessing":
        """The preprocessing of a ``to_config``."""
        ranges = config["voxel_range"]
        if ranges is not None:
            ranges = tuple((float(low), float(high)) for low, high in ranges)
        return cls(ranges, config["plane"], IntensityScaling(**config["scaling"]))


def exact_voxel_size(sizes: Sequence[float]) -> VoxelRange:
    """``Preprocessing.voxel_range`` of a network that was trained at one voxel size.

    Args:
        sizes: three voxel sizes in mm, canonical axes.
    """
    first, second, third = ((round(float(size), 4),) * 2 for size in sizes)
    return first, second, third


def as_preprocessing(preprocessing: Preprocessing | Mapping | None) -> Preprocessing:
    """A preprocessing, or one from its ``to_config``; the defaults for None."""
    if isinstance(preprocessing, Mapping):
        return Preprocessing.from_config(preprocessing)
    return preprocessing or Preprocessing()
