"""The voxelmorph network between the features of two images and the warp."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from cifl_tf._compat import keras, vxm
from cifl_tf.registration.separable import linear_matrix, separable
from cifl_tf.synthesis.integration import IntegrateVelocity

# voxelmorph's own U-Net: channels on the way down, and up and after it, relative to the first.
UNET_DOWN = (1, 2, 2, 2)
UNET_UP = (2, 2, 2, 2, 2, 1, 1)
ROLES = "source", "target"


def build_dense(
    shape: Sequence[int], num_features: int, num_filters: int, int_steps: int, int_resolution: int
) -> keras.Model:
    """voxelmorph's ``VxmDense`` without its last layer, which warps the features of the moving.

    The U-Net is voxelmorph's; the layers after it have names and numbers of voxelmorph's, and take
    a part of the time to trace and to run.

    Args:
        shape: of the features; multiples of 2 to the power of the levels of the U-Net.
        num_features: channels of the features of each image.
        num_filters, int_steps, int_resolution: see ``Registration``.

    Input and output shape:
        a pair of features (batch, *shape, num_features); the displacement (batch, *shape, ndim),
        and the velocity on its own grid, or the displacement where there is none.
    """
    pair = [keras.Input((*shape, num_features), name=f"vxm_dense_{role}_input") for role in ROLES]
    unet = vxm.networks.Unet(
        input_model=keras.Model(pair, pair),
        nb_features=[[num_filters * width for width in widths] for widths in (UNET_DOWN, UNET_UP)],
        name="vxm_dense_unet",
    )
    ndim = len(shape)
    velocity = getattr(keras.layers, f"Conv{ndim}D")(
        ndim,
        kernel_size=3,
        padding="same",
        kernel_initializer=keras.initializers.RandomNormal(stddev=1e-5),
        name="vxm_dense_flow",
    )(unet.output)
    if int_steps == 0:
        return keras.Model(pair, [velocity, velocity], name="vxm_dense")
    if int_resolution > 1:
        coarse = [max(round(size / int_resolution), 1) for size in shape]
        velocity = ResizeDisplacement(coarse, name="vxm_dense_flow_resize")(velocity)
    displacement = IntegrateVelocity(int_steps, name="vxm_dense_flow_int")(velocity)
    if int_resolution > 1:
        displacement = ResizeDisplacement(shape, name="vxm_dense_diffflow")(displacement)
    return keras.Model(pair, [displacement, velocity], name="vxm_dense")


def resize_displacement(field: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    """Displacements of the same image on a finer or coarser grid with the same corners.

    Args:
        field: (batch, *shape, ndim), in voxels.
        shape: the new sizes.

    Returns:
        (batch, *new shape, ndim), in voxels of the new grid, linear between those of the old; the
        numbers of voxelmorph's ``rescale_dense_transform``, by one small matrix for each axis.
    """
    sizes = field.shape[1:-1]
    matrices = [
        tf.cast(linear_matrix(np.linspace(0, 1, old), np.linspace(0, 1, new)), field.dtype)
        for old, new in zip(sizes, shape, strict=True)
    ]
    scale = [new / old for old, new in zip(sizes, shape, strict=True)]
    return separable(field * tf.constant(scale, field.dtype), matrices)


@keras.saving.register_keras_serializable(package="cifl_tf")
class ResizeDisplacement(keras.layers.Layer):
    """``resize_displacement`` as a layer.

    Args:
        shape: the new sizes.

    Input and output shape:
        (batch, *sizes, ndim) in voxels; (batch, *shape, ndim) in voxels of the new grid.

    Example:
        >>> import numpy as np
        >>> from cifl_tf.registration.dense import ResizeDisplacement
        >>> ResizeDisplacement([8, 6])(np.ones((1, 4, 3, 2), np.float32))[0, 5, 5].numpy()
        array([2., 2.], dtype=float32)
    """

    def __init__(self, shape: Sequence[int], **kwargs):
        super().__init__(**kwargs)
        self.shape = tuple(map(int, shape))

    def call(self, inputs):
        """Displacements on the new grid."""
        return resize_displacement(inputs, self.shape)

    def compute_output_shape(self, input_shape):
        """The new sizes between batch and axes."""
        return (input_shape[0], *self.shape, input_shape[-1])

    def get_config(self):
        """Arguments that build this layer again."""
        return {**super().get_config(), "shape": self.shape}
