import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from scipy.ndimage import gaussian_filter, shift
from scipy.spatial.transform import Rotation

from cifl_tf.registration.affine_scan import EncodedScan
from cifl_tf.registration.block_matching import (
    BLOCK,
    fit_matrix,
    matched_blocks,
    matched_matrix,
    similarity,
    trimmed_fit,
)

TURN = Rotation.from_euler("xyz", [20, -35, 10], degrees=True).as_matrix()


def smooth_features(rng, shape=(28, 26, 24), channels=3):
    noise = rng.standard_normal((*shape, channels))
    return gaussian_filter(noise, (1.5, 1.5, 1.5, 0)).astype(np.float32)


def test_rigid_fit_is_that_of_scipy(rng):
    source = 50 * rng.standard_normal((30, 3))
    target = source @ TURN.T + [3, -2, 8] + rng.standard_normal((30, 3))
    matrix = fit_matrix(source, target, "rigid")
    expected, _ = Rotation.align_vectors(target - target.mean(axis=0), source - source.mean(axis=0))
    np.testing.assert_allclose(matrix[:3, :3], expected.as_matrix(), atol=1e-9)
    np.testing.assert_allclose(apply_affine(matrix, source.mean(axis=0)), target.mean(axis=0))


@pytest.mark.parametrize(
    ("kind", "linear"),
    [("rigid", TURN), ("similarity", 1.3 * TURN), ("affine", TURN @ np.diag([1, 1.2, 0.8]) + 0.1)],
)
def test_exact_pairs_are_fitted_exactly_in_spite_of_outliers(rng, kind, linear):
    matrix = from_matvec(linear, [3, -2, 8])
    source = 50 * rng.standard_normal((60, 3))
    target = apply_affine(matrix, source)
    np.testing.assert_allclose(fit_matrix(source, target, kind), matrix, atol=1e-9)
    target[:18] += 40 * rng.standard_normal((18, 3))
    found, kept = trimmed_fit(source, target, kind)
    np.testing.assert_allclose(found, matrix, atol=1e-6)
    assert not kept[:18].any()


def test_mirrored_points_are_turned_not_mirrored(rng):
    source = rng.standard_normal((20, 3))
    matrix = fit_matrix(source, source * [-1, 1, 1], "rigid")
    np.testing.assert_allclose(np.linalg.det(matrix), 1)


def test_best_place_is_that_of_a_slow_loop(rng):
    fixed = smooth_features(rng, (12, 12, 12))
    moving = smooth_features(rng, (12, 12, 12))
    centers, places = matched_blocks(fixed, moving, np.ones(fixed.shape[:3], bool), radius=2)
    padded = np.pad(moving, [(2, 2)] * 3 + [(0, 0)])
    for center, place in zip(centers, places, strict=True):
        corner = (center - (BLOCK - 1) / 2).astype(int)
        block = fixed[tuple(slice(first, first + BLOCK) for first in corner)].ravel()
        cosines = {}
        for offset in np.ndindex(5, 5, 5):
            window = tuple(slice(f, f + BLOCK) for f in corner + offset)
            other = padded[window].ravel()
            cosines[offset] = block @ other / np.linalg.norm(block) / np.linalg.norm(other)
        best = np.array(max(cosines, key=cosines.get)) - 2
        assert np.abs(place - center - best).max() <= 0.5


def test_blocks_are_whole_and_of_the_higher_variance(rng):
    fixed = smooth_features(rng)
    fixed[:12] *= 0.01
    shown = np.zeros(fixed.shape[:3], bool)
    shown[2:, :20] = True
    centers, _ = matched_blocks(fixed, fixed, shown, radius=1)
    assert centers[:, 0].min() > 12
    assert centers[:, 1].max() < 20


def test_a_shift_is_found_between_voxels(rng):
    fixed = smooth_features(rng)
    moved = np.array([1.3, -0.6, 0.4])
    moving = shift(fixed, [*moved, 0], order=3, mode="nearest")
    shown = np.zeros(fixed.shape[:3], bool)
    shown[3:-3, 3:-3, 3:-3] = True
    pair = EncodedScan(fixed, shown), EncodedScan(moving, shown)
    affine = from_matvec(2 * TURN, [5, 6, 7])
    matrix, (inliers, pairs) = matched_matrix(*pair, affine, radius=2, kind="rigid")
    center = apply_affine(affine, np.array(shown.shape) / 2)
    np.testing.assert_allclose(
        apply_affine(matrix, center) - center, affine[:3, :3] @ moved, atol=0.3
    )
    assert 0 < inliers < pairs


def test_nothing_shown_moves_nothing(rng):
    scan = EncodedScan(smooth_features(rng), np.zeros((28, 26, 24), bool))
    matrix, counts = matched_matrix(scan, scan, np.eye(4), radius=1, kind="affine")
    np.testing.assert_array_equal(matrix, np.eye(4))
    assert counts == (0, 0)


def test_similarity_counts_where_only_one_shows_something(rng):
    features = smooth_features(rng)
    whole = np.ones(features.shape[:3], bool)
    half = whole.copy()
    half[:14] = False
    assert similarity(EncodedScan(features, whole), EncodedScan(features, whole)) == pytest.approx(
        1
    )
    expected = np.sqrt(np.square(features[14:]).sum() / np.square(features).sum())
    found = similarity(EncodedScan(features, whole), EncodedScan(features, half))
    assert found == pytest.approx(expected, rel=1e-4)
