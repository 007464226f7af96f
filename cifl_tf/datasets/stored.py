"""Images of cohorts on disk, for trainings on more than fits into memory."""

import json
import math
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from cifl_tf._notes import note
from cifl_tf._version import __version__
from cifl_tf.datasets.cohorts import Cohort
from cifl_tf.datasets.subjects import forget_images
from cifl_tf.datasets.views import View
from cifl_tf.images.atomic import atomic_path, clear_leftovers, file_state
from cifl_tf.images.memory import MOST_OF_MEMORY, available_memory, size_text

ABOUT_FILE = "about.json"
COPIES = 3  # of each image that lie in memory: one by one, stacked, and as TensorFlow's constant


@dataclass(frozen=True)
class StoredRows:
    """An array in a file, of which ``read`` gives some rows.

    Attributes:
        path: holds the numbers alone, row by row.
        shape: of the array, (n, ...).
        dtype: its name.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: str

    def __len__(self):
        return self.shape[0]

    def read(self, indices) -> np.ndarray:
        """Rows of these numbers, (len(indices), ...)."""
        rows = np.empty((len(indices), *self.shape[1:]), self.dtype)
        with self.path.open("rb") as file:
            for row, index in zip(rows, indices, strict=True):
                file.seek(int(index) * row.nbytes)
                file.readinto(row.data.cast("B"))
        return rows


Rows = np.ndarray | StoredRows


def training_arrays(
    view: View, cohort: Cohort, contrast: str, folder: Path
) -> tuple[Rows, Rows, np.ndarray]:
    """Images, labels and names as ``View.stack``, on disk where they would fill the memory.

    Args:
        view, cohort, contrast: see ``View.stack``.
        folder: for the files; those that an earlier call left for the same images are taken.

    Raises:
        ValueError: as ``View.stack``.
    """
    if len(cohort):
        image, labels, _ = next(view.parts(cohort, contrast))
        needed = COPIES * len(cohort) * (image.nbytes + labels.nbytes)
        if _fills_memory(f"{len(cohort)} subjects", needed, folder):
            return store(view, cohort, contrast, folder)
    arrays = view.stack(cohort, contrast)
    forget_images()
    return arrays


def store(
    view: View, cohort: Cohort, contrast: str, folder: Path
) -> tuple[StoredRows, StoredRows, np.ndarray]:
    """Write the views of subjects one by one; see ``training_arrays``."""
    kind = "uint8" if cohort.num_labels <= 256 else "int32"
    wanted = {
        "version": __version__,
        "data": str(cohort.source),
        "subjects": [_files(subject, contrast) for subject in cohort],
        "contrast": contrast,
        "view": {**view},
        "label_names": {str(value): name for value, name in cohort.label_names.items()},
        "label_values": list(map(int, cohort.label_values)),
        "labels": kind,
    }
    clear_leftovers(folder.parent)
    about = _about(folder)
    if about is None or any(about.get(name) != value for name, value in wanted.items()):
        shutil.rmtree(folder, ignore_errors=True)
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            about = {**wanted, **_write(view.parts(cohort, contrast), temporary, kind)}
            (temporary / ABOUT_FILE).write_text(json.dumps(about))
    images, labels = (
        StoredRows(folder / name, tuple(about["shape"]), dtype)
        for name, dtype in (("images", "float32"), ("labels", kind))
    )
    return images, labels, np.array(about["names"])


def kept_rows(parts: Iterable[np.ndarray], shape: Sequence[int], dtype: str, folder: Path) -> Rows:
    """One array of many parts, on disk where it would fill the memory.

    Args:
        parts: the rows of the array one by one, made as they are asked for.
        shape: of the array, (n, ...).
        dtype: its name.
        folder: for the file, which replaces one of an earlier call.
    """
    shape = tuple(shape)
    needed = (COPIES - 1) * math.prod(shape) * np.dtype(dtype).itemsize
    if not _fills_memory(f"{shape[0]} images", needed, folder):
        rows = np.empty(shape, dtype)
        for row, part in zip(rows, parts, strict=True):
            row[...] = part
        return rows
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "rows") as temporary, temporary.open("wb") as file:
        for part in parts:
            file.write(np.ascontiguousarray(part, dtype).data)
    return StoredRows(folder / "rows", shape, dtype)


def _fills_memory(what, needed, folder):
    """Whether bytes are too many to lie in memory; a note then tells where they lie."""
    available = available_memory()
    if available is None or needed <= MOST_OF_MEMORY * available:
        return False
    note(
        f"{what} would take {size_text(needed)} of memory, of which {size_text(available)} are "
        f"available; they are read from {folder}"
    )
    return True


def _files(subject, contrast):
    """What tells whether the images of a subject are still the same."""
    found = [subject.name, str(subject.voxel_size), str(subject.shape)]
    for source in (subject.images.get(contrast.partition(":")[0]), subject.segmentation):
        if isinstance(source, Path):
            found += file_state(source)
    return found


def _about(folder):
    try:
        return json.loads((folder / ABOUT_FILE).read_text())
    except (OSError, ValueError):
        return None


def _write(parts, folder, kind) -> dict[str, Any]:
    names: list[str] = []
    with (folder / "images").open("wb") as images, (folder / "labels").open("wb") as maps:
        for image, labels, name in parts:
            images.write(np.ascontiguousarray(image, np.float32).data)
            maps.write(np.ascontiguousarray(labels, kind).data)
            names += [name] * len(image)
            shape = image.shape[1:]
            forget_images()
    return {"names": names, "shape": [len(names), *shape]}


def reader(rows: Rows) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function from positions (m,) to rows (m, ...); integers on disk come as int32."""
    dtype = rows.dtype if np.dtype(rows.dtype).kind == "f" else tf.int32
    if isinstance(rows, np.ndarray):
        constant = tf.constant(rows)
        return lambda positions: tf.gather(constant, positions)

    def read(positions):
        found = tf.numpy_function(rows.read, [positions], rows.dtype, stateful=False)
        return tf.cast(tf.ensure_shape(found, (None, *rows.shape[1:])), dtype)

    return read


def batches(images: Rows, labels: Rows, batch_size: int) -> tf.data.Dataset:
    """All images and their labels once, in their order."""
    read = reader(images), reader(labels)
    positions = tf.data.Dataset.range(len(images)).batch(batch_size)
    return positions.map(lambda chosen: tuple(one(chosen) for one in read)).prefetch(2)
