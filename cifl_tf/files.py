"""Files and folders that appear whole or not at all."""

import contextlib
import re
import shutil
import uuid
from pathlib import Path

# The names that ``written_whole`` gives to what is not whole yet.
TEMPORARY = re.compile(r"\.[0-9a-f]{32}\..+")


@contextlib.contextmanager
def written_whole(path):
    """Give a temporary path to write a file or folder to; rename it to ``path`` at the end.

    The temporary name is hidden, in the same folder, and ends as ``path`` does. If the block
    raises, it is removed and ``path`` stays as it was. Missing folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{uuid.uuid4().hex}.{path.name}"
    try:
        yield temporary
        temporary.replace(path)
    finally:
        _remove(temporary)


def clear_leftovers(folder) -> None:
    """Remove what ``written_whole`` left in a folder, not below it, when its process was killed.

    To be called where no other process can be writing to the folder.
    """
    for path in Path(folder).iterdir():
        if TEMPORARY.fullmatch(path.name):
            _remove(path)


def _remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
