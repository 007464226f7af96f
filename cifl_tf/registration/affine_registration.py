"""Rigid and affine registration of two scans of any contrast, on contrast-invariant features."""

import functools
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from nibabel.affines import voxel_sizes

from cifl_tf._checks import AT_LEAST_0, COUNT, POSITIVE, check_fields
from cifl_tf._compat import keras
from cifl_tf.features.frozen import FrozenFeatures
from cifl_tf.images.contents import Content
from cifl_tf.images.grid import grid_at
from cifl_tf.images.volumes import resample_volume
from cifl_tf.models.image_model import preprocessing_of
from cifl_tf.registration.affine import Affine
from cifl_tf.registration.affine_scan import AffineScan
from cifl_tf.registration.affine_start import (
    best_starts,
    centered,
    corner_distance,
    header_start,
    rotations,
)
from cifl_tf.registration.block_matching import BLOCK, matched_matrix, similarity
from cifl_tf.registration.sampling import as_volume

STARTS = 3  # how many of the best are refined, beside that of the headers
FINER = 0.9  # of the finest level: smaller voxels are resampled to it
COMPARED = 4.0  # mm, voxels at which scans are compared
LEAST_SHOWN = 0.5  # of a coarse block: few are whole


@dataclass(frozen=True)
class AffineSettings:
    """How a pair is registered; the defaults were chosen on brains at 2 mm.

    Attributes:
        voxel_sizes: of the levels in mm, coarse to fine.
        iterations: most of each level; a level ends before when the corners of the brain move
            less than ``tolerance``.
        radii: how far blocks are searched at each level, in voxels.
        angles: in degrees, of the rotations that are tried about each axis; (0,) for those of the
            headers only.
        margin: voxels around the foreground.
        tolerance: in voxels of the level.

    Raises:
        ValueError: a number is not positive, finite or whole, or the levels do not agree.
    """

    voxel_sizes: tuple[float, ...] = (8.0, 4.0, 2.0)
    iterations: tuple[int, ...] = (4, 2, 1)
    radii: tuple[int, ...] = (3, 3, 2)
    angles: tuple[float, ...] = (0.0, -30.0, 30.0)
    margin: int = 2
    tolerance: float = 0.1

    def __post_init__(self):
        lengths = {len(self.voxel_sizes), len(self.iterations), len(self.radii)}
        if len(lengths) > 1 or not self.voxel_sizes or not self.angles:
            raise ValueError(
                f"voxel_sizes are {self.voxel_sizes}, iterations {self.iterations} and radii "
                f"{self.radii}; give one of each for every level, and at least one angle"
            )
        for size in self.voxel_sizes:
            POSITIVE.check("voxel_sizes", size)
        for name in ("iterations", "radii"):
            for value in getattr(self, name):
                COUNT.check(name, value)
        check_fields(self, margin=COUNT, tolerance=AT_LEAST_0)


@dataclass(frozen=True, eq=False)
class AffineResult:
    """An affine registration and how it went.

    Attributes:
        affine: fixed to moving, in mm.
        before: correlation of the features where the headers put the images, at the coarsest
            level, in [-1, 1].
        after: the same after the registration.
        inliers: pairs of blocks that the last fit was of, of both directions.
        pairs: all pairs of the last fit.
        seconds: that it took.
    """

    affine: Affine
    before: float
    after: float
    inliers: int
    pairs: int
    seconds: float


def register_affine(
    moving,
    fixed,
    encoder: keras.Model,
    *,
    rigid: bool = False,
    initial: Affine | None = None,
    remappings: Sequence[str] = ("inverted",),
    moving_mask=None,
    fixed_mask=None,
    moving_window: tuple[float, float] | None = None,
    fixed_window: tuple[float, float] | None = None,
    settings: AffineSettings | None = None,
) -> AffineResult:
    """Register two scans of a head or brain, of any contrast, orientation and place.

    Rotations about the centers of both foregrounds are tried on coarse features; the best are
    refined, and the best of these is registered by block matching, coarse to fine, with the moving
    scan warped and encoded anew each time.

    Args:
        moving: NIfTI or MGZ file, nibabel image, or ``Volume``; in any unit.
        fixed: the same.
        encoder: for volumes, see ``build_encoder``.
        rigid: only turn and move; after ``initial``, where that is given.
        initial: where to start, fixed to moving; no rotations are tried. None to look for a start.
        remappings: see ``FrozenFeatures``.
        moving_mask: image that is not 0 where the moving scan shows what to register, on any grid;
            None for all but air.
        fixed_mask: the same of the fixed scan.
        moving_window: see ``features_of``.
        fixed_window: the same for the fixed scan.
        settings: None for ``AffineSettings()``.

    Raises:
        ValueError: an image cannot be used or shows nothing, or the encoder is not for volumes.
        FileNotFoundError: there is no such file.

    Source: Modat et al., Global image registration using a symmetric block-matching approach,
    Journal of Medical Imaging 2014, there on intensities.

    Example:
        >>> import cifl_tf as cifl, nibabel, numpy as np
        >>> from cifl_tf.registration import AffineSettings, register_affine
        >>> brain = np.zeros((20, 20, 20))
        >>> brain[4:16, 4:16, 4:16] = np.random.rand(12, 12, 12)
        >>> scan = nibabel.Nifti1Image(brain, np.diag([4, 4, 4, 1]))
        >>> levels = AffineSettings(voxel_sizes=(4.0,), iterations=(2,), radii=(2,), angles=(0.0,))
        >>> found = register_affine(scan, scan, cifl.build_encoder(3, 2, 2), settings=levels)
        >>> found.affine.matrix.shape
        (4, 4)
    """
    started = time.perf_counter()
    settings = settings or AffineSettings()
    if encoder is None or len(encoder.input_shape) != 5:
        raise ValueError("the encoder is not for volumes; give one, as load_encoder('shapes-3d')")
    extract = FrozenFeatures(encoder, remappings)
    finest = min(settings.voxel_sizes)
    moving_scan = _scan(moving, moving_mask, moving_window, extract, finest)
    fixed_scan = _last_scan(fixed, fixed_mask, fixed_window, extract, finest)
    pair = _Pair(moving_scan, fixed_scan, rigid, settings)
    matrix = pair.start() if initial is None else initial.matrix
    for level in range(len(settings.voxel_sizes)):
        matrix = pair.refined(matrix, level)
    return AffineResult(
        Affine(matrix),
        pair.similarity(np.eye(4), 0),
        pair.similarity(matrix, 0),
        *pair.counts,
        seconds=time.perf_counter() - started,
    )


