"""The network after the features, against voxelmorph's own."""

import numpy as np
import pytest
import tensorflow as tf

from cifl_tf._compat import vxm
from cifl_tf.registration.dense import UNET_DOWN, UNET_UP, build_dense, resize_displacement


@pytest.mark.parametrize(
    ("shape", "int_steps", "int_resolution"),
    [((48, 32), 5, 2), ((16, 32, 16), 2, 4), ((32, 32), 0, 2)],
)
def test_it_gives_what_voxelmorph_gives(rng, shape, int_steps, int_resolution):
    ours = build_dense(shape, 3, 2, int_steps, int_resolution)
    theirs = vxm.networks.VxmDense(
        shape,
        nb_unet_features=[[2 * width for width in widths] for widths in (UNET_DOWN, UNET_UP)],
        int_steps=int_steps,
        int_resolution=int_resolution,
        src_feats=3,
        trg_feats=3,
    )
    weights = [rng.normal(0, 0.2, weight.shape) for weight in theirs.get_weights()]
    ours.set_weights(weights)
    theirs.set_weights(weights)
    names = [weight.name for weight in theirs.weights]
    assert [weight.name for weight in ours.weights] == names
    pair = [rng.normal(size=(2, *shape, 3)).astype(np.float32) for _ in range(2)]
    references = theirs.references
    wanted = tf.keras.Model(theirs.inputs, [references.pos_flow, references.preint_flow])(pair)
    for found, expected in zip(ours(pair), wanted, strict=True):
        assert np.abs(expected).max() > 0.5
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_sizes_that_do_not_divide_keep_the_corners(rng):
    field = rng.normal(size=(1, 7, 5, 2)).astype(np.float32)
    found = resize_displacement(field, (10, 8)).numpy()
    assert found.shape == (1, 10, 8, 2)
    corners = np.s_[:, ::9, ::7], np.s_[:, ::6, ::4]
    np.testing.assert_allclose(found[corners[0]], field[corners[1]] * [10 / 7, 8 / 5], rtol=1e-5)
