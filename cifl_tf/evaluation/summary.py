"""Scores of a run over its subjects, and the scores of two runs compared."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd

from cifl_tf.metrics import Comparison, compare_runs, format_mean_sd

Rows: TypeAlias = pd.DataFrame | Sequence[Mapping]  # as a DataFrame takes them


def summary(rows: Rows, by: str = "contrast") -> dict[str, dict[str, dict[str, float]]]:
    """Mean and sample standard deviation of every number of the rows, by contrast.

    They go over subjects; of a registration, over ordered pairs, which are not independent, as each
    subject is in many: the SD then says how much pairs differ, and makes no standard error.

    Args:
        rows: of ``segmentation_scores``, ``registration_scores`` or ``feature_scores``.
        by: the column whose values are summarized apart.

    Returns:
        By contrast and number: "mean" and "sd" of the finite values, "num", how many are not NaN,
        and "num_infinite", how many of these are infinite and so not in the mean.

    Raises:
        ValueError: no rows, or no such column.
    """
    table = pd.DataFrame(rows)
    if table.empty or by not in table:
        raise ValueError(
            f"there is no column {by!r} in {len(table)} rows; give those of segmentation_scores or "
            "registration_scores"
        )
    numbers = table.select_dtypes("number")
    finite = numbers.where(np.isfinite(numbers)).groupby(table[by], sort=False)
    spread = {
        "mean": finite.mean(),
        "sd": finite.std(),
        "num": numbers.notna().groupby(table[by], sort=False).sum(),
        "num_infinite": np.isinf(numbers).groupby(table[by], sort=False).sum(),
    }
    return {
        group: {
            name: {statistic: found.at[group, name].item() for statistic, found in spread.items()}
            for name in numbers
        }
        for group in spread["mean"].index
    }


def compare(rows_1: Rows, rows_2: Rows, value: str = "dice") -> dict[str, Comparison]:
    """Compare two runs on the same subjects by ``metrics.compare_runs``, contrast by contrast.

    Of a registration, each fixed subject counts once, with its mean over the moving ones: pairs are
    not independent. (Neither are the fixed subjects entirely, each being moving for the others.)

    Args:
        rows_1: of ``segmentation_scores`` or ``registration_scores``.
        rows_2: of the same function for the other run.
        value: the number to compare.

    Returns:
        By contrast, first minus second run.

    Raises:
        ValueError: the runs hold other subjects, pairs or contrasts, there is no such number, or
            too few subjects.
    """
    tables = [pd.DataFrame(rows) for rows in (rows_1, rows_2)]
    keys_1, keys_2 = (
        set(table.select_dtypes(exclude="number").itertuples(index=False, name=None))
        for table in tables
    )
    if keys_1 != keys_2:
        raise ValueError(
            f"the runs differ in what they hold: {sorted(keys_1 - keys_2)} are in the first only, "
            f"{sorted(keys_2 - keys_1)} in the second only; evaluate both on the same subjects and "
            "contrasts"
        )
    means_1, means_2 = (_subject_means(table, value) for table in tables)
    return {
        contrast: compare_runs(means_1[contrast], means_2[contrast][means_1[contrast].index])
        for contrast in means_1.index.unique("contrast")
    }


def mean_sd_text(spread: Mapping[str, float], decimals: int = 3, scale: float = 1) -> str:
    """One number of ``summary`` as text, such as "1.25 ± 0.50 (1 of 3 infinite)".

    Args:
        spread: "mean", "sd", "num" and "num_infinite".
        decimals: of mean and SD.
        scale: by which both are multiplied, such as 100 for percent.
    """
    found = []
    if not np.isnan(spread["mean"]):
        found.append(format_mean_sd(spread["mean"] * scale, spread["sd"] * scale, decimals))
    if spread["num_infinite"]:
        found.append(f"({spread['num_infinite']} of {spread['num']} infinite)")
    return " ".join(found) or "none"


def to_markdown(table: pd.DataFrame) -> str:
    """A table as Markdown: a line of headings, one of rules, and one per row; no index."""
    lines = [table.columns, ["---"] * table.shape[1], *table.itertuples(index=False, name=None)]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def _subject_means(table, value):
    """The mean of a number by contrast and subject, or fixed subject."""
    if value not in table.select_dtypes("number"):
        raise ValueError(f"there is no number {value!r} in the rows; choose from {list(table)}")
    subject = "fixed" if "fixed" in table else "subject"
    return table.groupby(["contrast", subject], sort=False)[value].mean()
