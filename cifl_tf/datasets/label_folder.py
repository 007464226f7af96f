"""Label maps of a user's segmentations, to train on in place of random shapes."""

import tempfile
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from cifl_tf.images.atomic import expanded
from cifl_tf.images.file_names import READABLE, is_leftover, suffix_of
from cifl_tf.images.memory import MOST_OF_MEMORY, available_memory
from cifl_tf.images.volumes import read_labels, slice_axis


def segmentation_maps(
    folder, shape, plane: str = "coronal", seed: int = 0, start: int = 0
) -> tuple[tf.data.Dataset, int]:
    """Endless dataset of label maps from a folder of segmentations, in place of random shapes.

    The labels that occur in any of the files are remapped to 0..K-1 in ascending order. Each map is
    a random slice along ``plane`` (two sizes in ``shape``) or a whole volume (three), of a random
    subject, at a random position where the shape is smaller than the segmentation and padded with
    the lowest label where it is larger. Slices and volumes of a single label are passed over, and a
    file of one slice gives that slice whatever the plane.

    Args:
        folder: holds .nii, .nii.gz, .mgh or .mgz label maps or pairs, at any depth. Hidden files
            and those that editors leave are passed over.
        shape: two or three sizes in voxels.
        plane: "sagittal", "coronal" or "axial"; for slices only.
        seed: the same seed gives the same maps.
        start: index of the first map, to go on where an earlier run ended.

    Returns:
        Dataset of int32 tensors (*shape, 1), and the number K of labels.

    Raises:
        ValueError: no segmentation is there, one is not of whole numbers, or only one label occurs.

    Example:
        >>> import cifl_tf as cifl, nibabel, numpy as np, pathlib
        >>> labels = np.zeros((32, 30, 28), np.uint8)
        >>> labels[8:24, 8:24, 8:24] = 17
        >>> pathlib.Path("segmentations").mkdir()
        >>> nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), "segmentations/labels.nii.gz")
        >>> maps, num_labels = cifl.segmentation_maps("segmentations", (24, 24))
        >>> next(iter(maps)).shape, num_labels
        (TensorShape([24, 24, 1]), 2)
    """
    draw, num_labels = map_drawer(folder, shape, plane, seed)
    indices = tf.data.Dataset.counter(start)
    return indices.map(draw, num_parallel_calls=tf.data.AUTOTUNE), num_labels


def map_drawer(
    folder, shape, plane: str = "coronal", seed: int = 0
) -> tuple[Callable[[tf.Tensor], tf.Tensor], int]:
    """The function from the index of a map to the map, for datasets of one reading of the files.

    Args:
        folder, shape, plane, seed: see ``segmentation_maps``, also for what is raised.

    Returns:
        The function, whose results are int32 (*shape, 1), and the number of labels.
    """
    shape = tuple(shape)
    folder = expanded(folder)
    files = sorted(
        path
        for path in folder.rglob("*")
        # Of a pair of files the header stands for both.
        if suffix_of(path) not in (None, ".img")
        and not any(map(is_leftover, path.relative_to(folder).parts))
    )
    if not files:
        raise ValueError(f"{folder} holds no segmentation; give a folder of {', '.join(READABLE)}")
    values, choices = np.zeros(0, int), []
    # Of each map the volume itself, or the slices, first axis, that hold several labels.
    for labels in _kept(files):
        values = np.union1d(values, np.unique(labels))
        axis = slice_axis(labels.shape, plane)
        parts = np.moveaxis(labels, axis, 0) if len(shape) == 2 else labels[None]
        several = np.flatnonzero([np.ptp(part) > 0 for part in parts])
        choices += [(parts, several)] if len(several) else []
    if len(values) < 2:
        raise ValueError(f"the segmentations in {folder} hold one label only, {values}; give two")
    if not choices:
        raise ValueError(
            f"no {'slice' if len(shape) == 2 else 'segmentation'} in {folder} holds two labels; "
            "give segmentations with a background and a structure, or several"
        )

    def draw_map(index):
        random = np.random.default_rng((seed, int(index)))
        parts, several = choices[random.integers(len(choices))]
        labels = parts[several[random.integers(len(several))]]
        inside, pad = [slice(None)] * labels.ndim, [(0, 0)] * labels.ndim
        for dim, size in enumerate(shape):
            excess = labels.shape[dim] - size
            if excess > 0:
                first = random.integers(excess + 1)
                inside[dim] = slice(first, first + size)
            else:
                pad[dim] = (-excess // 2, -excess - -excess // 2)
        labels = np.pad(np.searchsorted(values, labels[tuple(inside)]), pad)
        return labels[..., None].astype(np.int32)

    def draw_tensor(index):
        labels = tf.numpy_function(draw_map, [index], tf.int32, stateful=False)
        return tf.ensure_shape(labels, (*shape, 1))

    return draw_tensor, len(values)


def _kept(files) -> Iterator[np.ndarray]:
    """The label maps of files, on disk what would take more than a share of the memory."""
    available, used = available_memory(), 0
    for path in files:
        labels = read_labels(path)
        lowest, highest = labels.min(), labels.max()
        labels = labels.astype(np.result_type(*map(np.min_scalar_type, (lowest, highest))))
        used += labels.nbytes
        if available is None or used <= MOST_OF_MEMORY * available:
            yield labels
            continue
        with tempfile.TemporaryFile() as file:  # without a name; it goes with the map
            kept = np.memmap(file, labels.dtype, "w+", shape=labels.shape)
        kept[...] = labels
        yield kept