def feature_similarity(
    moving,
    fixed,
    encoder: keras.Model,
    remappings: Sequence[str] = ("inverted",),
    mask=None,
    moving_window: tuple[float, float] | None = None,
    fixed_window: tuple[float, float] | None = None,
) -> float:
    """Correlation of the features of two scans where their headers put them, in [-1, 1].

    Args:
        moving, fixed, encoder, remappings, moving_window, fixed_window: see ``register_affine``.
        mask: image that is not 0 where the scans are compared; None for all but air.

    Raises:
        ValueError, FileNotFoundError: as ``register_affine``.
    """
    extract = FrozenFeatures(encoder, remappings)
    first = _last_scan(fixed, mask, fixed_window, extract, COMPARED / 2)
    second = _scan(moving, mask, moving_window, extract, COMPARED / 2)
    lattice = first.lattice(COMPARED, AffineSettings.margin)
    return similarity(first.encoded(lattice), second.encoded(lattice, np.eye(4)))


class _Pair:
    """Two scans that are registered."""

    def __init__(self, moving, fixed, rigid, settings):
        self.moving, self.fixed = moving, fixed
        self.rigid, self.settings = rigid, settings
        self.corners = fixed.corners()
        self.counts = 0, 0
        self.lattices = [fixed.lattice(size, settings.margin) for size in settings.voxel_sizes]

    def similarity(self, matrix, level):
        """Correlation of the features, where a matrix puts the moving scan."""
        moved = self.moving.encoded(self.lattices[level], matrix)
        return similarity(self.fixed.encoded(self.lattices[level]), moved)

    def start(self):
        """The matrix to start from."""
        moving, fixed, lattice = self.moving, self.fixed, self.lattices[0]
        starts = [header_start(moving, fixed, lattice)]
        if any(self.settings.angles):
            turns = [centered(turn, moving, fixed) for turn in rotations(self.settings.angles)]
            starts += best_starts(moving, fixed, lattice, turns, STARTS)
        if len(starts) == 1:
            return starts[0]
        refined = [self.refined(matrix, 0, iterations=2) for matrix in starts]
        return max(refined, key=lambda matrix: self.similarity(matrix, 0))

    def refined(self, matrix, level, iterations=None):
        """The matrix after block matching at a level."""
        lattice = self.lattices[level]
        fixed = self.fixed.encoded(lattice)
        kind = "rigid" if self.rigid else "similarity" if level == 0 else "affine"
        for _ in range(iterations or self.settings.iterations[level]):
            moved = self.moving.encoded(lattice, matrix)
            change, self.counts = matched_matrix(
                fixed,
                moved,
                lattice.affine,
                self.settings.radii[level],
                kind,
                LEAST_SHOWN if level == 0 else 1.0,
            )
            matrix = matrix @ change
            moved_by = corner_distance(change, np.eye(4), self.corners)
            if moved_by < self.settings.tolerance * lattice.voxel_size:
                break
        return matrix


def _last_scan(image, mask, window, extract, finest):
    """``_scan`` with what it has encoded so far, where it is that of the call before.

    Many scans may be registered to one, and the stages of one registration compare the same.
    """
    checksum = 0
    for weight in extract.encoder.get_weights():
        checksum = zlib.crc32(np.ascontiguousarray(weight).data, checksum)
    contents = [None if one is None else Content(one) for one in (image, mask)]
    window = None if window is None else tuple(window)
    return _scan_of(*contents, window, extract.encoder, extract.remappings, checksum, finest)


@functools.lru_cache(maxsize=1)
def _scan_of(image, mask, window, encoder, remappings, checksum, finest):
    extract = FrozenFeatures(encoder, remappings)
    return _scan(image.scan, None if mask is None else mask.scan, window, extract, finest)


def _scan(image, mask, window, extract, finest):
    """An image as the registration sees it, in voxels no smaller than those of the finest level."""
    volume = as_volume(image, "linear")
    sizes = voxel_sizes(volume.affine)
    wanted = tuple(finest if size < FINER * finest else None for size in sizes)
    if any(size is not None for size in wanted):
        volume = resample_volume(volume, wanted)
    if min(volume.data.shape) < BLOCK:
        raise ValueError(
            f"the image has {volume.data.shape} voxels of {finest:g} mm or more; give a volume of "
            f"at least {BLOCK} along every axis"
        )
    preprocessing = preprocessing_of(extract.encoder).with_choices(window=window)
    scaled = preprocessing.scaling(volume.data)
    grid = grid_at(volume.affine, volume.data.shape)
    inside = None if mask is None else Affine.identity().apply_mask(mask, grid)
    return AffineScan(volume, scaled, extract, inside)
