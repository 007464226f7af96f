import dataclasses
import os
import re
from pathlib import Path

import pytest

from cifl_tf.cli.output_folder import check_files, checked_out, image_entries
from cifl_tf.cli.run_report import DONE, FAILED, PENDING, Entry, RunReport, digest, read_runs


def test_a_folder_that_can_be_used(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert checked_out(Path("~/new")) == tmp_path / "new"
    assert checked_out(tmp_path) == tmp_path
    (tmp_path / "link").symlink_to(tmp_path)
    assert checked_out(tmp_path / "link" / "new" / "deep") == tmp_path / "link" / "new" / "deep"
    monkeypatch.chdir(tmp_path)
    assert checked_out("here") == Path("here")
    assert {path.name for path in tmp_path.iterdir()} == {"link"}


def test_folders_that_cannot_be_used_are_refused(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    for name in ("file", "file/new", "broken", "broken/new"):
        with pytest.raises(ValueError, match=rf"--out .*{name}.*; give a"):
            checked_out(tmp_path / name)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(ValueError, match="cannot be written to"):
        checked_out(tmp_path / "new")


def test_an_entry_for_every_image(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    entries = image_entries([Path("a.nii.gz"), Path("b/c.MGZ")], Path("out"), [".x.nii"], ".png")
    assert [entry.input["image"] for entry in entries] == [
        str(tmp_path / "a.nii.gz"),
        str(tmp_path / "b" / "c.MGZ"),
    ]
    assert [entry.planned for entry in entries] == [
        ["a.x.nii", "figures/a.png"],
        ["c.x.nii", "figures/c.png"],
    ]
    with pytest.raises(ValueError, match=r"a.nii.gz and b/a.nii would both become"):
        image_entries([Path("a.nii.gz"), Path("b/a.nii")], Path("out"), [".x.nii"], ".png")


def report(*entries, command="features", seconds=1.0, **options):
    return RunReport(
        command=command,
        arguments=[],
        directory="/",
        options={"model": "m", "out": "anywhere", **options},
        inputs=list(entries),
        versions={},
        device="CPU",
        started="2026-01-01T00:00:00+00:00",
        id="1",
        seconds=seconds,
    )


def entry(image="/a/T1.nii", **attributes):
    return Entry({"image": image}, ["T1.nii.gz"], **attributes)


def check(folder, mine, *runs, overwrite=False):
    check_files(folder, mine, [dataclasses.asdict(run) for run in runs], overwrite)


@pytest.fixture
def made(tmp_path):
    """A file, and the entry of the run that made it."""
    file = tmp_path / "T1.nii.gz"
    file.write_text("labels")
    return entry(outcome=DONE, files={"T1.nii.gz": digest(file)})


def test_the_same_command_may_be_repeated(tmp_path, made):
    check(tmp_path, report(entry()), report(made))
    check(tmp_path, report(entry(), out="elsewhere", newer=1), report(made, version_2=None))
    # Written by a run that was killed before it could note the digest.
    check(tmp_path, report(entry()), report(entry(outcome=PENDING), seconds=None))


def test_what_others_made_is_refused_with_the_reason(tmp_path, made):
    for mine, runs, reason in (
        (report(entry()), [], "no run of cifl in this folder wrote it"),
        (
            report(entry()),
            [report(entry(outcome=FAILED))],
            "no run of cifl in this folder wrote it",
        ),
        (report(entry("/b/T1.nii")), [report(made)], "made from /a/T1.nii"),
        (report(entry(), command="other"), [report(made)], "made by cifl features"),
        (report(entry(), model="n"), [report(made)], "made with model 'm', not 'n'"),
        (report(entry()), [report(made), report(made, model="n")], "made with model 'n', not 'm'"),
    ):
        with pytest.raises(ValueError) as found:  # noqa: PT011
            check(tmp_path, mine, *runs)
        assert str(found.value) == (
            f"{tmp_path / 'T1.nii.gz'} ({reason}) is in the way; give another folder, or "
            "--overwrite to replace it"
        )
        check(tmp_path, mine, *runs, overwrite=True)


def test_a_result_that_was_edited_is_refused(tmp_path, made):
    (tmp_path / "T1.nii.gz").write_text("labels, corrected by hand")
    with pytest.raises(ValueError, match="changed since cifl wrote it"):
        check(tmp_path, report(entry()), report(made))


def test_a_file_that_another_run_is_about_to_make_is_refused(tmp_path):
    other = entry("/b/T1.nii")
    with pytest.raises(ValueError, match=r"began at 2026-01-01.* is to make it from /b/T1.nii"):
        check(tmp_path, report(entry()), report(other, seconds=None))
    check(tmp_path, report(entry("/b/T1.nii")), report(other, seconds=None))
    check(tmp_path, report(entry()), report(other))  # it has ended, and made nothing


def test_inputs_and_folders_are_never_replaced(tmp_path):
    mine = report(entry(str(tmp_path / "T1.nii.gz")))
    with pytest.raises(ValueError, match=r"T1.nii.gz is an input of this command; give another"):
        check(tmp_path, mine, overwrite=True)
    (tmp_path / "T1.nii.gz").mkdir()
    with pytest.raises(ValueError, match="is in the way; move it"):
        check(tmp_path, report(entry()), overwrite=True)


def test_what_would_be_removed_has_to_be_of_an_earlier_run(tmp_path, made):
    mine = report(Entry({"image": "/b"}, [], removed=["T1.nii.gz"]))
    with pytest.raises(ValueError, match=r"T1.nii.gz is in the way; move it"):
        check(tmp_path, mine, overwrite=True)
    with pytest.raises(ValueError, match=r"made from /a/T1.nii.*--overwrite"):
        check(tmp_path, mine, report(made))
    check(tmp_path, mine, report(made), overwrite=True)


def test_many_files_are_counted(tmp_path):
    names = [f"{index}.nii" for index in range(5)]
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"0.nii .*2.nii .* and 2 more are in the way;.* them$"):
        check(tmp_path, report(Entry({"image": "/a"}, names)))


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"runs": [{}]}', '{"runs": [{"inputs": []}]}', '{"runs": [{"inputs": [1]}]}'],
)
def test_a_damaged_record_is_refused_by_name(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ValueError, match=r"run.json is no record of cifl's runs"):
        read_runs(tmp_path)
    (tmp_path / "run.json").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"run.json is no record of cifl's runs"):
        read_runs(tmp_path)


def test_what_differs_in_the_inputs_is_named(tmp_path):
    (tmp_path / "warped.nii.gz").write_text("image")
    pair = {"moving": "/a.nii", "fixed": "/b.nii"}
    before = Entry({**pair, "labels": "/c.nii"}, ["warped.nii.gz"], outcome=DONE)
    before.files = {"warped.nii.gz": digest(tmp_path / "warped.nii.gz")}
    for mine, reason in (
        (pair, "made from the labels /c.nii)"),
        ({**pair, "labels": "/d.nii"}, "made from the labels /c.nii)"),
        ({**pair, "labels": "/c.nii", "initial": "/m.mat"}, "made from no initial)"),
        ({"moving": "/x.nii", "fixed": "/y.nii"}, "made from /a.nii and /b.nii and /c.nii)"),
    ):
        with pytest.raises(ValueError, match=re.escape(reason)):
            check(tmp_path, report(Entry(mine, ["warped.nii.gz"])), report(before))
