import csv
import json
import math

import numpy as np
import pandas as pd
import pytest

from cifl_tf.evaluation.report import read_report, subject_scores, write_report
from cifl_tf.evaluation.summary import summary
from cifl_tf.metrics import Comparison, compare_runs


def test_report_comes_back(tmp_path):
    columns = ("subject", "contrast", "dice", "dice box", "hd95", "folded")
    values = [
        ("a", "T1w", 0.5, 0.1, math.inf, 0.25),
        ("b", "T1w", 1 / 3, math.nan, 1.25, 0.0),
        ("a", "FLAIR", 0.75, 0.75, 2.0, 0.0),
        ("b", "FLAIR", 0.5, 0.5, 2.0, 0.0),
    ]
    rows = [dict(zip(columns, row, strict=True)) for row in values]
    about = {"command": "cifl evaluate", "seed": None, "model": "m"}
    first = write_report(tmp_path / "first", rows, about)
    assert first == (tmp_path / "first" / "scores.md").read_text()
    assert "p" not in first.splitlines()[2].split(" | ")
    report = read_report(tmp_path / "first")
    assert {name: report["about"][name] for name in about} == about
    assert set(report["about"]["versions"]) == {"cifl_tf", "tensorflow", "numpy", "python"}
    assert report["comparison"] == {}
    pd.testing.assert_frame_equal(report["rows"], pd.DataFrame(rows), check_exact=True)
    np.testing.assert_equal(report["summary"], summary(rows))

    def no_constant(name):
        raise AssertionError(f"{name} is not JSON")

    json.loads((tmp_path / "first" / "scores.json").read_text(), parse_constant=no_constant)
    with (tmp_path / "first" / "scores.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(line["dice"]) for line in table] == [row["dice"] for row in rows]
    assert [float(line["hd95"]) for line in table] == [math.inf, 1.25, 2, 2]

    better = [{**row, "dice": row["dice"] + 0.125} for row in rows]
    text = write_report(tmp_path / "second", better, about, report)
    compared = "+0.125 | 0.5 (n too small for p < 0.05) |"
    assert text.splitlines()[-4:] == [
        "| contrast | Dice | Dice box | HD95 (mm) | folded (%) | Δ Dice | p |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| T1w | 0.542 ± 0.118 | 0.100 | 1.25 (1 of 2 infinite) | 12.50 ± 17.68 | " + compared,
        "| FLAIR | 0.750 ± 0.177 | 0.625 ± 0.177 | 2.00 ± 0.00 | 0.00 ± 0.00 | " + compared,
    ]
    comparison = Comparison(**read_report(tmp_path / "second")["comparison"]["FLAIR"])
    assert comparison == compare_runs([0.875, 0.625], [0.75, 0.5])


def test_p_below_a_twentieth_is_out_of_reach_of_five_subjects(tmp_path):
    for count, expected in ((5, "| +0.125 | 0.062 (n too small for p < 0.05) |"), (6, "| 0.031 |")):
        rows = [
            {"subject": str(number), "contrast": "T1w", "dice": 0.5 + number / 64}
            for number in range(count)
        ]
        better = [{**row, "dice": row["dice"] + 0.125} for row in rows]
        text = write_report(tmp_path, better, {}, {"rows": rows})
        assert text.rstrip().endswith(expected)


def test_report_that_cannot_be_read(tmp_path):
    with pytest.raises(
        ValueError, match=r"holds no scores\.json; give a folder of `cifl evaluate`"
    ):
        read_report(tmp_path)
    for text in ("{", "{}", "[]"):
        (tmp_path / "scores.json").write_text(text)
        with pytest.raises(ValueError, match="is no report of `cifl evaluate`"):
            read_report(tmp_path)


def test_report_of_before_is_read_in_names_of_today(tmp_path):
    about = {"around": "THA", "optimise": True, "ndim": 2}
    report = {"about": about, "rows": [], "summary": {}, "comparison": {}}
    (tmp_path / "scores.json").write_text(json.dumps(report))
    expected = {"center_label": "THA", "optimize": True, "ndim": 2}
    assert read_report(tmp_path)["about"] == expected


def test_scores_by_subject_are_finite_means():
    rows = [
        {"moving": "b", "fixed": "a", "contrast": "T1w to T1w", "dice": 0.25},
        {"moving": "c", "fixed": "a", "contrast": "T1w to T1w", "dice": 0.75},
        {"moving": "a", "fixed": "b", "contrast": "T1w to T1w", "dice": math.nan},
    ]
    assert subject_scores(rows) == {"a": {"Dice, T1w to T1w": 0.5}, "b": {}}
