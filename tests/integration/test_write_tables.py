import json

import pytest

import write_tables
from cifl_tf.evaluation.report import write_report

ROWS = [
    {"subject": name, "contrast": contrast, "dice": dice}
    for name, dice in (("a", 0.25), ("b", 0.75))
    for contrast in ("T1w", "T1w:inverted", "FLAIR")
]
ABOUT = {"task": "segmentation", "command": "cifl /home/me", "training": {"data": "/data/nichart"}}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty repository."""
    monkeypatch.setattr(write_tables, "ROOT", tmp_path)
    monkeypatch.setattr(write_tables, "RESULTS", tmp_path / "benchmarks" / "results")
    write_tables._read.cache_clear()
    yield tmp_path
    write_tables._read.cache_clear()


def test_tables_of_the_repository_are_those_of_its_results():
    write_tables.main(["--check"])
    for name in write_tables.TABLES:
        assert write_tables.table(name).count("\n") == 2 + len(write_tables.TABLES[name])


def test_scores_become_a_table_between_markers(root):
    page = root / "README.md"
    begin, end = (f"<!-- results: cards/x/segmentation {word} -->\n" for word in ("begin", "end"))
    page.write_text(f"Before.\n{begin}old\n{end}After.\n")
    write_report(root / "scores", ROWS, ABOUT)
    write_tables.main(["--add", "cards/x", "x | a, b", str(root / "scores")])
    row = "| a, b | `x` | 0.500 ± 0.354 | 0.500 ± 0.354 | 0.500 ± 0.354 |\n"
    head = "| subjects | encoder | T1w | inverted T1w | FLAIR |\n| --- | --- | --- | --- | --- |\n"
    assert page.read_text() == f"Before.\n{begin}{head}{row}{end}After.\n"
    study = json.loads((root / "benchmarks" / "results" / "cards" / "x.json").read_text())
    about = study["about"]["segmentation"]["x | a, b"]
    assert about["training"] == {"data": "nichart"}  # no path of this machine
    assert "command" not in about
    scores = study["scores"]["segmentation"]["x | a, b"]
    assert scores["data"][0] == ["a", "T1w", 0.25]

    write_tables.main(["--check"])
    page.write_text(page.read_text().replace("0.500", "0.600"))
    with pytest.raises(ValueError, match=r"differ from the results in README\.md: run python"):
        write_tables.main(["--check"])


def test_the_table_of_a_benchmark_becomes_one_of_a_page(root):
    results = root / "benchmarks" / "results"
    results.mkdir(parents=True)
    (results / "heads.json").write_text('[{"head": "a", "Dice": "0.9"}, {"head": "b", "Dice": ""}]')
    table = "| head | Dice |\n| --- | --- |\n| a | 0.9 |\n| b |  |\n"
    assert write_tables.table("heads") == table


def test_a_table_that_is_not_there_is_refused(root):
    for name in ("cards/x/segmentation", "readme/else"):
        with pytest.raises(ValueError, match=f"there is no table '{name}'; give one of readme, "):
            write_tables.table(name)
