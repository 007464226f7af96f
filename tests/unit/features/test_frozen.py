import numpy as np
import pytest
import tensorflow as tf

import cifl_tf
from cifl_tf._compat import keras
from cifl_tf.datasets import REMAPPINGS
from cifl_tf.features.frozen import FrozenFeatures, checked_remappings
from cifl_tf.images.intensity import rescale_intensity
from cifl_tf.registration.instance import features_at_scale
from cifl_tf.registration.similarity import average_pool

ALL = ("inverted", "gamma", "folded")
BY_HAND = {
    "inverted": lambda x: 1 - x,
    "gamma": lambda x: x**0.4,
    "folded": lambda x: np.where(x > 0.5, 2 * x - 1, 1 - 2 * x),
}
SHAPES = [(21, 26), (9, 10, 11)]


@pytest.fixture
def volume_encoder():
    return cifl_tf.build_encoder(ndim=3, num_features=3, num_filters=2)


@pytest.fixture
def encoders(tiny_encoder, volume_encoder):
    return {2: tiny_encoder, 3: volume_encoder}


def stripped(rng, *shape):
    """Images (*shape, 1) in (0, 1) inside a box, 0 outside."""
    image = rng.uniform(0.05, 0.95, (*shape, 1)).astype(np.float32)
    image[:, :4] = image[:, :, -3:] = 0
    return image


