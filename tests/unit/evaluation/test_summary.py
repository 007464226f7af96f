import math

import numpy as np
import pytest

from cifl_tf.evaluation.summary import compare, summary
from cifl_tf.metrics import compare_runs


def row_of(subject, value, contrast="T1w", **columns):
    return {"subject": subject, "contrast": contrast, "dice": value, **columns}


def pair_of(moving, fixed, value):
    return {"moving": moving, "fixed": fixed, "contrast": "T1w to T1w", "dice": value}


def test_summary_leaves_out_what_is_missing_and_counts_what_is_infinite():
    rows = [row_of("a", 0.5, hd95=1.0), row_of("b", 0.7, hd95=math.inf)]
    rows += [row_of("c", math.nan, hd95=3.0), row_of("a", 0.9, "FLAIR", hd95=math.inf)]
    found = summary(rows)
    assert list(found) == ["T1w", "FLAIR"]
    assert found["T1w"]["dice"] == pytest.approx(
        {"mean": 0.6, "sd": np.std([0.5, 0.7], ddof=1), "num": 2, "num_infinite": 0}
    )
    assert found["T1w"]["hd95"] == pytest.approx(
        {"mean": 2.0, "sd": np.sqrt(2), "num": 3, "num_infinite": 1}
    )
    assert found["FLAIR"]["hd95"]["num_infinite"] == 1
    assert math.isnan(found["FLAIR"]["hd95"]["mean"])
    found = summary([row_of("a", math.nan, hd95=1.0)])["T1w"]
    assert (found["dice"]["num"], found["hd95"]["num"]) == (0, 1)
    with pytest.raises(ValueError, match="no column 'side' in 4 rows"):
        summary(rows, "side")


def test_compare_is_over_subjects_whatever_their_order(rng):
    first, second = rng.random(7), rng.random(7)
    rows_1 = [row_of(f"s{i}", value) for i, value in enumerate(first)]
    rows_2 = [row_of(f"s{i}", value) for i, value in enumerate(second)]
    assert compare(rows_1, rows_2[::-1]) == {"T1w": compare_runs(first, second)}
    with pytest.raises(ValueError, match=r"\[\('s6', 'T1w'\)\] are in the first only, \[\]"):
        compare(rows_1, rows_2[:-1])
    with pytest.raises(ValueError, match="no number 'hd95'"):
        compare(rows_1, rows_2, "hd95")


def test_compare_of_registrations_is_over_fixed_subjects():
    names = "abc"
    pairs = [(moving, fixed) for moving in names for fixed in names if moving != fixed]
    rows_1 = [pair_of(*pair, value) for pair, value in zip(pairs, range(6), strict=True)]
    rows_2 = [pair_of(*pair, 1.0) for pair in pairs]
    # (a, b) 0, (a, c) 1, (b, a) 2, (b, c) 3, (c, a) 4, (c, b) 5
    expected = compare_runs([3, 2.5, 2], [1, 1, 1])
    assert compare(rows_1, rows_2) == {"T1w to T1w": expected}
