"""The voxelmorph network between the features of two images and the warp."""

from collections.abc import Sequence

from cifl_tf._compat import keras, vxm
from cifl_tf.synthesis.integration import IntegrateVelocity

# voxelmorph's own U-Net: channels on the way down, and up and after it, relative to the first.
UNET_DOWN = (1, 2, 2, 2)
UNET_UP = (2, 2, 2, 2, 2, 1, 1)


def build_dense(
    shape: Sequence[int], num_features: int, num_filters: int, int_steps: int, int_resolution: int
) -> keras.Model:
    """``vxm.networks.VxmDense`` without its last layer, which warps the features of the moving.

    Args:
        shape: of the features; multiples of 2 to the power of the levels of the U-Net.
        num_features: channels of the features of each image.
        num_filters, int_steps, int_resolution: see ``Registration``.

    Input and output shape:
        a pair of features (batch, *shape, num_features); the displacement (batch, *shape, ndim),
        and the velocity on its own grid, or the displacement where there is none.
    """
    dense = vxm.networks.VxmDense(
        shape,
        nb_unet_features=[
            [num_filters * width for width in widths] for widths in (UNET_DOWN, UNET_UP)
        ],
        int_steps=min(int_steps, 1),
        int_resolution=int_resolution,
        src_feats=num_features,
        trg_feats=num_features,
    )
    references = dense.references
    displacement = velocity = references.preint_flow
    if int_steps > 0:
        # Not voxelmorph's layer, which puts every squaring into the graph.
        displacement = IntegrateVelocity(int_steps, name="vxm_dense_flow_int")(velocity)
    sizes = displacement.shape[1], shape[0]
    if sizes[0] != sizes[1]:
        rescale = vxm.layers.RescaleTransform(sizes[1] / sizes[0], name="vxm_dense_diffflow")
        displacement = rescale(displacement)
    return keras.Model(
        [references.source, references.target], [displacement, velocity], name="vxm_dense"
    )
