import numpy as np
import pytest

import cifl_tf
from cifl_tf._compat import keras
from cifl_tf.features.planes import volume_features
from cifl_tf.images.intensity import is_air


@pytest.fixture
def volume(rng):
    image = rng.uniform(0.1, 1, size=(11, 10, 9)).astype(np.float32)
    image[:3] = 0
    return image


def test_channels_are_those_of_slices_up_to_a_factor(volume, tiny_encoder):
    found = volume_features(volume, tiny_encoder)
    assert found.shape == (11, 10, 9, 12)
    for axis in range(3):
        slices = np.moveaxis(volume, axis, 0)[..., None]
        expected = tiny_encoder.predict_on_batch(slices)
        channels = np.moveaxis(found[..., 4 * axis : 4 * axis + 4], axis, 0)
        for one, other in zip(channels[4], expected[4], strict=True):
            ratio = one / other
            np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:1], ratio.shape), rtol=1e-2)


def test_channels_have_a_mean_square_of_one_over_what_is_not_air(volume, tiny_encoder):
    found = volume_features(volume, tiny_encoder, axes=(1,))
    assert found.shape[-1] == 4
    np.testing.assert_allclose(np.mean(found[~is_air(volume)] ** 2, axis=0), 1, rtol=1e-4)


def test_an_encoder_for_volumes_gives_its_own_features(volume):
    encoder = cifl_tf.build_encoder(ndim=3, num_features=4, num_filters=4)
    expected = encoder.predict_on_batch(volume[None, ..., None])[0]
    np.testing.assert_allclose(volume_features(volume, encoder), expected, rtol=1e-3, atol=1e-4)


def test_remapped_copies_are_averaged(volume, tiny_encoder):
    inverted = np.where(is_air(volume), 0, 1 - volume)
    expected = np.mean([volume_features(each, tiny_encoder) for each in (volume, inverted)], axis=0)
    found = volume_features(volume, tiny_encoder, ("inverted",))
    np.testing.assert_allclose(found, expected, rtol=2e-2, atol=2e-2)


def test_an_encoder_in_planes_gives_what_its_slices_give_normalized_over_the_volume(
    volume, tiny_encoder
):
    found = cifl_tf.in_planes(tiny_encoder, (2, 0)).predict_on_batch(volume[None, ..., None])[0]
    before = keras.Model(tiny_encoder.input, tiny_encoder.get_layer("features").output)
    for place, axis in enumerate((2, 0)):
        expected = np.empty((*volume.shape, 4))
        for index in range(volume.shape[axis]):
            part = (*[slice(None)] * axis, index)
            expected[part] = before.predict_on_batch(volume[part][None, ..., None])[0]
        expected /= np.sqrt(np.mean(expected[~is_air(volume)] ** 2, axis=0))
        np.testing.assert_allclose(found[..., 4 * place : 4 * place + 4], expected, atol=1e-4)


def test_an_encoder_in_planes_is_saved_and_takes_files_of_its_voxel_sizes(tmp_path, volume):
    encoder = cifl_tf.Encoder.from_pretrained("shapes-2d-v2")
    planes = cifl_tf.in_planes(encoder)
    planes.save(tmp_path / "planes.keras")
    loaded = cifl_tf.load_encoder(tmp_path / "planes.keras")
    batch = volume[None, ..., None]
    np.testing.assert_array_equal(loaded.predict_on_batch(batch), planes.predict_on_batch(batch))
    assert loaded.preprocessing.voxel_range == encoder.preprocessing.voxel_range


def test_an_encoder_for_volumes_has_no_planes():
    with pytest.raises(ValueError, match="the encoder is for 3D images; give one for slices"):
        cifl_tf.in_planes(cifl_tf.build_encoder(ndim=3, num_features=4, num_filters=2))


@pytest.mark.parametrize(
    ("shape", "axes", "message"),
    [((8, 8), (0,), "give"), ((8, 8, 8), (), "axes"), ((8, 8, 8), (3,), "axes")],
)
def test_bad_input_is_told(tiny_encoder, shape, axes, message):
    with pytest.raises(ValueError, match=message):
        volume_features(np.ones(shape), tiny_encoder, axes=axes)
