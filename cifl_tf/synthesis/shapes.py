"""Label maps of random shapes."""

import math
from collections.abc import Sequence
from functools import lru_cache

import tensorflow as tf

from cifl_tf._checks import SEED
from cifl_tf._compat import vxm
from cifl_tf._random_keys import key_of, split_key
from cifl_tf.synthesis.smooth_fields import (
    channels_first,
    channels_last,
    coarse_shape,
    interpolate,
)


def _checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
    shape = tuple(int(size) for size in shape)
    if len(shape) not in (2, 3) or min(shape) < 8:
        raise ValueError(f"shape is {shape}; give two or three sizes of at least 8 voxels")
    return shape


def _checked_num_labels(num_labels: int) -> int:
    if num_labels < 2:
        raise ValueError(f"num_labels is {num_labels}; give at least 2")
    return int(num_labels)


def shape_maps(
    shape: Sequence[int],
    num_labels: int = 16,
    scales: Sequence[float] = (4, 8, 16, 32),
    warp_std: float = 3.0,
    seed: int = 0,
    start: int = 0,
    indices: tf.data.Dataset | None = None,
) -> tf.data.Dataset:
    """Endless dataset of label maps of random shapes.

    For every label, smooth noise is drawn at each of the scales and summed; the noise images are
    warped by one smooth displacement, and each voxel takes the label whose noise is highest there
    (SynthMorph, Hoffmann et al., 2022, section III-B1; there each label has its own warp).

    Args:
        shape: two or three sizes in voxels.
        num_labels: number of labels; not every one is in every map.
        scales: typical sizes of the shapes in voxels.
        warp_std: SD of the displacement in voxels, 0 for none.
        seed: the same seed gives the same maps, element by element.
        start: index of the first map, to go on where an earlier run ended.
        indices: of the maps, in place of all from ``start`` on.

    Returns:
        Dataset of int32 tensors (*shape, 1) with values in 0..num_labels-1.

    Raises:
        ValueError: a size, scale or number of labels that is too small, or not finite.

    Example:
        >>> import cifl_tf as cifl
        >>> shapes = next(iter(cifl.shape_maps((24, 20), num_labels=4, seed=0)))
        >>> shapes.shape, int(shapes.numpy().max()) < 4
        (TensorShape([24, 20, 1]), True)
    """
    shape, num_labels = _checked_shape(shape), _checked_num_labels(num_labels)
    fits = all(2 <= scale < math.inf for scale in scales) and 0 <= warp_std < math.inf
    if not scales or not fits:
        raise ValueError(
            f"scales is {tuple(scales)} and warp_std {warp_std}; give at least one scale of at "
            "least 2 voxels and an SD of at least 0 voxels"
        )
    SEED.check("seed", seed)
    draw = _map_drawer(shape, num_labels, tuple(scales), warp_std, seed)
    if indices is None:
        indices = tf.data.Dataset.counter(start)
    return indices.map(draw, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


@lru_cache(maxsize=8)
def _map_drawer(shape, num_labels, scales, warp_std, seed):
    """The function from an index to its map, whose graph is made once, not for every dataset."""
    # Noise and warp are smooth, so half the resolution carries them.
    half = tuple((size + 1) // 2 for size in shape)

    @tf.function(autograph=False)
    def draw_map(index):
        warp_key, *keys = split_key(key_of(seed, 0, index), len(scales) + 1)
        noise = tf.add_n(
            interpolate(
                tf.random.stateless_normal((1, num_labels, *coarse_shape(shape, scale)), key), half
            )
            for scale, key in zip(scales, keys, strict=True)
        )
        if warp_std:
            coarse = coarse_shape(shape, min(scales))
            warp = tf.random.stateless_normal((1, len(shape), *coarse), warp_key)
            warp = interpolate(warp * warp_std / 2, half)
            moved = vxm.utils.transform(channels_last(noise)[0], channels_last(warp)[0])
            noise = channels_first(moved[None])
        return tf.argmax(channels_last(interpolate(noise, shape)), -1, tf.int32)[0, ..., None]

    return draw_map
