import numpy as np
import pytest

from cifl_tf.features.encoder import build_encoder
from cifl_tf.tissues.network import build_tissue_network


@pytest.fixture(scope="module")
def encoder():
    return build_encoder(ndim=3, num_features=3, num_filters=2)


@pytest.mark.parametrize("with_image", [False, True])
def test_the_network_sees_frozen_features(encoder, with_image, rng):
    network = build_tissue_network(2, 2, encoder=encoder, with_image=with_image)
    image = rng.random((1, 12, 10, 9, 1), np.float32)
    assert network(image).shape == (1, 12, 10, 9, 6)
    seen = network.get_layer("features")(image)
    np.testing.assert_allclose(seen[..., :3], encoder(image), atol=1e-6)
    if with_image:
        np.testing.assert_array_equal(seen[..., 3:], image)
    assert seen.shape[-1] == 3 + with_image
    assert network.get_layer("down_0_0").kernel.shape[-2] == 3 + with_image
    frozen = {weight.ref() for weight in encoder.weights}
    assert not frozen & {weight.ref() for weight in network.trainable_weights}


def test_an_image_beside_no_features_is_refused():
    with pytest.raises(ValueError, match="with_image"):
        build_tissue_network(2, 2, with_image=True)
