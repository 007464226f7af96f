import itertools
import json

import numpy as np
import pytest
import scipy.interpolate
import scipy.ndimage
import tensorflow as tf

from cifl_tf import Appearance, PairSynthesizer, shape_maps
from cifl_tf._compat import keras
from cifl_tf.synthesis.smooth_fields import gaussian_blur, interpolate

SHAPE, NUM_LABELS = (32, 40), 8
FLAT = Appearance(
    noise_std=(0, 0),
    zero_background=0,
    blur_std=(0, 0),
    thickness_std=0,
    bias_std=(0, 0),
    gamma_std=0,
)


def some_maps(count, shape=SHAPE, num_labels=NUM_LABELS, **arguments):
    maps = shape_maps(shape, num_labels, **arguments)
    return np.stack(list(maps.take(count).as_numpy_iterator()))


def flat_but(**changes):
    """An appearance without any randomness but the changes and the means."""
    return Appearance(**{**vars(FLAT), **changes})


def render(appearance, maps):
    """One image per map, unwarped, without the channel axis."""
    synthesizer = PairSynthesizer(maps.shape[1:-1], NUM_LABELS, (0, 0), appearance=appearance)
    return synthesizer.render(tf.constant(maps)).numpy()[..., 0]


def spread(values):
    """SD relative to the mean: how much more the values differ than measuring them does."""
    return np.std(values) / np.mean(values)


# Shapes


@pytest.mark.parametrize("shape", [(24, 32), (25, 31), (9, 8), (8, 12, 17)])
def test_maps_have_the_promised_shape_type_and_labels(shape):
    maps = shape_maps(shape, num_labels=6)
    assert maps.element_spec == tf.TensorSpec((*shape, 1), tf.int32)
    labels = some_maps(4, shape, 6)
    assert labels.dtype == np.int32
    assert labels.shape == (4, *shape, 1)
    assert labels.min() >= 0
    assert labels.max() <= 5
    assert all(len(np.unique(label_map)) >= 3 for label_map in labels)


def test_maps_use_every_label_now_and_then():
    assert set(np.unique(some_maps(12))) == set(range(NUM_LABELS))


def test_maps_are_shapes_and_not_noise():
    maps = some_maps(4)
    edges = (maps[:, 1:] != maps[:, :-1]).mean()
    assert 0.02 < edges < 0.35  # of independent labels, 7 / 8


def test_coarse_scales_give_large_shapes():
    fine, coarse = (some_maps(4, scales=[scale]) for scale in (4, 32))
    assert (fine[:, 1:] != fine[:, :-1]).mean() > 2 * (coarse[:, 1:] != coarse[:, :-1]).mean()


def test_maps_follow_from_the_seed():
    maps = some_maps(3, seed=5)
    np.testing.assert_array_equal(some_maps(3, seed=5), maps)
    assert np.mean(some_maps(3, seed=6) != maps) > 0.3
    for one, other in itertools.combinations(maps, 2):
        assert np.mean(one != other) > 0.3


def test_maps_do_not_follow_the_global_seed():
    maps = some_maps(1)
    tf.random.set_seed(123)
    np.testing.assert_array_equal(some_maps(1), maps)


def test_start_skips_maps():
    np.testing.assert_array_equal(some_maps(2, start=3), some_maps(5)[3:])


@pytest.mark.parametrize("shape", [(17, 24), (9, 12, 11)])
def test_unwarped_maps_are_the_argmax_of_smooth_noise(shape):
    scales, half = (8, 16), [(size + 1) // 2 for size in shape]
    label_map = some_maps(1, shape, 5, scales=scales, warp_std=0, seed=3, start=7)[0, ..., 0]
    key = tf.random.fold_in(tf.constant([3, 0], tf.int64), tf.constant(7, tf.int64))
    keys = tf.unstack(tf.random.split(key, 3))[1:]
    noise = np.zeros((5, *shape))
    for scale, key in zip(scales, keys, strict=True):
        coarse = [max(2, -(-size // scale)) for size in shape]
        points = tf.random.stateless_normal((1, 5, *coarse), key).numpy()
        noise += linear_interpolation(linear_interpolation(points, half), shape)[0]
    chosen = np.take_along_axis(noise, label_map[None], 0)[0]
    np.testing.assert_allclose(chosen, noise.max(0), atol=1e-5)


def test_warp_moves_the_shapes_by_voxels():
    unwarped = some_maps(4, warp_std=0)
    barely, moved = some_maps(4, warp_std=1e-4), some_maps(4, warp_std=2)
    assert np.mean(barely != unwarped) < 0.01
    assert 0.05 < np.mean(moved != unwarped) < 0.7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (32,)}, r"shape is \(32,\)"),
        ({"shape": (16, 16, 16, 16)}, "two or three sizes"),
        ({"shape": (32, 7)}, "at least 8 voxels"),
        ({"num_labels": 1}, "num_labels is 1; give at least 2"),
        ({"scales": ()}, "at least one scale"),
        ({"scales": (8, 1)}, r"scales is \(8, 1\)"),
        ({"warp_std": -1}, "warp_std -1"),
    ],
)
def test_maps_refuse(arguments, message):
    with pytest.raises(ValueError, match=message):
        shape_maps(**{"shape": SHAPE, **arguments})


