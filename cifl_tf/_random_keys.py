"""Keys of stateless random numbers: the same key gives the same numbers, whatever came before.

A key is int64 (2,). One of a ``Share`` is int64 (5,): behind the key stand the number of the part
of a batch, how many parts there are, and of how many groups the part consists. ``normal`` and
``uniform`` then draw the rows of the part from what they would draw for the whole batch, so that
several workers together see the same numbers as one alone.
"""

from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True)
class Share:
    """Which part of each batch of a training one machine makes.

    Attributes:
        pipeline: number of the machine, from 0.
        num_pipelines: machines that make data.
        num_replicas: of the model on each, which take turns.
    """

    pipeline: int = 0
    num_pipelines: int = 1
    num_replicas: int = 1

    @property
    def count(self) -> int:
        """Parts of a batch."""
        return self.num_pipelines * self.num_replicas

    def turns(self, start: int) -> tf.data.Dataset:
        """Number of a step and of a part of its batch, of all parts that this machine makes.

        Args:
            start: first step.
        """
        first, replicas = self.pipeline * self.num_replicas, self.num_replicas
        turns = tf.data.Dataset.counter(start * replicas)
        return turns.map(lambda turn: (turn // replicas, first + turn % replicas))

    def examples(self, start: int, batch_size: int) -> tf.data.Dataset:
        """Numbers of the examples of these parts, one by one.

        Args:
            start: first step.
            batch_size: examples of a part.
        """
        if self.count == 1:
            return tf.data.Dataset.counter(start * batch_size)
        within = tf.range(batch_size, dtype=tf.int64)
        parts = self.turns(start).map(
            lambda step, part: (step * self.count + part) * batch_size + within
        )
        return parts.unbatch()

    def key(self, key: tf.Tensor, part) -> tf.Tensor:
        """The key of a part of the batch that a key is for."""
        if self.count == 1:
            return key
        share = tf.stack([tf.cast(part, tf.int64), tf.constant(self.count, tf.int64), 1])
        return tf.concat([tf.cast(key, tf.int64), share], axis=0)


WHOLE = Share()


def of_replica(key: tf.Tensor) -> tf.Tensor:
    """The key of the part of a batch that the replica of the model sees which calls this."""
    context = tf.distribute.get_replica_context()
    share = Share(num_pipelines=context.num_replicas_in_sync)
    return share.key(key, context.replica_id_in_sync_group)


def grouped(key: tf.Tensor, groups: int) -> tf.Tensor:
    """A key for batches of so many groups one after another, such as two views of each example."""
    return key if key.shape[0] == 2 else tf.concat([key[:4], [groups]], axis=0)


def normal(shape, key, stddev=1.0) -> tf.Tensor:
    """``tf.random.stateless_normal`` of a key, see the module; the first axis is of examples."""

    def draw(shape, key):
        return tf.random.stateless_normal(shape, key, stddev=stddev)

    return _rows(draw, shape, key)


def uniform(shape, key, minval=0, maxval=1, dtype=tf.float32) -> tf.Tensor:
    """``tf.random.stateless_uniform`` of a key, see the module; the first axis is of examples."""

    def draw(shape, key):
        return tf.random.stateless_uniform(shape, key, minval, maxval, dtype)

    return _rows(draw, shape, key)


def _rows(draw, shape, key):
    if key.shape[0] == 2:
        return draw(shape, key)
    seed, (part, count, groups) = key[:2], tf.unstack(tf.cast(key[2:], tf.int32))
    batch, *rest = shape
    whole = draw([batch * count, *rest], seed)
    by_part = tf.reshape(whole, [groups, count, batch // groups, *rest])
    return tf.reshape(by_part[:, part], shape)


def as_key(seed=None) -> tf.Tensor:
    """A key for ``tf.random.stateless_*``.

    Args:
        seed: an integer, or a key; None for a key that no call gave before. It then comes from
            TensorFlow's global generator and follows ``keras.utils.set_random_seed``.

    Returns:
        int64 (2,), or (5,) of a share.
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
    key = as_key(key)
    keys = tf.random.split(key[:2], count)
    if key.shape[0] > 2:
        keys = tf.concat([keys, tf.tile(key[None, 2:], [count, 1])], axis=1)
    return tf.unstack(keys)
