import inspect

import numpy as np
import pytest

import cifl_tf
from cifl_tf._former_names import accepts_former


def test_a_function_takes_both_names():
    @accepts_former()
    def read(path, volume_index=0):
        return path, volume_index

    assert read("a", volume_index=2) == read("a", 2) == ("a", 2)
    with pytest.warns(DeprecationWarning, match="frame of read is volume_index now"):
        assert read("a", frame=2) == ("a", 2)
    with pytest.raises(TypeError, match="got frame and volume_index; leave out frame"):
        read("a", frame=1, volume_index=2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'frames'"):
        read("a", frames=1)
    assert [*inspect.signature(read).parameters] == ["path", "volume_index"]


def test_configurations_of_before():
    with pytest.warns(DeprecationWarning, match="of SegmentationConfig is"):
        config = cifl_tf.SegmentationConfig(
            model="intensity",
            around="THA",
            ensemble=("gamma",),
            copies=2,
            vary_intensity=False,
            remapped=0.5,
        )
    assert config == cifl_tf.SegmentationConfig(
        "intensity",
        center_label="THA",
        remappings=("gamma",),
        cached_copies=2,
        intensity_augmentation=False,
        random_contrast=0.5,
    )
    with pytest.warns(DeprecationWarning, match="passes of RegistrationConfig is num_cascades"):
        assert cifl_tf.RegistrationConfig("intensity", passes=3).num_cascades == 3


def test_features_and_networks_of_before(tiny_encoder, rng):
    image = rng.random((20, 22)).astype(np.float32)
    with pytest.warns(DeprecationWarning, match="ensemble of features_of is remappings"):
        found = cifl_tf.features_of(image, tiny_encoder, ensemble=("inverted",))
    expected = cifl_tf.features_of(image, tiny_encoder, remappings=("inverted",))
    np.testing.assert_array_equal(found, expected)
    with pytest.warns(DeprecationWarning, match="passes of Registration is num_cascades"):
        assert cifl_tf.RegistrationNetwork(None, (16, 16), passes=2).num_cascades == 2


@pytest.mark.parametrize("inverse", [False, True])
def test_register_with_a_network_is_register_arrays(inverse, rng):
    network = cifl_tf.Registration(None, (16, 16), num_filters=2, int_steps=1)
    pair = rng.random((2, 16, 16)).astype(np.float32)
    expected = cifl_tf.register_arrays(network, *pair, inverse=inverse)
    for arguments, named in (((network, *pair), {}), ((), {"network": network})):
        if named:
            named |= {"moving": pair[0], "fixed": pair[1]}
        with pytest.warns(DeprecationWarning, match="register_arrays now"):
            found = cifl_tf.register(*arguments, **named, inverse=inverse)
        np.testing.assert_array_equal(found, expected)
