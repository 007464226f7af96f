"""How good a result is: features, label maps, warps, and runs compared; knows arrays only."""

from cifl_tf.metrics.features import (
    between_channel_correlation,
    channel_correlation,
    same_channel_correlation,
)
from cifl_tf.metrics.folding import folding_fraction, jacobian_determinant, log_jacobian_std
from cifl_tf.metrics.labels import dice, hausdorff95, volumes_mm3
from cifl_tf.metrics.matching import Matching, effective_rank, match_voxels
from cifl_tf.metrics.statistics import Comparison, compare_runs, format_mean_sd, mean_and_sd

__all__ = [
    "Comparison",
    "Matching",
    "between_channel_correlation",
    "channel_correlation",
    "compare_runs",
    "dice",
    "effective_rank",
    "folding_fraction",
    "format_mean_sd",
    "hausdorff95",
    "jacobian_determinant",
    "log_jacobian_std",
    "match_voxels",
    "mean_and_sd",
    "same_channel_correlation",
    "volumes_mm3",
]
