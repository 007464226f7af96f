"""Files and folders that appear whole or not at all, in folders where several runs may meet."""

import contextlib
import os
import re
import shutil
import time
import uuid
from pathlib import Path

from filelock import FileLock

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = ".cifl.lock"
LEFTOVER = re.compile(r"\.[0-9a-f]{32}\..+")  # the names of ``temporary_path``
LONG_AGO = 24 * 60 * 60  # seconds: nobody writes one file for so long


def expanded(path) -> Path:
    """The path, with the home folder in place of a ``~`` at its start."""
    return Path(os.path.expanduser(path))


def absolute_path(path) -> str:
    """The path from the root, as text, with the home folder for ``~`` and without links."""
    return str(expanded(path).resolve())


def file_state(path) -> tuple[str, int, int]:
    """What tells whether a file is still the same: where it is, when it changed, and its size."""
    state = expanded(path).stat()
    return absolute_path(path), state.st_mtime_ns, state.st_size


@contextlib.contextmanager
def temporary_path(path):
    """Give a path that belongs to ``path``; what is there at the end is removed.

    The name is hidden, in the same folder, and ends as ``path`` does. Missing folders are made.
    What a kill leaves behind, ``clear_leftovers`` removes.
    """
    path = expanded(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{uuid.uuid4().hex}.{path.name}"
    with _folder_lock(path.parent):
        try:
            yield temporary
        finally:
            _remove(temporary)


@contextlib.contextmanager
def atomic_path(path):
    """Give a temporary path to write a file or folder to; rename it to ``path`` at the end.

    If the block raises, it is removed and ``path`` stays as it was. See ``temporary_path``.
    """
    path = expanded(path)
    with temporary_path(path) as temporary:
        yield temporary
        temporary.replace(path)


def clear_leftovers(folder) -> None:
    """Remove the files of ``temporary_path`` that killed runs left in a folder.

    Those of runs that still write stay. Where that cannot be known, because the file system has no
    locks or another run writes to the folder at this moment, those of the last day stay.
    """
    folder = expanded(folder)
    leftovers = _leftovers(folder)
    if leftovers:
        with _folder_lock(folder, exclusive=True) as nobody_writes:
            for path in leftovers:
                with contextlib.suppress(OSError):
                    if nobody_writes or time.time() - path.lstat().st_mtime > LONG_AGO:
                        _remove(path)


@contextlib.contextmanager
def locked(folder, wait: bool = True):
    """Let one run at a time do something in a folder. The folder is made, and goes if left empty.

    Args:
        folder: in which the lock is a hidden file.
        wait: for another run to end.

    Raises:
        TimeoutError: another run has the lock, and ``wait`` is false.
        OSError: the folder cannot be written to.
    """
    folder = expanded(folder)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / LOCK_FILE
    with FileLock(file, timeout=-1 if wait else 0):
        try:
            yield
        finally:
            # Whoever waits for the removed file sees that it is gone, and makes another.
            with contextlib.suppress(OSError):
                file.unlink()
                for path in made:
                    path.rmdir()


def _leftovers(folder):
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if LEFTOVER.fullmatch(path.name)]


@contextlib.contextmanager
def _folder_lock(folder, exclusive=False):
    """Share the lock of a folder itself, which ends with the process; gives whether it was had.

    An exclusive one is had at once or not at all.
    """
    if fcntl is None:
        yield False
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB if exclusive else fcntl.LOCK_SH)
            had = True
        except OSError:
            had = False
        yield had
    finally:
        os.close(descriptor)


def _remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
