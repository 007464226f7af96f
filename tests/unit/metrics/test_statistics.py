import itertools
import math

import numpy as np
import pytest
from scipy import stats

from cifl_tf.metrics import compare_runs, format_mean_sd, mean_and_sd


def slow_wilcoxon(differences):
    """Share of all sign patterns whose rank sums are at least as unequal as the given."""
    ranks = stats.rankdata(np.abs(differences))
    given = abs(np.sum(np.sign(differences) * ranks))
    patterns = itertools.product((-1, 1), repeat=len(ranks))
    return np.mean([abs(np.dot(signs, ranks)) >= given for signs in patterns])


@pytest.mark.parametrize(
    "differences",
    [
        [1, 2, 3, 4, 5, 6],
        [1, 2, 3, 4, 5, -6],
        [-1, -2, 3, 4, -5, 6],
        [1, 1, 2, 3, -4, 5],  # two of equal size
        [math.inf, 1, -2, 3, 4, 5],
    ],
)
def test_p_value_is_the_enumeration_of_signs(rng, differences):
    values_2 = np.zeros(6)
    values_1 = rng.permutation(np.array(differences, np.float64))
    expected = slow_wilcoxon(values_1)
    assert compare_runs(values_1, values_2).p_value == pytest.approx(expected, abs=1e-12)
    assert compare_runs(values_2, values_1).p_value == pytest.approx(expected, abs=1e-12)


def test_comparison():
    better, worse = [0.75, 1.0, 0.5, 1.0, np.nan], [0.5, 0.5, 0.25, 0.25, 0.5]
    comparison = compare_runs(better, worse)
    assert comparison.num_pairs == 4
    assert (comparison.mean_1, comparison.mean_2) == (0.8125, 0.375)
    assert comparison.sd_1 == pytest.approx(np.std(better[:4], ddof=1))
    assert comparison.sd_2 == pytest.approx(np.std(worse[:4], ddof=1))
    assert comparison.mean_difference == 0.4375
    assert comparison.p_value == 2 / 2**4
    assert compare_runs(worse, better).mean_difference == -0.4375


@pytest.mark.filterwarnings("error")
def test_equal_pairs():
    assert compare_runs([1, 2, 3, math.inf], [1, 2, 3, math.inf]).p_value == 1
    with_ties = compare_runs([1, 2, 3, 4, 5, 9, 9], [0, 0, 0, 0, 0, 9, 9])
    assert with_ties.p_value == compare_runs([1, 2, 3, 4, 5], [0] * 5).p_value == 2 / 2**5
    assert with_ties.mean_difference == pytest.approx(15 / 7)


@pytest.mark.filterwarnings("error")
def test_mean_and_sd():
    assert mean_and_sd([[1, np.nan], [3, 5]]) == (3, 2)
    np.testing.assert_equal(mean_and_sd([4, np.nan]), (4, np.nan))
    np.testing.assert_equal(mean_and_sd([np.nan]), (np.nan, np.nan))
    np.testing.assert_equal(mean_and_sd([1, np.inf]), (np.inf, np.nan))


def test_format():
    assert format_mean_sd(0.838, 0.0449) == "0.84 ± 0.04"
    assert format_mean_sd(*mean_and_sd([1, 3, 5]), decimals=0) == "3 ± 2"
    assert format_mean_sd(-0.001, 0.5) == "0.00 ± 0.50"
    assert format_mean_sd(*mean_and_sd([0.5])) == "0.50"


def test_errors():
    for wrong in ([1, 2, 3], [[1, 2]]):
        with pytest.raises(ValueError, match=r"have shapes \(2,\) and .*one number per subject"):
            compare_runs([1, 2], wrong)
    with pytest.raises(ValueError, match="only 1 subjects have a number in both runs; at least 2"):
        compare_runs([1, np.nan, 2], [1, 1, np.nan])