# Interpolation and blur


def linear_interpolation(coarse, shape):
    """What ``interpolate`` should give, by SciPy."""
    points = [np.linspace(0, 1, size) for size in coarse.shape[2:]]
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, n) for n in shape], indexing="ij"), -1)
    values = np.moveaxis(coarse, (0, 1), (-2, -1))
    image = scipy.interpolate.RegularGridInterpolator(points, values)(grid)
    return np.moveaxis(image, (-2, -1), (0, 1))


@pytest.mark.parametrize(
    ("coarse", "shape"),
    [((3, 4), (9, 11)), ((2, 5), (8, 5)), ((4, 4), (3, 20)), ((2, 3, 4), (7, 8, 9))],
)
def test_interpolate_is_linear(coarse, shape):
    noise = np.random.default_rng(0).normal(size=(2, 3, *coarse)).astype(np.float32)
    result = interpolate(tf.constant(noise), shape)
    assert result.shape == (2, 3, *shape)
    np.testing.assert_allclose(result, linear_interpolation(noise, shape), atol=1e-5)


@pytest.mark.parametrize("spatial", [(13, 10), (9, 8, 7)])
def test_each_image_is_blurred_by_its_own_gaussian(spatial):
    image = np.random.default_rng(0).normal(size=(4, *spatial, 2)).astype(np.float32)
    stds, max_std = np.float32([0, 0.4, 1.1, 2]), 2.0
    blurred = gaussian_blur(tf.constant(image), tf.constant(stds), max_std).numpy()
    np.testing.assert_array_equal(blurred[0], image[0])
    for index in (1, 2, 3):
        expected = image[index].astype(np.float64)
        for axis in range(len(spatial)):
            expected = scipy.ndimage.gaussian_filter1d(
                expected, stds[index], axis=axis, mode="nearest", radius=6
            )
        np.testing.assert_allclose(blurred[index], expected, atol=2e-6)


def test_each_axis_is_blurred_by_its_own_gaussian():
    image = np.random.default_rng(0).normal(size=(2, 13, 10, 1)).astype(np.float32)
    stds = np.float32([[0, 1.5], [0.7, 0]])
    blurred = gaussian_blur(tf.constant(image), tf.constant(stds), max_std=1.5).numpy()
    for index, axis in ((0, 1), (1, 0)):
        expected = scipy.ndimage.gaussian_filter1d(
            image[index].astype(np.float64), stds[index, axis], axis=axis, mode="nearest", radius=5
        )
        np.testing.assert_allclose(blurred[index], expected, atol=2e-6)


# Pairs of contrasts


@pytest.mark.parametrize("shape", [(24, 31), (10, 12, 9)])
def test_without_randomness_a_view_is_constant_on_every_label(shape):
    maps = some_maps(3, shape)
    views = PairSynthesizer(shape, NUM_LABELS, warp_std=(0, 0), appearance=FLAT)(maps)
    for view in views:
        assert view.shape == maps.shape
        for image, label_map in zip(view.numpy(), maps, strict=True):
            assert (image.min(), image.max()) == (0, 1)
            values = [np.unique(image[label_map == label]) for label in np.unique(label_map)]
            assert {len(value) for value in values} == {1}
            assert len({float(value[0]) for value in values}) == len(values)


def test_without_warp_labels_stay_where_they_are():
    maps = tf.constant(some_maps(3))
    np.testing.assert_array_equal(PairSynthesizer(SHAPE, NUM_LABELS, (0, 0)).warp(maps), maps)


