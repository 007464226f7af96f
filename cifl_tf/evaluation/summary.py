"""Scores of a run over its subjects, and the scores of two runs compared."""

from collections.abc import Mapping, Sequence

import numpy as np

from cifl_tf.metrics import Comparison, compare_runs, mean_and_sd


def summary(
    rows: Sequence[Mapping], by: str = "contrast"
) -> dict[str, dict[str, dict[str, float]]]:
    """Mean and sample standard deviation of every number of the rows, by contrast.

    They go over subjects; of a registration, over ordered pairs, which are not independent, as each
    subject is in many: the SD then says how much pairs differ, and makes no standard error.

    Args:
        rows: of ``segmentation_scores`` or ``registration_scores``.
        by: the column whose values are summarized apart.

    Returns:
        By contrast and number: "mean" and "sd" of the finite values, "num", how many are not NaN,
        and "num_infinite", how many of these are infinite and so not in the mean.

    Raises:
        ValueError: no rows, or no such column.
    """
    if not rows or by not in rows[0]:
        raise ValueError(
            f"there is no column {by!r} in {len(rows)} rows; give those of segmentation_scores or "
            "registration_scores"
        )
    groups: dict[str, list[Mapping]] = {}
    for row in rows:
        groups.setdefault(row[by], []).append(row)
    numbers = [name for name, value in rows[0].items() if not isinstance(value, str)]
    return {
        group: {name: _spread([row[name] for row in members]) for name in numbers}
        for group, members in groups.items()
    }


def compare(
    rows_1: Sequence[Mapping], rows_2: Sequence[Mapping], value: str = "dice"
) -> dict[str, Comparison]:
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
    keys_1, keys_2 = ({_key(row) for row in rows} for rows in (rows_1, rows_2))
    if keys_1 != keys_2:
        raise ValueError(
            f"the runs differ in what they hold: {sorted(keys_1 - keys_2)} are in the first only, "
            f"{sorted(keys_2 - keys_1)} in the second only; evaluate both on the same subjects and "
            "contrasts"
        )
    means_1, means_2 = _subject_means(rows_1, value), _subject_means(rows_2, value)
    return {
        contrast: compare_runs(list(means.values()), [means_2[contrast][name] for name in means])
        for contrast, means in means_1.items()
    }


def _spread(values):
    values = np.array([value for value in values if not np.isnan(value)])
    finite = values[np.isfinite(values)]
    mean, sd = mean_and_sd(finite)
    num_infinite = len(values) - len(finite)
    return {"mean": mean, "sd": sd, "num": len(values), "num_infinite": num_infinite}


def _key(row):
    """What a row is about: the subject or the pair, and the contrast."""
    return tuple(value for value in row.values() if isinstance(value, str))


def _subject_means(rows, value):
    """By contrast and subject, or fixed subject, the mean of a number."""
    values: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if isinstance(row.get(value, ""), str):
            raise ValueError(f"there is no number {value!r} in the rows; choose from {list(row)}")
        subject = row["fixed"] if "fixed" in row else row["subject"]
        values.setdefault(row["contrast"], {}).setdefault(subject, []).append(row[value])
    return {
        contrast: {name: mean_and_sd(numbers)[0] for name, numbers in of_subjects.items()}
        for contrast, of_subjects in values.items()
    }
