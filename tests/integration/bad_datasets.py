"""Ways to damage a BIDS dataset, after which no command may take it."""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np


def _path(folder: Path, ending: str, number: int = 1) -> Path:
    return folder / f"sub-{number}" / "anat" / f"sub-{number}_{ending}.nii.gz"


def _rewrite(path: Path, change: Callable, affine=None) -> None:
    """Change the voxels of an image, or its affine."""
    image = nibabel.load(path)
    data = change(np.asarray(image.dataobj))
    nibabel.save(nibabel.Nifti1Image(data, image.affine if affine is None else affine), path)


def _everywhere(ending: str, change: Callable) -> Callable[[Path], None]:
    """The same change to an image of every subject."""
    return lambda folder: [
        _rewrite(_path(folder, ending, number), change) for number in range(1, 5)
    ]


def _labels(change: Callable, affine=None) -> Callable[[Path], None]:
    return lambda folder: _rewrite(_path(folder, "desc-tissue_dseg"), change, affine)


def _image(change: Callable, affine=None) -> Callable[[Path], None]:
    return lambda folder: _rewrite(_path(folder, "T1w"), change, affine)


def _table(content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / "desc-tissue_dseg.tsv").write_bytes(content)


def _remove(ending: str) -> Callable[[Path], None]:
    return lambda folder: _path(folder, ending).unlink()


def _same(data):
    return data


# What is wrong: what does it, and a part of the message.
DATASETS: dict[str, tuple[Callable[[Path], object], str]] = {
    "labels moved by 50 mm": (_labels(_same, np.diag([6.0, 6, 6, 1]) + 50 * np.eye(4)[3]), ""),
    "labels of another shape": (_labels(lambda data: data[:-2]), ""),
    "labels of an unknown value": (_labels(lambda data: data + 77), ""),
    "labels that are probabilities": (_labels(lambda data: data / 7.0), "whole numbers"),
    "empty label maps": (_everywhere("desc-tissue_dseg", lambda data: data * 0), ""),
    "no label map": (_remove("desc-tissue_dseg"), "sub-1"),
    "no image": (_remove("T1w"), "sub-1"),
    "image of another shape": (_image(lambda data: data[:-2]), ""),
    "image of another voxel size": (_image(_same, np.diag([3.0, 3, 3, 1])), ""),
    "image with NaN": (_image(lambda data: np.where(data > 0, np.nan, data)), "NaN"),
    "constant image": (_image(lambda data: data * 0), "constant"),
    "image cut": (
        lambda folder: _path(folder, "T1w").write_bytes(_path(folder, "T1w").read_bytes()[:500]),
        "damaged",
    ),
    "empty table": (_table(b""), "dseg.tsv"),
    "table of a huge field": (_table(b"index\tname\n1\t" + b"x" * 200_000), "dseg.tsv"),
    "table not in UTF-8": (_table("index\tname\n1\tgraue Füße".encode("latin-1")), "dseg.tsv"),
    "table of one name twice": (
        _table(b"index\tname\n1\tWM\n2\tWM\n3\tGM\n4\tCSF\n"),
        "same name for two",
    ),
    "table of one value twice": (_table(b"index\tname\n1\tWM\n1\tGM\n"), "1"),
    "table without names": (_table(b"index\tcolor\n1\tred\n"), "dseg.tsv"),
    "table of words": (_table(b"index\tname\none\tWM\n"), "one"),
    "bytes for a table": (_table(bytes(range(256))), "dseg.tsv"),
}