def test_warp_moves_every_map_by_its_own_strength():
    maps = tf.repeat(some_maps(1, scales=(8,)), 12, axis=0)
    moved = PairSynthesizer(SHAPE, NUM_LABELS, warp_std=(0, 4)).warp(maps)
    assert moved.dtype == tf.int32
    assert set(np.unique(moved)) <= set(np.unique(maps))
    changed = np.mean(moved != maps, axis=(1, 2, 3))
    assert len(set(changed)) > 8
    assert changed.min() < 0.1 < 0.2 < changed.max()
    weak = PairSynthesizer(SHAPE, NUM_LABELS, warp_std=(1e-4, 1e-4)).warp(maps[:2])
    assert np.mean(weak != maps[:2]) < 0.01


@pytest.mark.parametrize("shape", [(24, 31), (10, 12, 9)])
def test_both_views_show_the_same_warped_shapes(shape):
    maps = some_maps(4, shape)
    synthesizer = PairSynthesizer(shape, NUM_LABELS, warp_std=(4, 4), appearance=FLAT)
    view_1, view_2 = (view.numpy() for view in synthesizer(maps))
    for one, other, label_map in zip(view_1, view_2, maps, strict=True):
        regions_1, regions_2 = (np.unique(image, return_inverse=True)[1] for image in (one, other))
        together = set(zip(regions_1.ravel(), regions_2.ravel(), strict=True))
        assert len(together) == regions_1.max() + 1 == regions_2.max() + 1
        assert len(set(zip(regions_1.ravel(), label_map.ravel(), strict=True))) > len(together)


def test_views_and_images_have_contrasts_of_their_own():
    label_map = some_maps(1)
    views = PairSynthesizer(SHAPE, NUM_LABELS, (0, 0), appearance=FLAT)(
        tf.repeat(label_map, 3, axis=0)
    )
    images = np.concatenate(views)
    for one, other in itertools.combinations(images, 2):
        # Of equal contrasts 1; of opposite ones -1.
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.999
        assert np.abs(one - other).max() > 0.05


def test_views_and_images_have_noise_of_their_own():
    maps = some_maps(2, (48, 48))
    appearance = flat_but(mean=(128, 128), noise_std=(20, 20))
    synthesizer = PairSynthesizer((48, 48), NUM_LABELS, (0, 0), appearance=appearance)
    images = np.concatenate(synthesizer(maps)).reshape(4, -1)
    between = np.corrcoef(images)[np.triu_indices(4, 1)]
    assert np.abs(between).max() < 0.1  # the SD of 2304 independent voxels is 0.02


def test_zero_background_is_a_probability():
    maps = np.tile(
        np.arange(NUM_LABELS, dtype=np.int32).repeat(8).reshape(1, 8, 8, 1), (8, 1, 1, 1)
    )
    lowest = flat_but(mean=(100, 255), zero_background=1)
    assert np.all(render(lowest, maps)[maps[..., 0] == 0] == 0)
    never = render(flat_but(mean=(100, 255), zero_background=0), maps)
    assert np.any(never[maps[..., 0] == 0] > 0)


def sharpness(images):
    difference = np.abs(np.diff(images, axis=1)).mean((1, 2))
    return difference / images.std((1, 2))


def test_blur_is_drawn_per_image():
    maps = np.zeros((16, 48, 48, 1), np.int32)
    noise = {"mean": (128, 128), "noise_std": (20, 20)}
    same = sharpness(render(flat_but(**noise, blur_std=(1, 1)), maps))
    drawn = sharpness(render(flat_but(**noise, blur_std=(0, 1.5)), maps))
    assert spread(same) < 0.06
    assert spread(drawn) > 0.2


@pytest.mark.parametrize("ndim", [2, 3])
def test_slices_are_thick_along_one_axis_in_half_of_the_images(ndim):
    maps = np.zeros((32, *[20] * ndim, 1), np.int32)
    noise = {"mean": (128, 128), "noise_std": (20, 20)}
    images = render(flat_but(**noise, thickness_std=3.0), maps)
    # Neighbors along a blurred axis are alike.
    everywhere = tuple(range(1, ndim + 1))
    rough = np.stack(
        [np.abs(np.diff(images, axis=axis)).mean(everywhere) for axis in everywhere], axis=1
    )
    blurred = rough < 0.8 * rough.max(axis=1, keepdims=True)
    assert blurred.sum(axis=1).max() == 1
    assert 8 <= blurred.sum() <= 20
    assert np.all(blurred.any(axis=0))


