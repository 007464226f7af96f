import numpy as np
import pytest

import cifl_tf
from cifl_tf._compat import keras
from cifl_tf.features import tiling
from cifl_tf.features.inference import features_of
from cifl_tf.features.layers import L2Normalize
from cifl_tf.features.slabs import slabs_for
from cifl_tf.features.tiling import encode_in_parts, fastest_sizes, tiles_of
from cifl_tf.images import memory

SHAPE = (37, 80, 22)


@pytest.fixture(scope="module", params=["plain", "unet", "planes"])
def encoder(request):
    keras.utils.set_random_seed(1)
    if request.param == "planes":
        return cifl_tf.in_planes(cifl_tf.build_encoder(2, num_features=3, num_filters=2), (0, 2))
    return cifl_tf.build_encoder(3, num_features=3, num_filters=2, architecture=request.param)


@pytest.fixture(scope="module")
def plain():
    return cifl_tf.build_encoder(3, num_features=3, num_filters=2)


@pytest.fixture
def image(rng):
    image = rng.random(SHAPE).astype(np.float32)
    image[:7] = 0
    return image


def memory_for(encoder, side):
    return tiling.bytes_per_voxel(encoder) * side**3


@pytest.mark.parametrize("radius", [0, 5, 23])
@pytest.mark.parametrize("size", [4, 16, 17, 100])
def test_tiles_cover_a_volume_once_and_see_around_them(size, radius):
    count = np.zeros(SHAPE, int)
    for tile in tiles_of(SHAPE, [size] * 3, radius):
        count[tile.place] += 1
        for seen, kept, place, length in zip(tile.seen, tile.kept, tile.place, SHAPE, strict=True):
            assert seen.start + kept.start == place.start
            assert seen.start + kept.stop == place.stop
            assert seen.start <= max(0, place.start - radius)
            assert seen.stop >= min(length, place.stop + radius)
            assert seen.start % tiling.ALIGNMENT == 0
            assert seen.stop == length or seen.stop % tiling.ALIGNMENT == 0
            assert place.stop - place.start <= size + tiling.ALIGNMENT
    np.testing.assert_array_equal(count, 1)


def test_the_fastest_tiles_are_the_longest_that_fit():
    assert fastest_sizes((256, 256, 256), 8, 256**3) == (256, 256, 256)
    assert fastest_sizes((100, 90, 40), 8, 60 * 90 * 40) == (50, 90, 40)
    sizes = fastest_sizes((256, 256, 256), 8, 2e6)
    assert sorted(sizes) == [86, 128, 128]  # cubes of 88 would show the network a ninth more
    seen = [[s.stop - s.start for s in t.seen] for t in tiles_of([256] * 3, sizes, 8)]
    assert max(np.prod(seen, axis=1)) <= 2e6
    assert np.prod(seen, axis=1).sum() < 1.28 * 256**3
    assert fastest_sizes((160, 37, 22), 8, 1) == (16, 19, 11)


@pytest.mark.parametrize("remappings", [(), ("inverted", "gamma")])
def test_features_in_tiles_are_those_of_the_whole(encoder, image, remappings, monkeypatch):
    whole = features_of(image, encoder, remappings=remappings)
    monkeypatch.setattr(memory, "available_memory", lambda: 2 * memory_for(encoder, 24))
    seen = []
    monkeypatch.setattr(tiling, "tiles_of", lambda *given: seen.append(given) or tiles_of(*given))
    found = features_of(image, encoder, remappings=remappings)
    assert len(seen) == 1
    assert len([*tiles_of(*seen[0])]) > 1
    np.testing.assert_allclose(found, whole, rtol=1e-5, atol=2e-5)


def test_memory_that_suffices_takes_the_volume_as_a_whole(encoder, image):
    assert encode_in_parts(image, encoder, memory_for(encoder, 50)) is None
    assert encode_in_parts(image, encoder, memory_for(encoder, 20)) is not None


@pytest.mark.parametrize("side", [28, 29, 40])
def test_slabs_give_the_features_of_the_whole(plain, image, side, monkeypatch):
    monkeypatch.setattr(tiling, "tiles_of", None)  # no tiles
    for turned in (image, image.transpose(1, 0, 2), image.transpose(2, 0, 1)):
        whole = plain.predict_on_batch(turned[None, ..., None])[0]
        found = encode_in_parts(turned, plain, memory_for(plain, side))
        np.testing.assert_allclose(found, whole, rtol=1e-5, atol=2e-5)


def test_enough_memory_is_that_of_the_thickest_slabs(plain):
    shape = (60, 700, 500)
    enough = tiling.enough_memory(plain, shape) / tiling.bytes_per_voxel(plain)
    axis, thickness = slabs_for(shape, np.inf)
    assert axis == 1
    assert thickness * 60 * 500 > 0.45e6
    assert slabs_for(shape, enough) == (axis, thickness)
    assert slabs_for(shape, 0.99 * enough) == (axis, thickness - 1)
    assert slabs_for(SHAPE, np.inf) is None  # one slab
    assert tiling.enough_memory(cifl_tf.build_encoder(2), SHAPE) == np.inf


@pytest.mark.parametrize("shape", [(160, 70, 45), (137, 64, 91)])
def test_air_far_from_a_brain_is_not_encoded(encoder, rng, shape, monkeypatch):
    image = np.zeros(shape, np.float32)
    image[30:41, 5:17, 22:26] = rng.uniform(0.1, 1, (11, 12, 4))
    whole = encoder.predict_on_batch(image[None, ..., None])[0]
    seen = []
    monkeypatch.setattr(tiling, "tiles_of", lambda *given: seen.append(given) or tiles_of(*given))
    found = encode_in_parts(image, encoder)
    np.testing.assert_allclose(found, whole, rtol=1e-5, atol=2e-5)
    assert np.prod(seen[0][0]) < 0.9 * image.size


def test_an_encoder_with_its_preprocessing_and_air_alone(image):
    encoder = cifl_tf.Encoder(cifl_tf.build_encoder(3, num_features=3, num_filters=2))
    for one in (image, np.zeros_like(image)):
        whole = encoder.predict_on_batch(one[None, ..., None])[0]
        found = encode_in_parts(one, encoder, memory_for(encoder, 20))
        np.testing.assert_allclose(found, whole, rtol=1e-5, atol=2e-5)


def test_an_encoder_of_before_normalizes_over_all_voxels(image):
    present = cifl_tf.build_encoder(3, num_features=3, num_filters=2)
    features, _ = present.layers[-1].input
    former = keras.Model(present.input, L2Normalize()(features))
    whole = former.predict_on_batch(image[None, ..., None])[0]
    found = encode_in_parts(image, former, memory_for(former, 20))
    np.testing.assert_allclose(found, whole, rtol=1e-5, atol=2e-5)
    assert np.abs(whole - present.predict_on_batch(image[None, ..., None])[0]).max() > 1e-3


def test_other_networks_are_left_alone(image):
    volume = keras.Input((None, None, None, 1))
    network = keras.Model(volume, keras.layers.Conv3D(2, 3, padding="same")(volume))
    assert encode_in_parts(image, network, memory=1.0) is None
