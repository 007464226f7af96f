"""Files and folders that appear whole or not at all."""

import contextlib
import shutil
import uuid
from pathlib import Path


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
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