def test_bias_is_drawn_per_image():
    # Label 0 stays black, so that scaling to [0, 1] leaves the ratios within label 1.
    maps = np.ones((16, 48, 48, 1), np.int32)
    maps[:, 0] = 0
    base = {"mean": (50, 50), "zero_background": 1, "bias_scale": 4}

    def strength(bias_std):
        images = render(flat_but(**base, bias_std=bias_std), maps)
        return np.log(images[:, 1:]).std((1, 2))

    assert spread(strength((0.4, 0.4))) < 0.15
    assert spread(strength((0, 0.4))) > 0.35
    assert strength((0, 0.4)).max() < strength((0.4, 0.4)).max() * 1.1


def test_bias_scale_is_the_smoothness_of_the_bias_field():
    maps = np.ones((2, 48, 48, 1), np.int32)
    rough, smooth = (
        render(flat_but(mean=(50, 50), bias_std=(0.3, 0.3), bias_scale=scale), maps)
        for scale in (4, 48)
    )
    assert sharpness(rough).min() > 3 * sharpness(smooth).max()


def test_gamma_is_drawn_per_image():
    maps = np.zeros((16, 48, 48, 1), np.int32)
    noise = {"mean": (128, 128), "noise_std": (20, 20)}

    def exponents(gamma_std):
        # The median of noise lies near the middle, before the exponent.
        images = render(flat_but(**noise, gamma_std=gamma_std), maps)
        return np.log(np.median(images, axis=(1, 2))) / np.log(0.5)

    same, drawn = exponents(0), exponents(0.8)
    assert spread(same) < 0.2
    np.testing.assert_allclose(same.mean(), 1, atol=0.1)
    assert spread(drawn) > 0.4
    assert drawn.min() < 0.8 < 1.25 < drawn.max()


def test_noise_is_drawn_per_image():
    # Labels 0 and 1 are black and 200, so that scaling to [0, 1] hardly changes the noise of 1.
    maps = np.ones((16, 48, 48, 1), np.int32)
    maps[:, 0] = 0
    base = {"mean": (128, 128), "zero_background": 1}
    drawn = render(flat_but(**base, noise_std=(0, 30)), maps)[:, 1:]
    same = render(flat_but(**base, noise_std=(15, 15)), maps)[:, 1:]
    assert spread(same.std((1, 2)) / same.mean((1, 2))) < 0.1
    assert spread(drawn.std((1, 2)) / drawn.mean((1, 2))) > 0.3


@pytest.mark.parametrize("shape", [(33, 24), (11, 12, 9)])
def test_default_views_are_finite_float32_in_0_to_1(shape):
    view_1, view_2 = PairSynthesizer(shape, NUM_LABELS)(some_maps(4, shape))
    for view in (view_1, view_2):
        assert view.dtype == tf.float32
        assert view.shape == (4, *shape, 1)
        assert np.all(np.isfinite(view))
        np.testing.assert_array_equal(np.min(view, axis=(1, 2)).min(axis=1), 0)
        np.testing.assert_allclose(tf.reduce_max(view, list(range(1, view.shape.rank))), 1)
    assert np.any(view_1 != view_2)


@pytest.mark.parametrize("gamma_std", [0, 0.3])
def test_an_image_of_one_value_is_zero(gamma_std):
    maps = np.full((2, 16, 16, 1), 3, np.int32)
    np.testing.assert_array_equal(render(flat_but(gamma_std=gamma_std), maps), 0)


@pytest.mark.parametrize("spatial", [SHAPE, (None, None)])
def test_sizes_may_be_unknown_in_a_graph(spatial):
    synthesizer = PairSynthesizer(SHAPE, NUM_LABELS)
    signature = [tf.TensorSpec((None, *spatial, 1), tf.int32)]
    graph = tf.function(lambda maps: synthesizer(maps), input_signature=signature)
    for count in (1, 3):
        for view in graph(some_maps(count)):
            assert view.shape == (count, *SHAPE, 1)
            assert 0 <= np.min(view) < np.max(view) <= 1


