"""The container of a Keras model: a zip of two JSON files and the weights in HDF5.

Zip and HDF5 can claim any size, and point to other files and to themselves. What passes here has
the sizes that it claims, and lies in the file itself. Nothing is interpreted.
"""

import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

import h5py

MIB = 1 << 20
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
MAX_BYTES = {METADATA: MIB // 16, CONFIG: 2 * MIB, WEIGHTS: 2048 * MIB}
MAX_INFLATION = 8  # of weights beyond the first MiB: numbers hardly compress
MAX_LINKS = 100_000  # to groups and datasets of the weights
CHUNK = MIB
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# The end of a zip: signature, disks and numbers of members, size and offset of the directory,
# length of a comment. Before it, for zips of more than 4 GiB, a locator of another directory.
DIRECTORY_END = struct.Struct("<4s4H2LH")
LOCATOR_SIZE = 20


def unpack(stream: BinaryIO, folder: Path) -> bytes:
    """Take a model apart.

    Args:
        stream: of the model.
        folder: gets ``metadata.json`` and ``model.weights.h5``.

    Returns:
        ``config.json``.

    Raises:
        ValueError: the model is no zip of exactly the members that Keras writes, or a member is
            damaged or too large.
    """
    _check_directory(stream)
    try:
        with zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
            _check_members(members)
            for member in members:
                with archive.open(member) as source, (folder / member.filename).open("wb") as copy:
                    _copy(source, copy, member)
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ValueError(f"the zip cannot be read: {error}") from error
    return (folder / CONFIG).read_bytes()


def pack(folder: Path, config: bytes, file: Path) -> None:
    """Put a model together again.

    Args:
        folder: of ``unpack``.
        config: ``config.json`` in place of the one that was there.
        file: to write.
    """
    with zipfile.ZipFile(file, "w") as archive:
        archive.write(folder / METADATA, METADATA)
        archive.writestr(CONFIG, config)
        archive.write(folder / WEIGHTS, WEIGHTS)


def count_weights(folder: Path) -> int:
    """Check that the weights are numbers, and that they lie in their own file.

    Args:
        folder: of ``unpack``.

    Returns:
        How many numbers there are.

    Raises:
        ValueError: the HDF5 file is damaged, has links to other places, or has datasets that are
            no numbers, lie in other files, are compressed, or are larger than the file.
    """
    file = folder / WEIGHTS
    try:
        with h5py.File(file, "r") as weights:
            return _count_numbers(weights, file.stat().st_size)
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(f"{WEIGHTS} is damaged: {error}") from error


def _check_directory(stream):
    """Refuse a zip with a large directory, of which ``zipfile`` would read all into memory."""
    length, most = stream.seek(0, os.SEEK_END), sum(MAX_BYTES.values())
    if length > most:
        raise ValueError(f"it has {length // MIB} MiB, but a model has at most {most // MIB}")
    stream.seek(0)
    if stream.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE:
        raise ValueError(
            "it is in the old HDF5 format, which can hold code; load it where you trust it, and "
            "save it with the ending .keras"
        )
    stream.seek(max(0, length - DIRECTORY_END.size - LOCATOR_SIZE))
    locator, end = (tail := stream.read())[: -DIRECTORY_END.size], tail[-DIRECTORY_END.size :]
    if not end.startswith(b"PK\5\6") or len(end) < DIRECTORY_END.size:
        raise ValueError("it is no zip, or its end is missing")
    *_, size, _, comment = DIRECTORY_END.unpack(end)
    if size > CHUNK or comment or locator.startswith(b"PK\6\7"):
        raise ValueError("it is another kind of zip than Keras writes")


def _check_members(members):
    """Refuse members that Keras does not write, and claims of too many bytes."""
    names = sorted(member.filename for member in members)
    if names != sorted(MAX_BYTES):
        shown = ", ".join(repr(name[:40]) for name in names[:5])
        raise ValueError(f"the zip holds {shown}, but a model holds {', '.join(sorted(MAX_BYTES))}")
    for member in members:
        name, size, packed = member.filename, member.file_size, member.compress_size
        if member.flag_bits & 1:
            raise ValueError(f"its {name} is encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"its {name} is compressed in another way than Keras knows")
        most = MAX_BYTES[name]
        if name == WEIGHTS:
            most = min(most, MIB + MAX_INFLATION * packed)
        if size > most:
            raise ValueError(
                f"its {name} has {size / MIB:.1f} MiB, packed into {packed / MIB:.1f} MiB; "
                f"{most / MIB:.1f} are allowed"
            )


def _copy(source, copy, member):
    """Copy a member, and refuse another size than the zip's directory claims."""
    length = 0
    while chunk := source.read(CHUNK):
        length += len(chunk)
        copy.write(chunk)
    if length != member.file_size:
        raise ValueError(
            f"its {member.filename} has {length} bytes, but claims to have {member.file_size}"
        )


def _count_numbers(weights, length):
    """Numbers of all datasets; a group that holds itself is looked at once."""
    numbers, claimed, links = 0, 0, 0
    seen, pending = set(), [weights]
    while pending:
        group = pending.pop()
        for name in group:
            links += 1
            if links > MAX_LINKS:
                raise ValueError(f"{WEIGHTS} has more than {MAX_LINKS} groups and datasets")
            # Before the object is opened, which would follow the link.
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{WEIGHTS} has a link to another place, {name[:40]!r}")
            found = group[name]
            address = h5py.h5o.get_info(found.id).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(found, h5py.Group):
                pending.append(found)
                continue
            _check_dataset(found)
            numbers += found.size
            claimed += found.nbytes
            if claimed > length:
                raise ValueError(f"{WEIGHTS} has {length} bytes, but claims to hold more")
    return numbers


def _check_dataset(found):
    """Refuse what is not a dataset of numbers that lie in the file as they are."""
    where = f"{WEIGHTS} has {found.name[-40:]!r}, which"
    if not isinstance(found, h5py.Dataset) or found.shape is None or found.dtype.kind not in "fiu":
        raise ValueError(f"{where} holds no numbers")
    created = found.id.get_create_plist()
    plain = created.get_layout() in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT)
    if not plain or created.get_external_count():
        raise ValueError(f"{where} is compressed, or lies in another file")
    if found.id.get_storage_size() != found.nbytes:
        raise ValueError(
            f"{where} claims {found.nbytes} bytes, but {found.id.get_storage_size()} are there"
        )
