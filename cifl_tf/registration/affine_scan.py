"""A scan as the affine registration sees it: its features on any grid, at any voxel size."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from nibabel.affines import apply_affine, from_matvec, voxel_sizes
from scipy.ndimage import affine_transform

from cifl_tf.features.frozen import FrozenFeatures
from cifl_tf.images.grid import resized, sampling_steps, smooth_before_sampling
from cifl_tf.images.intensity import is_air
from cifl_tf.images.volumes import Volume

LEAST_FOREGROUND = 50  # voxels of a scan that shows something


@dataclass(frozen=True, eq=False)
class Lattice:
    """Points at equal distances.

    Attributes:
        affine: (4, 4), voxels to mm.
        shape: three sizes.
        voxel_size: in mm.
    """

    affine: np.ndarray
    shape: tuple[int, int, int]
    voxel_size: float


@dataclass(frozen=True, eq=False)
class EncodedScan:
    """Features of a scan on a lattice.

    Attributes:
        features: (x, y, z, C), float32, of mean 0 over the foreground.
        foreground: (x, y, z) booleans: where the scan shows something.
    """

    features: np.ndarray
    foreground: np.ndarray


class AffineScan:
    """A scan whose features are computed on any lattice.

    Args:
        volume: see ``read_volume``, of voxels that are about as large as those of the finest
            lattice.
        scaled: its intensities in [0, 1], (x, y, z).
        extract: the features.
        mask: booleans (x, y, z): where to look; None for what is not air.

    Raises:
        ValueError: it shows nothing, or nothing inside the mask.
    """

    def __init__(self, volume: Volume, scaled: np.ndarray, extract: FrozenFeatures, mask=None):
        self.affine = volume.affine
        foreground = ~is_air(scaled)
        if mask is not None:
            foreground &= mask
        if foreground.sum() < LEAST_FOREGROUND:
            raise ValueError(
                f"{foreground.sum()} voxels of the image are neither air nor outside the mask; "
                "give an image, and a mask, that show something"
            )
        self.extract = extract
        # Remapped before they are averaged: a mean of tissue and air is no tissue.
        images = extract.copies(tf.constant(scaled[None, ..., None], tf.float32))
        self._sharp = [image.numpy()[0, ..., 0] for image in images]
        self._sharp.append(foreground.astype(np.float32))
        self._smooth: dict[float, list[np.ndarray]] = {}
        self._encoded: dict[tuple, EncodedScan] = {}
        voxels = np.argwhere(foreground)
        self.center = apply_affine(self.affine, voxels.mean(axis=0))
        self._box = voxels.min(axis=0), voxels.max(axis=0)

    def corners(self) -> np.ndarray:
        """The corners of the box around the foreground in mm, (8, 3)."""
        first, last = self._box
        choices = np.indices((2, 2, 2)).reshape(3, -1).T
        return apply_affine(self.affine, np.where(choices, last, first))

    def lattice(self, voxel_size: float, margin: int) -> Lattice:
        """A lattice around the foreground.

        Args:
            voxel_size: in mm.
            margin: voxels beyond the foreground on either side.
        """
        first, last = self._box
        shifted = from_matvec(self.affine[:3, :3], apply_affine(self.affine, first))
        shape = last - first + 1
        padded = np.ceil(shape * voxel_sizes(self.affine) / voxel_size) + 2 * margin
        affine, _ = resized(shifted, shape, voxel_size)
        scale = affine[:3, :3]
        middle = apply_affine(shifted, (shape - 1) / 2)
        origin = middle - scale @ ((padded - 1) / 2)
        return Lattice(from_matvec(scale, origin), tuple(padded.astype(int).tolist()), voxel_size)

    def encoded(self, lattice: Lattice, matrix=None, remapped: bool = True) -> EncodedScan:
        """Features on a lattice; remembered where there is no matrix.

        Args:
            lattice: its points are those of the other image where there is a matrix.
            matrix: (4, 4), points of the lattice to points of this scan, in mm.
            remapped: average over remapped copies; without them it is faster.
        """
        if matrix is not None:
            return self._encode(lattice, matrix, remapped)
        key = lattice.affine.tobytes(), lattice.shape, remapped
        if key not in self._encoded:
            self._encoded[key] = self._encode(lattice, matrix, remapped)
        return self._encoded[key]

    def _encode(self, lattice, matrix, remapped):
        target = lattice.affine if matrix is None else matrix @ lattice.affine
        *smooth, share = self._at(lattice)
        if not remapped:
            smooth = smooth[:1]
        images = [self._sampled(image, target, lattice) for image in smooth]
        tensors = [tf.constant(image[None, ..., None]) for image in images]
        features = self.extract.mean_features(tensors).numpy()[0]
        foreground = self._sampled(share, target, lattice) > 0.5
        if foreground.any():
            features -= features[foreground].mean(axis=0)
        return EncodedScan(features, foreground)

    def foreground(self, lattice: Lattice) -> np.ndarray:
        """Where the scan shows something on a lattice, booleans (x, y, z)."""
        return self._sampled(self._at(lattice)[-1], lattice.affine, lattice) > 0.5

    def _at(self, lattice):
        """The images, and the foreground, blurred for voxels of a size."""
        size = lattice.voxel_size
        if size not in self._smooth:
            steps = sampling_steps(self.affine, np.diag([size, size, size, 1.0]))
            self._smooth[size] = [smooth_before_sampling(image, steps) for image in self._sharp]
        return self._smooth[size]

    def _sampled(self, image, target, lattice):
        mapping = np.linalg.solve(self.affine, target)
        return affine_transform(
            image, mapping[:3, :3], mapping[:3, 3], lattice.shape, order=1, mode="constant"
        )
