import pytest

from cifl_tf.files import clear_leftovers, written_whole


def test_appears_at_the_end_with_its_folders(tmp_path):
    target = tmp_path / "new" / "file.txt"
    with written_whole(target) as temporary:
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
        with written_whole(target) as temporary:
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


def test_only_leftovers_of_killed_runs_are_cleared(tmp_path):
    with written_whole(tmp_path / "file.txt") as temporary:
        name = temporary.name
        temporary.write_text("whole")
    (tmp_path / name).write_text("half")
    (tmp_path / name.replace("file.txt", "folder")).mkdir()
    (tmp_path / name.replace("file.txt", "folder") / "part").write_text("half")
    kept = [".git", f"{name[1:]}", ".1234.file.txt", name[:-9], ".DS_Store", "file.txt"]
    for other in kept:
        (tmp_path / other).write_text("the user's")
    clear_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(kept)
