"""Numbers over subjects: mean and spread of a run, and whether two runs differ."""

import dataclasses

import numpy as np
from scipy import stats


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two runs on the same subjects; NaN pairs left out.

    Attributes:
        num_pairs: how many subjects have a number in both runs.
        mean_1: mean of the first run.
        sd_1: its sample standard deviation.
        mean_2: mean of the second run.
        sd_2: its sample standard deviation.
        mean_difference: mean of first minus second.
        p_value: two-sided, of the paired Wilcoxon signed-rank test.

    Example:
        >>> from cifl_tf.metrics import compare_runs
        >>> compare_runs([0.8, 0.9], [0.7, 0.6]).too_small
        True
    """

    num_pairs: int
    mean_1: float
    sd_1: float
    mean_2: float
    sd_2: float
    mean_difference: float
    p_value: float

    @property
    def too_small(self) -> bool:
        """Whether there are too few pairs for p < 0.05, whatever the numbers: fewer than six."""
        return 2 / 2**self.num_pairs >= 0.05


def mean_and_sd(values) -> tuple[float, float]:
    """Mean and sample standard deviation (n - 1) of the values that are not NaN.

    Args:
        values: any shape; NaN marks what is to be left out, as a label that a subject lacks.

    Returns:
        (mean, SD). The SD of one value is NaN, as are both of no value. An infinite value makes
        the mean infinite and the SD NaN.

    Example:
        >>> from cifl_tf.metrics import mean_and_sd
        >>> mean_and_sd([1, 2, 3, float("nan")])
        (2.0, 1.0)
    """
    values = np.asarray(values, np.float64)
    values = values[~np.isnan(values)]
    if not values.size:
        return np.nan, np.nan
    if len(values) < 2 or not np.isfinite(values).all():
        return float(values.mean()), np.nan
    return float(values.mean()), float(values.std(ddof=1))


def format_mean_sd(mean, sd, decimals=2) -> str:
    """Mean and SD as in a table, "0.84 ± 0.04"; an SD that is NaN is left out, "0.84".

    Example:
        >>> from cifl_tf.metrics import format_mean_sd
        >>> format_mean_sd(0.8412, 0.0371)
        '0.84 ± 0.04'
    """
    text = f"{mean:z.{decimals}f}"
    return text if np.isnan(sd) else f"{text} ± {sd:.{decimals}f}"


def compare_runs(values_1, values_2) -> Comparison:
    """Compare two runs on the same subjects by the paired Wilcoxon signed-rank test.

    The differences d = values_1 - values_2 are ranked by size; the p-value is the probability,
    were every sign a coin toss, of rank sums of + and - at least as unequal. Equal pairs are
    left out of the test (Wilcoxon's rule); p = 1 when all are equal. p is exact up to 50 differing
    pairs (13 where sizes are tied) and a normal approximation beyond. It cannot fall below
    2 / 2^n, so with fewer than six differing pairs p < 0.05 is out of reach.

    Args:
        values_1: (num_subjects,), one number per subject.
        values_2: (num_subjects,), the same subjects in the same order. A subject that is NaN in
            either run is left out; infinity ranks as the largest.

    Returns:
        A `Comparison`.

    Raises:
        ValueError: the runs have different shapes or more than one axis, or fewer than two
            subjects have a number in both.

    Source: Wilcoxon, Individual comparisons by ranking methods, Biometrics Bulletin 1945.

    Example:
        >>> from cifl_tf.metrics import compare_runs
        >>> found = compare_runs([6, 7, 8, 9, 9, 9], [1, 1, 1, 1, 1, 1])
        >>> found.num_pairs, round(found.mean_difference, 2), round(found.p_value, 3)
        (6, 7.0, 0.031)
    """
    values_1, values_2 = np.asarray(values_1, np.float64), np.asarray(values_2, np.float64)
    if values_1.ndim != 1 or values_1.shape != values_2.shape:
        raise ValueError(
            f"the runs have shapes {values_1.shape} and {values_2.shape}; "
            "give one number per subject, (num_subjects,), the same subjects in both"
        )
    paired = ~(np.isnan(values_1) | np.isnan(values_2))
    values_1, values_2 = values_1[paired], values_2[paired]
    if len(values_1) < 2:
        raise ValueError(
            f"only {len(values_1)} subjects have a number in both runs; at least 2 are needed "
            "(6 for p < 0.05), so evaluate both runs on more of the same subjects"
        )
    differences = np.zeros_like(values_1)
    # Not subtracted where equal: infinity minus infinity is no number.
    np.subtract(values_1, values_2, out=differences, where=values_1 != values_2)
    differing = differences[differences != 0]
    with np.errstate(invalid="ignore"):  # infinities of both signs: their mean is NaN
        mean_difference = float(differences.mean())
    return Comparison(
        len(values_1),
        *mean_and_sd(values_1),
        *mean_and_sd(values_2),
        mean_difference,
        float(stats.wilcoxon(differing).pvalue) if differing.size else 1.0,
    )
