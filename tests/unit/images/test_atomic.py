import os
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from cifl_tf.images import atomic as files
from cifl_tf.images.atomic import atomic_path, clear_leftovers, locked


def test_appears_at_the_end_with_its_folders(tmp_path):
    target = tmp_path / "new" / "file.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
        assert temporary.name.endswith(".file.txt")
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("folder", [False, True])
def test_failure_leaves_what_was_there(tmp_path, folder):
    target = tmp_path / "file.txt"
    target.write_text("old")

    def fail():
        with atomic_path(target) as temporary:
            if folder:
                temporary.mkdir()
                (temporary / "part").write_text("half")
            else:
                temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with atomic_path("~/new/file.txt") as temporary:
        temporary.write_text("whole")
    assert (tmp_path / "new" / "file.txt").read_text() == "whole"


def leave(folder, name="file.nii.gz"):
    """What a kill leaves of a file, and of a folder."""
    file, tree = (folder / f".{uuid.uuid4().hex}.{name}" for _ in range(2))
    file.write_text("half")
    tree.mkdir()
    (tree / "part").write_text("half")
    return file, tree


def test_what_a_kill_left_is_cleared_and_nothing_else(tmp_path):
    leave(tmp_path)
    kept = {".hidden", ".0123.file.txt", f"{uuid.uuid4().hex}.txt", f".{uuid.uuid4().hex}"}
    for name in kept:
        (tmp_path / name).write_text("of the user")
    clear_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept
    clear_leftovers(tmp_path / "missing")
    assert not (tmp_path / "missing").exists()


def test_what_a_live_run_writes_is_not_cleared(tmp_path):
    old, _ = leave(tmp_path)
    os.utime(old, (time.time() - 2 * files.LONG_AGO,) * 2)
    with atomic_path(tmp_path / "file.txt") as temporary:
        temporary.write_text("whole")
        clear_leftovers(tmp_path)
        assert temporary.exists()
        assert not old.exists()
    assert (tmp_path / "file.txt").read_text() == "whole"


def test_without_locks_only_what_is_old_is_cleared(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)
    young, old = leave(tmp_path)
    os.utime(old, (time.time() - 2 * files.LONG_AGO,) * 2)
    clear_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [young]


def _count_up(folder, times):
    for _ in range(times):
        with locked(folder):
            number = int((folder / "number").read_text())
            time.sleep(0.001)
            (folder / "number").write_text(str(number + 1))


def test_one_at_a_time_in_a_locked_folder(tmp_path):
    (tmp_path / "number").write_text("0")
    with ThreadPoolExecutor(3) as runs:
        list(runs.map(_count_up, [tmp_path] * 3, [25] * 3))
    assert (tmp_path / "number").read_text() == "75"
    assert [path.name for path in tmp_path.iterdir()] == ["number"]
