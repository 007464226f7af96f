"""How alike features are."""

import numpy as np


def channel_correlation(features_1, features_2, mask=None) -> np.ndarray:
    """Pearson correlation over voxels of every channel with every other.

    Args:
        features_1: (*spatial, C1).
        features_2: (*spatial, C2), on the same grid.
        mask: booleans (*spatial), the voxels to use; None for all.

    Returns:
        (C1, C2) in [-1, 1]; 0 where a channel is constant.

    Raises:
        ValueError: the grids differ, or fewer than two voxels are in the mask.
    """
    grids = {np.shape(features_1)[:-1], np.shape(features_2)[:-1]}
    if mask is not None:
        grids.add(np.shape(mask))
    if len(grids) > 1:
        raise ValueError(f"features and mask lie on different grids: {sorted(grids)}")
    mask = np.ones(np.shape(features_1)[:-1], bool) if mask is None else np.asarray(mask, bool)
    if mask.sum() < 2:
        raise ValueError(f"the mask holds {mask.sum()} voxels; a correlation needs at least two")

    def standardized(features):
        values = np.asarray(features, np.float64)[mask]
        values = values - values.mean(axis=0)
        norm = np.linalg.norm(values, axis=0)
        # A constant channel is left with rounding errors of its mean, not with zeros.
        return np.divide(values, norm, out=np.zeros_like(values), where=norm > 1e-9)

    return np.clip(standardized(features_1).T @ standardized(features_2), -1, 1)


def same_channel_correlation(features_1, features_2, mask=None) -> np.ndarray:
    """Correlation of each channel with the same channel of the other features, (C,)."""
    return np.diagonal(channel_correlation(features_1, features_2, mask)).copy()


def between_channel_correlation(features, mask=None) -> float:
    """Mean absolute correlation of different channels of the same features, in [0, 1]."""
    correlation = np.abs(channel_correlation(features, features, mask))
    return float(correlation[~np.eye(len(correlation), dtype=bool)].mean())
