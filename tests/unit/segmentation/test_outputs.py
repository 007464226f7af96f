import numpy as np
import pytest

import cifl_tf as cifl
from cifl_tf._compat import keras
from cifl_tf.segmentation.outputs import with_outputs
from cifl_tf.tissues import build_tissue_network


def test_all_but_the_last_layer_is_the_same(rng):
    network = build_tissue_network(2, 2)
    copy = with_outputs(network, 3)
    image = rng.random((1, 9, 8, 10, 1)).astype(np.float32)
    below = [keras.Model(one.input, one.get_layer("last").input) for one in (network, copy)]
    features = [np.asarray(one(image)) for one in below]
    np.testing.assert_allclose(features[0], features[1], atol=1e-6)
    np.testing.assert_allclose(np.asarray(copy(image)).sum(axis=-1), 1, rtol=1e-5)
    assert copy.output_shape == (None, None, None, None, 3)


def test_training_the_copy_leaves_the_original(rng):
    segmenter = cifl.Segmenter(build_tissue_network(2, 2), field_margin=6.0)
    before = segmenter.get_weights()
    copy = segmenter.with_labels(["background", "lesion"], [0, 7])
    copy.compile("adam", cifl.SegmentationLoss())
    image = rng.random((2, 8, 8, 8, 1)).astype(np.float32)
    copy.fit(image, (image > 0.5).astype(np.int32), verbose=0)
    for one, other in zip(before, segmenter.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert copy.label_values == (0, 7)
    assert copy.field_margin == 6.0


def test_a_network_without_a_last_convolution_is_refused():
    image = keras.Input((4, 4, 1))
    dense = keras.Model(image, keras.layers.Dense(3, name="out")(image))
    with pytest.raises(ValueError, match=r"Dense 'out' last.*must be a convolution"):
        with_outputs(dense, 2)


def test_a_segmenter_of_the_command_gets_other_labels_too(rng):
    encoder = cifl.build_encoder(ndim=2, num_features=3, num_filters=2)
    network = cifl.build_segmenter(encoder, 4, num_filters=2, num_levels=2)
    copy = with_outputs(network, 2)
    image = rng.random((1, 16, 12, 1)).astype(np.float32)
    assert copy(image).shape == (1, 16, 12, 2)
    below = [one.get_layer("features") for one in (network, copy)]
    features = [np.asarray(one(image)) for one in below]
    np.testing.assert_allclose(features[0], features[1], atol=1e-6)
    unets = [one.get_layer("unet").weights[0].numpy() for one in (network, copy)]
    np.testing.assert_array_equal(*unets)
