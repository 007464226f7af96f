"""Image files that no command may accept, each with what is wrong and how its name ends."""

import bz2
import gzip
import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np

SHAPE = (14, 16, 12)
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
NAN, INF = np.nan, np.inf
HEADER = nibabel.Nifti1Header.template_dtype
ANNEX = b"../../.git/annex/objects/X1/y2/MD5E-s9--0f.nii.gz/MD5E-s9--0f.nii.gz\n"


def brain() -> np.ndarray:
    """Intensities that every command accepts."""
    grid = np.moveaxis(np.indices(SHAPE), 0, -1) / SHAPE - 0.5
    inside = np.linalg.norm(grid, axis=-1) < 0.4
    noise = np.random.default_rng(0).random(SHAPE)
    return (inside * (1 + noise)).astype(np.float32)


def nifti(data=None, affine=AFFINE, **fields) -> bytes:
    """A NIfTI file, with any fields of its header changed afterwards."""
    content = nibabel.Nifti1Image(brain() if data is None else data, affine).to_bytes()
    header = np.frombuffer(content, HEADER, 1).copy()
    for name, value in fields.items():
        header[name] = value
    return header.tobytes() + content[HEADER.itemsize :]


def mgh(data=None, size=0, dims=()) -> bytes:
    """An MGH file, cut to a size, or with other sizes of its axes in the header."""
    image = nibabel.MGHImage(brain() if data is None else data, AFFINE)
    content = image.to_bytes()
    if dims:
        content = content[:4] + struct.pack(f">{len(dims)}i", *dims) + content[4 + 4 * len(dims) :]
    return content[: size or None]


def packed(content: bytes) -> bytes:
    """A file of gzip."""
    return gzip.compress(content, 1)


def changed(position, value, data=None) -> np.ndarray:
    """The brain with another value in one voxel."""
    data = brain() if data is None else data
    data[position] = value
    return data


def without_sform(**fields) -> bytes:
    """A NIfTI file whose voxel sizes come from ``pixdim``."""
    return nifti(sform_code=0, qform_code=0, **fields)


def with_qform(**fields) -> bytes:
    """A NIfTI file whose affine comes from a quaternion."""
    return nifti(sform_code=0, qform_code=1, **fields)


def colors() -> np.ndarray:
    """An image of red, green and blue."""
    kind = np.dtype([(name, np.uint8) for name in "RGB"])
    return np.zeros(SHAPE, kind)


