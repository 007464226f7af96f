"""What the header of an image file claims, beside what the file holds and the memory there is."""

import gzip
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from cifl_tf.images.memory import available_memory, size_text

CHUNK = 1 << 20
LARGEST_RATIO = 1032  # of deflate: no compressed file expands to more
SPARE = 1 << 24  # bytes that may follow the voxels
COPIES = 12  # bytes per voxel of the copies on the way: float64 where scaled, then float32


@dataclass(frozen=True)
class Claim:
    """What a header says of its voxels.

    Attributes:
        file: where the voxels are.
        shape: of all frames.
        dtype: of the voxels in the file.
        offset: bytes before the first voxel.
        voxel_size: where nothing else in the header says how large voxels are; else empty.
    """

    file: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    voxel_size: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """Bytes that the file holds uncompressed, if the claim is true."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        kind, size = self.dtype.name, size_text(self.size)
        return f"its header claims {kind} voxels of shape {self.shape}, {size}"


def read_claim(path) -> Claim | None:
    """Read the claim of an image file, and nothing else; None if nibabel knows no such image."""
    sniff = None
    kinds: list[Any] = nibabel.imageclasses.all_image_classes
    for kind in kinds:
        known, sniff = kind.path_maybe_image(path, sniff)
        if known:
            break
    else:
        return None
    # Not by the reader of the class, which also reads extensions and seeks behind the voxels.
    files = kind.filespec_to_file_map(path)
    template = getattr(kind.header_class, "template_dtype", None)
    if template is None:  # as CIFTI, which is no volume
        return None
    length = template.itemsize
    with nibabel.openers.ImageOpener(files.get("header", files["image"]).filename) as stream:
        header = kind.header_class(stream.read(length).ljust(length, b"\0"), check=False)
    file = Path(files["image"].filename)
    shape = tuple(int(size) for size in header.get_data_shape())
    offset = int(header.get_data_offset())
    single = getattr(header, "is_single", False)
    if single and offset < header.single_vox_offset:
        raise ValueError(
            f"its header says that the voxels begin at byte {offset}, which is within the header"
        )
    return Claim(file, shape, header.get_data_dtype(), offset, _voxel_size(header))


def _voxel_size(header):
    if not isinstance(header, nibabel.AnalyzeHeader) or header.get("sform_code", 0) > 0:
        return ()
    return tuple(header["pixdim"][1:4].tolist()[: int(header["dim"][0])])


def check_voxel_size(claim: Claim) -> None:
    """Refuse a voxel size of 0, which nibabel takes for 1 mm.

    Raises:
        ValueError: says the voxel size.
    """
    if 0 in claim.voxel_size:
        raise ValueError(
            f"the voxel size of {claim.file} is {claim.voxel_size} mm in its header, and no sform "
            "says another: correct its pixdim, or convert it again"
        )


def check_file_size(claim: Claim, held: int | None = None) -> None:
    """Compare a claim with the size of its file, before a byte of the voxels is read.

    Args:
        claim: of ``read_claim``.
        held: bytes in a compressed file, of ``compressed_size``; None to look at the file's size.

    Raises:
        ValueError: the file holds less; says both numbers.
    """
    size = most = claim.file.stat().st_size
    if is_compressed(claim.file):
        most = size * LARGEST_RATIO if held is None else held
        size = size if held is None else held
    if claim.size > most:
        raise ValueError(
            f"{claim.file} is truncated or damaged: {claim}, but the file holds {size_text(size)}; "
            "copy or convert it again"
        )


def check_memory(shape, itemsize: int, name, offset: int = 0) -> None:
    """Raise ValueError if one frame and its copies do not fit into memory; says both numbers.

    Args:
        shape: of the image, frames included.
        itemsize: bytes per voxel as stored.
        name: of the image, for the error.
        offset: bytes before the voxels, which are read with them.
    """
    needed = offset + math.prod(shape[:3]) * (itemsize + COPIES)
    available = available_memory()
    if available is not None and needed > available:
        raise ValueError(
            f"{name} of shape {tuple(shape)} needs {size_text(needed)} of memory, but "
            f"{size_text(available)} are available: crop it, resample it to larger voxels, or use "
            "a machine with more"
        )


def is_compressed(path) -> bool:
    """Whether a file is compressed by its name."""
    return str(path).lower().endswith("gz")


def compressed_size(claim: Claim) -> int:
    """Read a compressed file through, so that its checksum is compared, and keep nothing.

    nibabel stops at the last voxel, before the checksum that tells damaged files.

    Returns:
        Bytes in the file uncompressed. Reading stops when they are ``SPARE`` more than claimed.

    Raises:
        OSError, EOFError: the compressed data are damaged or end too early.
    """
    held = 0
    with gzip.open(claim.file) as stream:
        try:
            while held <= claim.size + SPARE and (chunk := stream.read1(CHUNK)):
                held += len(chunk)
        except gzip.BadGzipFile as error:
            # Bytes that follow the compressed data do no harm, and nibabel does not read them.
            if held < claim.size or not str(error).startswith("Not a gzipped file"):
                raise
    return held
