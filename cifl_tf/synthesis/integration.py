"""Warps without folds: integrals of velocities that do not change in time."""

import tensorflow as tf

from cifl_tf._checks import COUNT, check_fields
from cifl_tf._compat import keras, vxm


def integrate(velocity: tf.Tensor, steps: int) -> tf.Tensor:
    """Displacement that a velocity adds up to in a unit of time, by scaling and squaring.

    The same numbers as voxelmorph's ``integrate_vec``, which writes each squaring into the graph:
    a loop is traced in a part of the time.

    Args:
        velocity: (*shape, ndim), in voxels.
        steps: squarings.
    """

    def square(index, field):
        return index + 1, field + vxm.utils.transform(field, field)

    return tf.while_loop(
        lambda index, _: index < steps,
        square,
        (tf.constant(0), velocity / 2**steps),
        maximum_iterations=steps,
    )[1]


@keras.saving.register_keras_serializable(package="cifl_tf")
class IntegrateVelocity(keras.layers.Layer):
    """``integrate`` for batches.

    Args:
        steps: squarings.

    Input and output shape:
        (batch, *shape, ndim), in voxels.

    Example:
        >>> import numpy as np
        >>> from cifl_tf.synthesis.integration import IntegrateVelocity
        >>> IntegrateVelocity(5)(np.full((1, 8, 8, 2), 0.5, np.float32))[0, 4, 4].numpy()
        array([0.5, 0.5], dtype=float32)
    """

    def __init__(self, steps: int = 7, **kwargs):
        super().__init__(**kwargs)
        self.steps = steps
        check_fields(self, steps=COUNT)

    def call(self, inputs):
        """Displacements."""
        return tf.map_fn(lambda velocity: integrate(velocity, self.steps), inputs)

    def compute_output_shape(self, input_shape):
        """That of the input."""
        return input_shape

    def get_config(self):
        """Arguments that build this layer again."""
        return {**super().get_config(), "steps": self.steps}
