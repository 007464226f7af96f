"""Keys of stateless random numbers: the same key gives the same numbers, whatever came before."""

import tensorflow as tf


def as_key(seed=None) -> tf.Tensor:
    """A key for ``tf.random.stateless_*``.

    Args:
        seed: an integer, or two, such as a key; None for a key that no call gave before. It then
            comes from TensorFlow's global generator and follows ``keras.utils.set_random_seed``.

    Returns:
        int64 (2,).
    """
    if seed is None:
        return tf.random.uniform([2], tf.int64.min, tf.int64.max, tf.int64)
    seed = tf.cast(seed, tf.int64)
    return seed if seed.shape.rank else tf.stack([seed, tf.zeros_like(seed)])


def key_of(seed: int, stream: int, index) -> tf.Tensor:
    """The key of one example or step of a training.

    Args:
        seed: of the training.
        stream: tells apart what one seed is used for.
        index: of the example or step, an integer or a scalar tensor.
    """
    return tf.random.fold_in(tf.constant([seed, stream], tf.int64), index)


def split_key(key, count: int) -> list[tf.Tensor]:
    """As many independent keys; see ``as_key`` for what is taken."""
    return tf.unstack(tf.random.split(as_key(key), count))
