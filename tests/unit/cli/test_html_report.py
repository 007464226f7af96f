import base64
import dataclasses
import html
import re

import pytest

from cifl_tf.cli import html_report
from cifl_tf.cli.html_report import check_html, duration_text, number_text, write_html
from cifl_tf.cli.run_report import Entry, RunReport

PICTURES = {"figures/a b.png": b"first", "figures/c.png": b"second"}


def run_of(*entries, arguments=("segment", "apply", "a b.nii"), seconds=75.0):
    return dataclasses.asdict(
        RunReport(
            command="segment apply",
            arguments=[*arguments],
            directory="/",
            options={"window": None, "model": "/m & co"},
            inputs=[*entries],
            versions={"cifl_tf": "0.3"},
            device="CPU",
            started="2026-01-01T00:00:00+00:00",
            id="1",
            seconds=seconds,
        )
    )


def entry_of(name, outcome="done", **more):
    return Entry({"image": f"/images/{name}.nii"}, [], outcome=outcome, **more)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "figures").mkdir()
    for name, content in PICTURES.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def embedded(page):
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    return [base64.b64decode(text) for text in found]


def test_all_that_runs_made_is_in_one_page(folder):
    done = entry_of("a b", files={"figures/a b.png": "0"}, numbers={"WM (mm³)": 1234.5})
    done.notes = ["5 slices <beyond>"]
    failed = entry_of("c", "failed", error="no image")
    mended = entry_of("c", files={"figures/c.png": "0"}, table=[{"contrast": "T1w", "Dice": "0.9"}])
    write_html(folder, [run_of(done, failed), run_of(mended, seconds=None)])
    page = (folder / "report.html").read_text()
    assert embedded(page) == [*PICTURES.values()]
    text = html.unescape(re.sub(r"<[^>]+>", " ", page))
    for part in (
        "1,234 ",
        "5 slices <beyond>",
        "cifl segment apply 'a b.nii'",
        "in 1 min 15 s on CPU",
        "the run has not ended, or was killed",
        "/m & co",
        "T1w 0.9",
    ):
        assert part in re.sub(r"\s+", " ", text)
    # Mended by the second run; the first run still counts its failure.
    assert "no image" not in text
    assert page.count("1 failed") == 1
    assert 'href="figures/a%20b.png"' in page
    assert not re.search(r'(src|href)="(http|/)', page)


def test_pictures_beyond_the_most_are_links(folder, monkeypatch):
    monkeypatch.setattr(html_report, "MOST_EMBEDDED", 1)
    entries = [entry_of(name, files={name: "0"}) for name in PICTURES]
    write_html(folder, [run_of(*entries)])
    page = (folder / "report.html").read_text()
    assert embedded(page) == [PICTURES["figures/c.png"]]
    assert 'src="figures/a%20b.png"' in page


def test_records_of_before_are_shown(folder):
    run = run_of(entry_of("a"))
    for name in ("numbers", "notes", "table"):
        del run["inputs"][0][name]
    write_html(folder, [run])
    check_html(folder, overwrite=False)


def test_a_page_of_others_is_not_replaced(tmp_path):
    check_html(tmp_path, overwrite=False)
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(ValueError, match="as no run of cifl wrote it; give another folder"):
        check_html(tmp_path, overwrite=False)
    check_html(tmp_path, overwrite=True)


def test_numbers_and_durations():
    numbers = {None: "", 0: "0", 0.12345: "0.123", 12.34: "12.3", 1234.6: "1,235"}
    assert {value: number_text(value) for value in numbers} == numbers
    seconds = {None: "", 1.26: "1.3 s", 59.96: "60.0 s", 125: "2 min 5 s", 3725: "1 h 2 min"}
    assert {value: duration_text(value) for value in seconds} == seconds
