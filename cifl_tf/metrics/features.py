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

    Example:
        >>> import numpy as np
        >>> from cifl_tf.metrics import channel_correlation
        >>> features = np.random.rand(24, 20, 2)
        >>> channel_correlation(features, -features).diagonal().round(3)
        array([-1., -1.])
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
    """Correlation of each channel with the same channel of the other features, (C,).

    Example:
        >>> import numpy as np
        >>> from cifl_tf.metrics import same_channel_correlation
        >>> features = np.random.rand(24, 20, 2)
        >>> same_channel_correlation(features, 3 * features + 1).round(3)
        array([1., 1.])
    """
    return np.diagonal(channel_correlation(features_1, features_2, mask)).copy()


def between_channel_correlation(features, mask=None) -> float:
    """Mean absolute correlation of different channels of the same features, in [0, 1].

    Example:
        >>> import numpy as np
        >>> from cifl_tf.metrics import between_channel_correlation
        >>> channel = np.random.rand(24, 20)
        >>> round(between_channel_correlation(np.stack([channel, -channel], axis=-1)), 3)
        1.0
    """
    correlation = np.abs(channel_correlation(features, features, mask))
    return float(correlation[~np.eye(len(correlation), dtype=bool)].mean())