def zipped() -> bytes:
    """A zip file that holds an image."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("image.nii", nifti())
    return stream.getvalue()


def saved_array() -> bytes:
    """What ``numpy.save`` writes."""
    stream = io.BytesIO()
    np.save(stream, brain())
    return stream.getvalue()


def dims(*sizes) -> np.ndarray:
    """The field ``dim`` of a header; sizes that are not given are 1."""
    return np.array([*sizes, *[1] * (8 - len(sizes))])


def rows(first) -> dict:
    """The rows of an sform, with another first one."""
    return {"srow_x": first, "srow_y": [0, 2, 0, 0], "srow_z": [0, 0, 2, 0]}


def random_bytes(size=3000) -> bytes:
    """Bytes of no meaning."""
    return np.random.default_rng(1).bytes(size)


NII, PACKED = ".nii", ".nii.gz"
# What is wrong: the ending of the file's name, its content, and a part of the message.
CONTENTS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "empty": (NII, lambda: b"", "is empty"),
    "empty packed": (PACKED, lambda: b"", "is empty"),
    "empty MGH": (".mgz", lambda: b"", "is empty"),
    "text": (NII, lambda: b"This is no image. " * 50, "no NIfTI or MGH image"),
    "text packed": (PACKED, lambda: packed(b"This is no image. " * 50), "no NIfTI or MGH"),
    "text under a packed name": (PACKED, lambda: b"This is no image. " * 50, "no NIfTI or MGH"),
    "random": (NII, random_bytes, "no NIfTI or MGH"),
    "random packed": (PACKED, lambda: packed(random_bytes()), "no NIfTI or MGH"),
    "random under a packed name": (PACKED, random_bytes, "no NIfTI or MGH"),
    "cut in the header": (NII, lambda: nifti()[:200], "damaged"),
    "header only": (NII, lambda: nifti()[:348], "but the file holds"),
    "cut after the first voxel": (NII, lambda: nifti()[:356], "but the file holds"),
    "cut in the middle": (NII, lambda: nifti()[:5000], "but the file holds"),
    "without the last byte": (NII, lambda: nifti()[:-1], "but the file holds"),
    "packed, cut in its header": (PACKED, lambda: packed(nifti())[:5], "damaged"),
    "packed, cut in the middle": (PACKED, lambda: packed(nifti())[:1500], "damaged"),
    "packed, without the last byte": (PACKED, lambda: packed(nifti())[:-1], "damaged"),
    "packed, header only": (PACKED, lambda: packed(nifti()[:352]), "but the file holds"),
    "packed, one byte flipped": (
        PACKED,
        lambda: (lambda c: c[:900] + bytes([c[900] ^ 255]) + c[901:])(packed(nifti())),
        "damaged",
    ),
    "packed, wrong checksum": (PACKED, lambda: packed(nifti())[:-8] + b"12345678", "damaged"),
    "gzip of nothing": (PACKED, lambda: packed(b""), "damaged"),
    "gzip twice": (PACKED, lambda: packed(packed(nifti())), "no NIfTI or MGH"),
    "bz2 under a packed name": (PACKED, lambda: bz2.compress(nifti()), "no NIfTI or MGH"),
    "gzip bomb": (PACKED, lambda: packed(nifti() + bytes(1 << 25)), "holds more than"),
    "packed under a plain name": (NII, lambda: packed(nifti()), "is compressed, in spite"),
    "plain under a packed name": (PACKED, nifti, "is not compressed, in spite"),
    "pointer of git-annex": (PACKED, lambda: ANNEX, "pointer of git-annex"),
    "wrong magic": (NII, lambda: nifti(magic=b"xxx"), "damaged"),
    "unknown datatype": (NII, lambda: nifti(datatype=77), "damaged"),
    "datatype of bits": (NII, lambda: nifti(datatype=1, bitpix=1), "damaged"),
    "no datatype": (NII, lambda: nifti(datatype=0), "damaged"),
    "complex": (NII, lambda: nifti(brain().astype(np.complex64)), "one real number"),
    "colors": (NII, lambda: nifti(colors()), "colors (RGB)"),
    "no axis": (NII, lambda: nifti(dim=dims(0, 14, 16, 12)), "has 1 axes"),
    "voxels within the header": (NII, lambda: nifti(vox_offset=0), "begin at byte 0"),
    "pointer of Git LFS": (NII, lambda: b"version https://git-lfs.github.com/spec/v1\n", "git lfs"),
    "one axis": (NII, lambda: nifti(dim=dims(1, 14)), "axes"),
    "nine axes": (NII, lambda: nifti(dim=dims(9, 14, 16, 12)), "damaged"),
    "negative number of axes": (NII, lambda: nifti(dim=dims(-3, 14, 16, 12)), "damaged"),
    "axis of 0": (NII, lambda: nifti(dim=dims(3, 14, 0, 12)), "is empty"),
    "negative axis": (NII, lambda: nifti(dim=dims(3, 14, -16, 12)), "damaged"),
    "two negative axes": (NII, lambda: nifti(dim=dims(3, 14, -16, -12)), "damaged"),
    "claim of 1000 cubed": (NII, lambda: nifti(dim=dims(3, 1000, 1000, 1000)), "claims"),
    "packed claim of 1000 cubed": (
        PACKED,
        lambda: packed(nifti(dim=dims(3, 1000, 1000, 1000))),
        "claims",
    ),
    "claim of 2 to the 62": (NII, lambda: nifti(dim=dims(4, *[32767] * 4)), "claims"),
    "packed claim of 2 to the 105": (
        PACKED,
        lambda: packed(nifti(dim=dims(7, *[32767] * 7))),
        "claims",
    ),
    "offset beyond the file": (NII, lambda: nifti(vox_offset=1e6), "but the file holds"),
    "negative offset": (NII, lambda: nifti(vox_offset=-100), "damaged"),
    "offset inside the header": (NII, lambda: nifti(vox_offset=16), "damaged"),
    "offset NaN": (NII, lambda: nifti(vox_offset=NAN), "damaged"),
    "offset infinite": (NII, lambda: nifti(vox_offset=INF), "damaged"),
    "slope 1e38": (NII, lambda: nifti(scl_slope=1e38, scl_inter=3e38), "infinite"),
    "intercept NaN": (NII, lambda: nifti(scl_slope=1, scl_inter=NAN), "damaged"),
    "intercept infinite": (NII, lambda: nifti(scl_slope=1, scl_inter=INF), "damaged"),
    "sform of zeros": (NII, lambda: nifti(**rows([0, 0, 0, 0])), "affine"),
    "sform of two equal rows": (NII, lambda: nifti(**rows([0, 2, 0, 0])), "affine"),
    "sform NaN": (NII, lambda: nifti(**rows([NAN, 0, 0, 0])), "affine"),
    "sform infinite": (NII, lambda: nifti(**rows([INF, 0, 0, 0])), "affine"),
    "origin NaN": (NII, lambda: nifti(**rows([2, 0, 0, NAN])), "affine"),
    "voxel size 0": (NII, lambda: without_sform(pixdim=[1, 0, 2, 2, 1, 1, 1, 1]), "voxel size"),
    "voxel size NaN": (NII, lambda: without_sform(pixdim=[1, NAN, 2, 2, 1, 1, 1, 1]), "affine"),
    "voxel size infinite": (
        NII,
        lambda: without_sform(pixdim=[1, 2, INF, 2, 1, 1, 1, 1]),
        "affine",
    ),
    "voxel size 1e30": (NII, lambda: without_sform(pixdim=[1, 1e30, 2, 2, 1, 1, 1, 1]), "affine"),
    "quaternion NaN": (NII, lambda: with_qform(quatern_b=NAN), "affine"),
    "quaternion too long": (NII, lambda: with_qform(quatern_b=3, quatern_c=4), "damaged"),
    "qform without voxel size": (
        NII,
        lambda: with_qform(pixdim=[1, 0, 0, 0, 1, 1, 1, 1]),
        "voxel size",
    ),
    "one voxel NaN": (PACKED, lambda: packed(nifti(changed((3, 3, 3), NAN))), "1 NaN"),
    "one voxel infinite": (PACKED, lambda: packed(nifti(changed((3, 3, 3), INF))), "1 infinite"),
    "all NaN": (NII, lambda: nifti(np.full(SHAPE, NAN, np.float32)), "NaN"),
    "beyond float32": (
        NII,
        lambda: nifti(changed((3, 3, 3), 1e300, brain().astype(np.float64))),
        "1 infinite voxels (in float32)",
    ),
    "all 0": (NII, lambda: nifti(np.zeros(SHAPE, np.float32)), "is constant"),
    "all 7": (PACKED, lambda: packed(nifti(np.full(SHAPE, 7, np.int16))), "is constant"),
    "one voxel": (NII, lambda: nifti(np.ones((1, 1, 1), np.float32)), "is constant"),
    "frames": (NII, lambda: nifti(np.stack([brain()] * 3, -1)), "has 3 frames"),
    "five axes": (NII, lambda: nifti(np.ones((5, 6, 7, 2, 2), np.float32)), "5 axes"),
    "vectors": (
        NII,
        lambda: nifti(np.ones((5, 6, 7, 1, 3), np.float32), intent_code=1007),
        "5 axes",
    ),
    "MGH, cut in the header": (".mgh", lambda: mgh(size=100), "damaged"),
    "MGH, cut in the middle": (".mgh", lambda: mgh(size=3000), "but the file holds"),
    "packed MGH, cut in the middle": (".mgz", lambda: packed(mgh(size=3000)), "but the file"),
    "MGH with a negative axis": (".mgh", lambda: mgh(dims=(-14, 16, 12)), "damaged"),
    "MGH with a claim of 2 to the 93": (
        ".mgz",
        lambda: packed(mgh(dims=[2**31 - 1] * 3)),
        "but the file holds",
    ),
    "MGH of zeros": (".mgz", lambda: packed(bytes(500)), "damaged"),
    "NIfTI under the name of MGH": (".mgz", lambda: packed(nifti()), "damaged"),
    "MGH under the name of NIfTI": (PACKED, lambda: packed(mgh()), "damaged"),
    "NRRD": (".nrrd", lambda: b"NRRD0004\ntype: float\n", "SimpleITK"),
    "DICOM": (".dcm", lambda: bytes(128) + b"DICM", "dcm2niix"),
    "DICOM without an ending": ("", lambda: bytes(128) + b"DICM", "dcm2niix"),
    "MINC": (".mnc", lambda: b"CDF\x01", "by nibabel.load"),
    "picture": (".png", lambda: b"\x89PNG\r\n\x1a\n", "a picture has no voxel size"),
    "array": (".npy", saved_array, "nibabel.Nifti1Image"),
    "MATLAB": (".mat", lambda: b"MATLAB 5.0 MAT-file", "nibabel.Nifti1Image"),
    "zip": (".zip", zipped, "unpack it"),
    "zip under the name of NIfTI": (NII, zipped, "no NIfTI or MGH"),
    "bz2": (".nii.bz2", lambda: bz2.compress(nifti()), "unpack it"),
    "header without voxels": (".hdr", lambda: nifti()[:348], "half of a pair"),
    "voxels without a header": (".img", lambda: nifti()[352:], "half of a pair"),
    "with spaces": (" of a friend.nii", lambda: b"no image", "of a friend.nii"),
    "with a line break": ("\nbreak.nii", lambda: b"no image", "damaged"),
    "with letters of others": ("_Füße_脳.nii", lambda: b"no image", "Füße_脳.nii"),
    "with a quote and a brace": ("'\"{}%s.nii", lambda: b"no image", "'\"{}%s.nii"),
}


def _folder(path: Path) -> None:
    path.mkdir()


def _broken_link(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere.nii.gz")


def _link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def _nothing(_: Path) -> None:
    pass


def _cut_pair(path: Path) -> None:
    nibabel.Nifti1Pair(brain(), AFFINE).to_filename(path)
    voxels = path.with_suffix(".img")
    voxels.write_bytes(voxels.read_bytes()[:999])


def _without_permission(path: Path) -> None:
    path.write_bytes(nifti())
    path.chmod(0)


# What is wrong: the ending of the file's name, what makes it, and a part of the message.
OTHERS: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "folder": (NII, _folder, "is a folder"),
    "broken link": (PACKED, _broken_link, "is a link to a file that is not there"),
    "link to itself": (PACKED, _link_to_itself, "is a link to a file that is not there"),
    "missing": (PACKED, _nothing, "does not exist"),
    "pair, cut in the voxels": (".hdr", _cut_pair, "but the file holds"),
}
if os.geteuid() != 0:  # root may read anything
    OTHERS["without permission"] = (NII, _without_permission, "Permission denied")
IMAGES = (*CONTENTS, *OTHERS)

# Label maps, by what is wrong: the voxels, and a part of the message.
LABELS: dict[str, tuple[Callable[[], np.ndarray], str]] = {
    "noise": (lambda: (brain() > 0) + np.float32(0.1), "are not whole numbers"),
    "probabilities": (lambda: brain() / 3, "are not whole numbers"),
    "one probability": (lambda: changed((3, 3, 3), 0.5, np.ones(SHAPE)), "1 of 2688 voxels are"),
    "NaN": (lambda: changed((3, 3, 3), NAN), "NaN, infinite or not below"),
    "infinite": (lambda: changed((3, 3, 3), -INF), "NaN, infinite or not below"),
    "too large": (lambda: np.full(SHAPE, 2.0**40), "NaN, infinite or not below"),
    "frames": (lambda: np.zeros((*SHAPE, 3), np.uint8), "has 3 frames"),
    "complex": (lambda: np.zeros(SHAPE, np.complex64), "one real number"),
    "colors": (colors, "colors (RGB)"),
}


def write_image(name: str, folder: Path) -> tuple[Path, str]:
    """Write the image of ``IMAGES``; gives its path, and a part of the message."""
    number = IMAGES.index(name)
    if name in CONTENTS:
        ending, content, message = CONTENTS[name]
        path = folder / f"bad{number}{ending}"
        path.write_bytes(content())
    else:
        ending, write, message = OTHERS[name]
        path = folder / f"bad{number}{ending}"
        write(path)
    return path, message


def write_labels(name: str, folder: Path) -> tuple[Path, str]:
    """Write the label map of ``LABELS``; gives its path, and a part of the message."""
    voxels, message = LABELS[name]
    path = folder / f"labels{list(LABELS).index(name)}.nii.gz"
    path.write_bytes(packed(nifti(voxels())))
    return path, message
