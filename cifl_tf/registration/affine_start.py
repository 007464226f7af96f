"""Where an affine registration starts: the best of many rotations on coarse features."""

import itertools

import numpy as np
from nibabel.affines import apply_affine, from_matvec
from scipy.fft import irfftn, next_fast_len, rfftn
from scipy.spatial.transform import Rotation

from cifl_tf.registration.affine_scan import AffineScan, Lattice

LEAST_OVERLAP = 0.1  # of the smaller foreground, where headers are trusted


def header_start(moving: AffineScan, fixed: AffineScan, lattice: Lattice) -> np.ndarray:
    """The identity where the foregrounds overlap; else the shift between their centers, (4, 4).

    Args:
        moving: the scan that is moved.
        fixed: the scan it is moved to.
        lattice: of the fixed scan, coarse.
    """
    shown, other = (scan.foreground(lattice) for scan in (fixed, moving))
    volume = moving.foreground(moving.lattice(lattice.voxel_size, 0)).sum()
    overlap = np.count_nonzero(shown & other) / max(1, min(shown.sum(), volume))
    return np.eye(4) if overlap >= LEAST_OVERLAP else centered(np.eye(3), moving, fixed)


def centered(linear, moving: AffineScan, fixed: AffineScan) -> np.ndarray:
    """The matrix (4, 4) that turns about the centers of both foregrounds."""
    return from_matvec(linear, moving.center - linear @ fixed.center)


def rotations(angles) -> list[np.ndarray]:
    """All rotations (3, 3) by these angles in degrees about the three axes; small ones first."""
    triples = sorted(itertools.product(angles, repeat=3), key=lambda triple: np.abs(triple).sum())
    return [Rotation.from_euler("xyz", triple, degrees=True).as_matrix() for triple in triples]


def best_starts(
    moving: AffineScan, fixed: AffineScan, lattice: Lattice, candidates, count: int
) -> list[np.ndarray]:
    """The best of matrices that start a registration, each after its best shift.

    The moving scan is turned and encoded anew for each, as features turn only about with their
    image. The correlation of the features at all shifts at once is a product of Fourier transforms.

    Args:
        moving: the scan that is moved.
        fixed: the scan it is moved to.
        lattice: of the fixed scan, coarse.
        candidates: matrices (4, 4), fixed to moving.
        count: how many to keep.
    """
    shape = [next_fast_len(2 * size) for size in lattice.shape]
    spectrum = rfftn(_shown(fixed.encoded(lattice, remapped=False)), shape, axes=(0, 1, 2))
    found = []
    for matrix in candidates:
        turned = _shown(moving.encoded(lattice, matrix, remapped=False))
        norm = np.sqrt(np.square(turned).sum())
        product = (np.conj(spectrum) * rfftn(turned, shape, axes=(0, 1, 2))).sum(axis=-1)
        correlation = irfftn(product, shape)
        best = np.unravel_index(correlation.argmax(), correlation.shape)
        shift = [
            place if place < length / 2 else place - length
            for place, length in zip(best, shape, strict=True)
        ]
        moved = from_matvec(np.eye(3), lattice.affine[:3, :3] @ np.array(shift, float))
        found.append((correlation[best] / max(norm, 1e-6), matrix @ moved))
    found.sort(key=lambda pair: -pair[0])
    return [matrix for _, matrix in found[:count]]


def _shown(scan):
    return scan.features * scan.foreground[..., None]


def corner_distance(first, second, corners) -> float:
    """Largest distance in mm between where two matrices bring points (n, 3)."""
    apart = apply_affine(first, corners) - apply_affine(second, corners)
    return float(np.linalg.norm(apart, axis=1).max())