def copies_by_hand(image, remappings):
    remapped = (np.where(image > 0, BY_HAND[name](image), 0) for name in remappings)
    return [image, *(copy.astype(np.float32) for copy in remapped)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("remappings", [(), ("inverted",), ALL])
def test_mean_over_the_features_of_all_copies(encoders, rng, shape, remappings):
    encoder = encoders[len(shape)]
    image = stripped(rng, 2, *shape)
    expected = np.mean(
        [encoder.predict(copy, verbose=0) for copy in copies_by_hand(image, remappings)], axis=0
    )
    found = FrozenFeatures(encoder, remappings)(image)
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    if remappings:
        assert np.abs(found - encoder(image)).max() > 0.1


@pytest.mark.parametrize("shape", SHAPES)
def test_the_image_itself_is_the_last_channel(encoders, rng, shape):
    encoder, image = encoders[len(shape)], stripped(rng, 2, *shape)
    both = FrozenFeatures(encoder, ("inverted",), with_image=True)
    found = both(image)
    assert both.num_features == found.shape[-1] == encoder.output_shape[-1] + 1
    np.testing.assert_array_equal(found[..., :-1], FrozenFeatures(encoder, ("inverted",))(image))
    np.testing.assert_array_equal(found[..., -1:], image)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_inversion_makes_an_image_and_its_inversion_the_same(encoders, rng, shape):
    image = stripped(rng, 1, *shape)
    inverted = np.where(image > 0, 1 - image, 0).astype(np.float32)
    extract = FrozenFeatures(encoders[len(shape)], ("inverted",))
    np.testing.assert_allclose(extract(image), extract(inverted), atol=1e-5)
    plain = FrozenFeatures(encoders[len(shape)])
    assert np.abs(plain(image) - plain(inverted)).max() > 0.1


def test_air_stays_air(tiny_encoder, rng):
    image = stripped(rng, 1, 20, 20)
    image, *copies = FrozenFeatures(tiny_encoder, ALL).copies(tf.constant(image))
    assert len(copies) == 3
    for copy, by_hand in zip(copies, copies_by_hand(image.numpy(), ALL)[1:], strict=True):
        np.testing.assert_allclose(copy, by_hand, atol=1e-6)
        np.testing.assert_array_equal(copy[image == 0], 0)
        assert np.abs(copy - image).max() > 0.1


def test_copies_are_remapped_before_blocks_are_averaged(tiny_encoder, rng):
    image = stripped(rng, 2, 21, 24)
    extract = FrozenFeatures(tiny_encoder, ALL)
    pooled = [average_pool(copy, 2) for copy in copies_by_hand(image, ALL)]
    expected = np.mean([tiny_encoder.predict(copy, verbose=0) for copy in pooled], axis=0)
    found = features_at_scale(tf.constant(image), extract, 2)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(extract(average_pool(image, 2)) - expected).max() > 0.01


def test_intensities_have_no_copies(rng):
    image = stripped(rng, 2, 12, 13)
    extract = FrozenFeatures(None, ALL)
    np.testing.assert_array_equal(extract(image), image)
    assert FrozenFeatures.from_config(extract.get_config()).remappings == ()
    np.testing.assert_array_equal(features_at_scale(tf.constant(image), extract, 1), image)


@pytest.mark.parametrize("shape", SHAPES)
def test_features_of_an_array(encoders, rng, shape):
    encoder = encoders[len(shape)]
    image = 900 * stripped(rng, *shape)[..., 0]
    scaled = rescale_intensity(image)[None, ..., None]
    expected = np.mean(
        [encoder.predict(copy, verbose=0)[0] for copy in copies_by_hand(scaled, ALL)], axis=0
    )
    found = cifl_tf.features_of(image, encoder, remappings=ALL)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # Of another size, with the same traced network, after a change of the weights.
    encoder.set_weights([-weight for weight in encoder.get_weights()])
    smaller = image[:-2]
    scaled = rescale_intensity(smaller)[None, ..., None]
    expected = np.mean(
        [encoder.predict(copy, verbose=0)[0] for copy in copies_by_hand(scaled, ALL)], axis=0
    )
    found = cifl_tf.features_of(smaller, cifl_tf.CIFL(encoder), remappings=list(ALL))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_features_of_a_volume_by_slices(tiny_encoder, rng):
    volume = stripped(rng, 12, 13, 14)[..., 0]
    found = cifl_tf.features_of(volume, tiny_encoder, "axial", batch_size=4, remappings=("gamma",))
    copy = copies_by_hand(rescale_intensity(volume), ("gamma",))[1]
    plain = tiny_encoder(rescale_intensity(volume)[None, :, :, 5, None])[0]
    expected = (plain + tiny_encoder(copy[None, :, :, 5, None])[0]) / 2
    np.testing.assert_allclose(found[:, :, 5], expected, atol=1e-5)


def test_the_encoder_trains_elsewhere_only(tiny_encoder, tmp_path, rng):
    own = len(tiny_encoder.trainable_weights)
    assert own > 0
    segmenter = cifl_tf.build_segmenter(tiny_encoder, 3, 2, 2, 2, remappings=ALL)
    network = cifl_tf.RegistrationNetwork(tiny_encoder, (16, 16), remappings=ALL)
    cifl_tf.features_of(rng.random((16, 16)), tiny_encoder, remappings=ALL)
    assert len(tiny_encoder.trainable_weights) == own
    segmenter.save(tmp_path / "segmenter.keras")
    network.save(tmp_path / "network.keras")
    for one in (segmenter, keras.models.load_model(tmp_path / "segmenter.keras")):
        assert refs(one.trainable_weights) == refs(one.get_layer("unet").trainable_weights)
        assert refs(one.weights) > refs(one.get_layer("features").encoder.weights)
    for one in (network, keras.models.load_model(tmp_path / "network.keras")):
        assert refs(one.trainable_weights) == refs(one.dense.trainable_weights)
        assert refs(one.weights) > refs(one.extract.encoder.weights)


def refs(weights):
    return {weight.ref() for weight in weights}


def test_saved_and_loaded_a_segmenter_gives_the_same(tiny_encoder, tmp_path, rng):
    segmenter = cifl_tf.build_segmenter(tiny_encoder, 3, 2, 2, 2, remappings=["gamma", "inverted"])
    segmenter.save(tmp_path / "segmenter.keras")
    again = keras.models.load_model(tmp_path / "segmenter.keras")
    assert again.get_layer("features").remappings == ("gamma 0.4", "inverted")
    image = stripped(rng, 2, 17, 22)
    np.testing.assert_array_equal(again(image), segmenter(image))


@pytest.mark.parametrize(
    "wrong",
    [
        ("inverted", "inverted"),
        ("gamma", "gamma 0.4"),
        ("flair",),
        ("monotone-3",),
        ("inverted", ""),
        "inverted",
    ],
)
def test_unknown_and_repeated_names(tiny_encoder, wrong):
    with pytest.raises(ValueError, match=r"remappings are .*; give names out of \['inverted'"):
        FrozenFeatures(None, wrong)
    with pytest.raises(ValueError, match="remappings are"):
        cifl_tf.features_of(np.ones((16, 16)), tiny_encoder, remappings=wrong)


def test_names_are_keys_of_the_remappings():
    assert checked_remappings(list(REMAPPINGS)) == tuple(REMAPPINGS)
    assert checked_remappings(["gamma", "folded"]) == ("gamma 0.4", "folded")
    assert checked_remappings([]) == ()