def test_synthesizer_in_a_dataset():
    pairs = shape_maps(SHAPE, NUM_LABELS).batch(2).map(PairSynthesizer(SHAPE, NUM_LABELS))
    assert [spec.shape.as_list() for spec in pairs.element_spec] == [[None, *SHAPE, 1]] * 2
    (first, _), (second, _) = pairs.take(2)
    assert first.shape == (2, *SHAPE, 1)
    assert np.any(first != second)


@pytest.mark.usefixtures("mixed_bfloat16")
def test_synthesis_is_float32_under_mixed_precision():
    synthesizer = PairSynthesizer(SHAPE, NUM_LABELS)
    assert keras.mixed_precision.global_policy().name == "mixed_bfloat16"
    for view in synthesizer(some_maps(2)):
        assert view.dtype == tf.float32
        assert len(np.unique(np.round(view.numpy() * 2**16))) > 500  # bfloat16 has 128 in [0.5, 1]


@pytest.mark.parametrize("built", ["before", "after"])
def test_warp_does_not_depend_on_the_precision_policy(built):
    maps = tf.constant(some_maps(2))
    expected = PairSynthesizer(SHAPE, NUM_LABELS, (4, 4))
    tf.random.set_seed(1)
    expected = expected.warp(maps)
    assert np.any(expected != maps)
    try:
        if built == "after":
            keras.mixed_precision.set_global_policy("mixed_bfloat16")
        synthesizer = PairSynthesizer(SHAPE, NUM_LABELS, (4, 4))
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
        tf.random.set_seed(1)
        np.testing.assert_array_equal(synthesizer.warp(maps), expected)
    finally:
        keras.mixed_precision.set_global_policy("float32")


def test_synthesizer_config_round_trip():
    synthesizer = PairSynthesizer(
        (16, 17),
        5,
        (1, 2),
        9.0,
        Appearance(mean=(10, 90), noise_std=(3, 4), gamma_std=0.1),
        name="s",
    )
    config = synthesizer.get_config()
    from_json = json.loads(json.dumps(config))
    assert PairSynthesizer.from_config(config).get_config() == config
    assert PairSynthesizer.from_config(from_json).get_config() == config
    restored = keras.saving.deserialize_keras_object(
        json.loads(json.dumps(keras.saving.serialize_keras_object(synthesizer)))
    )
    assert type(restored) is PairSynthesizer
    assert restored.get_config() == config
    assert restored.appearance == synthesizer.appearance
    assert restored.appearance.noise_std == (3.0, 4.0)
    assert (restored.name, restored.shape, restored.warp_std) == ("s", (16, 17), (1.0, 2.0))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mean": (200, 100)}, r"mean is \(200, 100\); give \(lowest, highest\)"),
        ({"noise_std": (-1, 3)}, r"noise_std is \(-1, 3\)"),
        ({"blur_std": (2, 1)}, r"blur_std is \(2, 1\)"),
        ({"bias_std": (-0.2, -0.1)}, r"bias_std is \(-0.2, -0.1\)"),
        ({"zero_background": 1.5}, "zero_background is 1.5; give a probability"),
        ({"bias_scale": 0}, "bias_scale is 0"),
        ({"gamma_std": -1}, "gamma_std is -1"),
        ({"thickness_std": -1}, "thickness_std is -1"),
    ],
)
def test_appearance_refuses(fields, message):
    with pytest.raises(ValueError, match=message):
        Appearance(**fields)
    with pytest.raises(ValueError, match=message):
        PairSynthesizer(SHAPE, appearance=fields)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (32, 7)}, "at least 8 voxels"),
        ({"num_labels": 0}, "num_labels is 0"),
        ({"warp_std": (3, 1)}, r"warp_std is \(3, 1\)"),
        ({"warp_std": (-1, 1)}, r"warp_std is \(-1, 1\)"),
        ({"warp_scale": 0}, "warp_scale is 0"),
    ],
)
def test_synthesizer_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        PairSynthesizer(**{"shape": SHAPE, **arguments})


@pytest.mark.parametrize("shape", [(2, 40, 32, 1), (2, 32, 40), (2, 32, 40, 2)])
def test_synthesizer_refuses_maps_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"was built for \(batch, 32, 40, 1\)"):
        PairSynthesizer(SHAPE, NUM_LABELS)(tf.zeros(shape, tf.int32))
