"""Names of image files, and whether a file has content; nothing is opened as an image."""

from pathlib import Path

READABLE = (".nii", ".nii.gz", ".mgh", ".mgz", ".hdr", ".img")
WRITABLE = (".nii", ".nii.gz")
PAIR = {".hdr": ".img", ".img": ".hdr"}
COMPRESSED = {".nii": ".nii.gz", ".mgh": ".mgz"}
LFS = b"version https://git-lfs"
ANNEX = b"annex/objects/"  # in what stands for a file whose content git-annex has elsewhere


def suffix_of(path, accepted=READABLE) -> str | None:
    """The ending of a file name out of ``accepted``, in lower case; None if it has none of them."""
    name = Path(path).name.lower()
    return max((suffix for suffix in accepted if name.endswith(suffix)), key=len, default=None)


def stem_of(path) -> str:
    """The name of a file without the ending of an image."""
    name = Path(path).name
    return name[: len(name) - len(suffix_of(name) or "")]


def checked_suffix(path, accepted, advice="give it one of these names"):
    """Return the file type at the end of ``path``, or raise ValueError if it is not accepted."""
    suffix = suffix_of(path, accepted)
    if suffix is None:
        raise ValueError(f"{path} does not end in {' or '.join(accepted)}: {advice}")
    return suffix


def is_leftover(path) -> bool:
    """Whether a system or an editor left this file: hidden, as ._a or .DS_Store, or a~, or #a#."""
    name = Path(path).name
    return name.startswith((".", "#")) or name.endswith("~")


def missing_content(path) -> str | None:
    """Say why there is nothing to read in a file, and what to do; None if there is."""
    path = Path(path)
    if path.is_symlink() and not path.exists():
        return f"{path} is a link to a file that is not there: get it, as by `datalad get`"
    if not path.exists():
        return f"{path} does not exist"
    if path.is_file():
        if path.stat().st_size == 0:
            return f"{path} is empty"
        if beginning_of(path).startswith(LFS):
            return f"{path} is a pointer of Git LFS, without content: `git lfs pull` it"
        if ANNEX in beginning_of(path)[:256]:
            return f"{path} is a pointer of git-annex, without content: `datalad get` it"
    return None


def beginning_of(path) -> bytes:
    """The first bytes of a file."""
    with Path(path).open("rb") as stream:
        return stream.read(1024)
