"""Block matching: where the blocks of one feature map lie in another, and the affine of that.

Source: Ourselin et al., Reconstructing a 3D structure from serial histological sections, Image and
Vision Computing 2001; Modat et al., Global image registration using a symmetric block-matching
approach, Journal of Medical Imaging 2014 (reg_aladin of NiftyReg).
"""

import itertools

import numpy as np
from nibabel.affines import apply_affine, from_matvec
from scipy.linalg import expm, logm

BLOCK = 4  # voxels along each axis
SHARE_OF_BLOCKS = 0.5  # those of highest variance
SHARE_OF_PAIRS = 0.5  # that least trimmed squares keeps
MOST_TRIMS = 50
SAME_SQUARE = 1e-6  # relative change of the trimmed squares that ends them
LEAST_SQUARES = 1e-6  # mean square of a block without signal
LEAST_BLOCKS = {"rigid": 6, "similarity": 6, "affine": 12}


def matched_blocks(
    fixed, moving, shown, radius: int, least_shown: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Centers of blocks of a feature map, and where they lie in another on the same lattice.

    Of the blocks of 4 x 4 x 4 voxels of what is shown, the half of highest variance. Each is
    compared with the blocks up to ``radius`` voxels away along each axis by the cosine of all its
    features; the best place is refined by a parabola along each axis.

    Args:
        fixed: (x, y, z, C).
        moving: the same shape.
        shown: (x, y, z) booleans.
        radius: voxels.
        least_shown: share of a block that must be shown, in [0, 1].

    Returns:
        Two arrays (n, 3) in voxels.
    """
    blocks = _blocks(fixed, BLOCK)[::BLOCK, ::BLOCK, ::BLOCK]
    shares = _blocks(shown[..., None], BLOCK)[::BLOCK, ::BLOCK, ::BLOCK].mean(axis=(3, 4, 5, 6))
    corners = np.argwhere(shares >= least_shown)
    if len(corners) == 0:
        return np.zeros((0, 3)), np.zeros((0, 3))
    blocks = blocks[tuple(corners.T)]
    variances = blocks.var(axis=(1, 2, 3)).sum(axis=-1)
    best = variances >= np.quantile(variances, 1 - SHARE_OF_BLOCKS)
    blocks, corners = blocks[best], corners[best] * BLOCK
    padded = np.pad(moving, [(radius, radius)] * 3 + [(0, 0)])
    windows = _blocks(padded, BLOCK + 2 * radius)[tuple(corners.T)]
    centers = corners + (BLOCK - 1) / 2
    return centers, centers + _peaks(_cosines(blocks, windows)) - radius


def _blocks(image, size):
    """All blocks of an image (x, y, z, C), without a copy: (x', y', z', size, size, size, C)."""
    blocks = np.lib.stride_tricks.sliding_window_view(image, (size, size, size), axis=(0, 1, 2))
    return np.moveaxis(blocks, 3, -1)


def _cosines(blocks, windows):
    """Cosine of blocks (n, 4, 4, 4, C) with all those of windows (n, w, w, w, C).

    Returns:
        (n, w - 3, w - 3, w - 3).
    """
    count, channels = len(blocks), blocks.shape[-1]
    places = windows.shape[1] - BLOCK + 1
    # Rows along the last spatial axis and the channels, which lie side by side.
    rows = blocks.reshape(count, BLOCK**2, BLOCK * channels)
    squares = np.square(windows).sum(axis=-1)
    products, norms = np.empty((2, count, places, places, places), np.float32)
    for first, second in itertools.product(range(places), repeat=2):
        part = np.s_[:, first : first + BLOCK, second : second + BLOCK]
        candidates = windows[part].reshape(count, BLOCK**2, -1)
        sums = squares[part].sum(axis=(1, 2))
        for third in range(places):
            chosen = candidates[..., third * channels : (third + BLOCK) * channels]
            products[:, first, second, third] = np.einsum("nij,nij->n", rows, chosen)
            norms[:, first, second, third] = sums[:, third : third + BLOCK].sum(axis=1)
    norms *= np.square(rows).sum(axis=(1, 2))[:, None, None, None]
    return products / np.sqrt(norms + LEAST_SQUARES)


def _peaks(cosines):
    """Where each of (n, width, width, width) is highest, between its voxels, (n, 3)."""
    width = cosines.shape[1]
    flat = cosines.reshape(len(cosines), -1)
    best = np.stack(np.unravel_index(flat.argmax(axis=1), cosines.shape[1:]), axis=-1)
    peaks = best.astype(np.float64)
    which = np.arange(len(cosines))
    for axis in range(3):
        step = np.eye(3, dtype=int)[axis]
        inner = (best[:, axis] > 0) & (best[:, axis] < width - 1)
        before, after = (
            cosines[(which, *np.clip(best + shift, 0, width - 1).T)] for shift in (-step, step)
        )
        middle = cosines[(which, *best.T)]
        curvature = before - 2 * middle + after
        useful = inner & (curvature < -1e-6)
        shift = 0.5 * (before - after) / np.where(useful, curvature, -1.0)
        peaks[:, axis] += np.where(useful, np.clip(shift, -0.5, 0.5), 0.0)
    return peaks


def fit_matrix(source, target, kind: str) -> np.ndarray:
    """The matrix (4, 4) that brings points closest to others, in the least squares.

    Args:
        source: (n, 3).
        target: (n, 3).
        kind: "rigid" or "similarity" (Kabsch 1976; Umeyama, PAMI 1991), or "affine".
    """
    center, goal = source.mean(axis=0), target.mean(axis=0)
    before, after = source - center, target - goal
    if kind == "affine":
        linear = np.linalg.lstsq(before, after, rcond=None)[0].T
    else:
        left, values, right = np.linalg.svd(after.T @ before)
        signs = np.array([1, 1, np.sign(np.linalg.det(left @ right))])
        linear = (left * signs) @ right
        if kind == "similarity":
            linear *= (values * signs).sum() / (before**2).sum()
    return from_matvec(linear, goal - linear @ center)


def trimmed_fit(source, target, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """``fit_matrix`` by least trimmed squares: of the half of the pairs that fit best.

    Returns:
        The matrix, and which pairs it is of, (n,) booleans.
    """
    count = max(LEAST_BLOCKS[kind], int(np.ceil(SHARE_OF_PAIRS * len(source))))
    kept, before = np.ones(len(source), bool), np.inf
    matrix = np.eye(4)
    for _ in range(MOST_TRIMS):
        matrix = fit_matrix(source[kept], target[kept], kind)
        squares = ((apply_affine(matrix, source) - target) ** 2).sum(axis=1)
        best = np.argsort(squares, kind="stable")[:count]
        total = squares[best].sum()
        kept = np.zeros(len(source), bool)
        kept[best] = True
        if total >= (1 - SAME_SQUARE) * before:
            break
        before = total
    return matrix, kept


def matched_matrix(fixed, moving, affine, radius, kind, least_shown=1.0):
    """The matrix (4, 4) in mm from points of a scan to where they lie in another; and inliers.

    The mean, of logarithms, of the fit of the fixed scan's blocks and the inverse of the fit of the
    moving scan's.

    Args:
        fixed: ``EncodedScan``.
        moving: on the same lattice.
        affine: (4, 4) of the lattice, voxels to mm.
        radius, least_shown: see ``matched_blocks``.
        kind: see ``fit_matrix``.
    """
    logarithms, counts = [], []
    for first, second, sign in ((fixed, moving, 1), (moving, fixed, -1)):
        source, target = matched_blocks(
            first.features, second.features, first.foreground, radius, least_shown
        )
        if len(source) < LEAST_BLOCKS[kind]:
            continue
        matrix, kept = trimmed_fit(apply_affine(affine, source), apply_affine(affine, target), kind)
        if np.linalg.det(matrix) > 0:
            logarithms.append(sign * logm(matrix).real)
            counts.append((int(kept.sum()), len(kept)))
    if not logarithms:
        return np.eye(4), (0, 0)
    return expm(np.mean(logarithms, axis=0)), tuple(np.sum(counts, axis=0).tolist())


def similarity(fixed, moving) -> float:
    """Correlation of the features of two scans where they show something, in [-1, 1]."""
    both = fixed.foreground & moving.foreground
    products = np.vdot(fixed.features[both], moving.features[both])
    squares = [np.square(scan.features[scan.foreground]).sum() for scan in (fixed, moving)]
    return float(products / np.sqrt(np.prod(squares) + 1e-12))
