import itertools
import math

import numpy as np
import pytest
import tensorflow as tf

from cifl_tf import ContrastiveLoss, contrastive_loss
from cifl_tf._compat import keras
from cifl_tf.features.losses import spatial_contrastive_loss, unit_channels

SHAPES = [(2, 9, 11, 5), (2, 6, 5, 7, 4)]
TAUS = [(1.0, 1.0, 1.0), (1.0, 1.0, 0.1), (0.3, 0.3, 0.1), (0.5, 2.0, 0.7), (0.01, 0.01, 0.01)]


def paper_loss(views_1, views_2, tau_alpha, tau_beta, tau_gamma):
    """The equation of the paper's section 2 on float64 vectors (batch, positions, channels)."""
    losses = []
    for view_1, view_2 in zip(views_1, views_2, strict=True):
        numerator = denominator = 0.0
        for c in range(view_1.shape[-1]):
            pair = sum(a * b for a, b in zip(view_1[:, c], view_2[:, c], strict=True))
            numerator += math.exp(pair / tau_alpha)
            denominator += math.exp(pair / tau_beta)
            for other in range(view_1.shape[-1]):
                if other != c:
                    dot = sum(a * b for a, b in zip(view_1[:, c], view_1[:, other], strict=True))
                    denominator += math.exp(dot / tau_gamma)
        losses.append(-math.log(numerator / denominator))
    return np.array(losses)


def whole_image_units(features):
    """Each channel of float64 features, flattened over space, as a vector of length 1."""
    units = np.reshape(features.astype(np.float64), (len(features), -1, features.shape[-1]))
    for image, channel in itertools.product(range(len(units)), range(units.shape[-1])):
        units[image, :, channel] /= math.sqrt(sum(value**2 for value in units[image, :, channel]))
    return units


def window_starts(size, window):
    """Start and size of the equal windows along an axis, what is left over halved at both ends."""
    count = max(1, math.floor(size / window + 0.5))
    part = size // count
    return [(size - count * part) // 2 + index * part for index in range(count)], part


def windowed_units(features, crop, window):
    """Channels centered and normalized window by window; all windows weigh the same."""
    features = features.astype(np.float64)
    inside = slice(crop, -crop) if crop else slice(None)
    features = features[(slice(None), *[inside] * (features.ndim - 2))]
    axes = [window_starts(size, window) for size in features.shape[1:-1]]
    corners = list(itertools.product(*[starts for starts, _ in axes]))
    units = []
    for image in features:
        channels = []
        for channel in range(features.shape[-1]):
            vector = []
            for corner in corners:
                region = tuple(
                    slice(start, start + part)
                    for start, (_, part) in zip(corner, axes, strict=True)
                )
                values = image[region][..., channel].ravel()
                values = values - values.mean()
                vector.extend(values / math.sqrt((values**2).sum()) / math.sqrt(len(corners)))
            channels.append(vector)
        units.append(np.transpose(channels))
    return np.array(units)


def random_views(shape, similarity=0.7, seed=0):
    """Two views of features whose channels are correlated between views and with one another."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(*shape[:-1], 1))
    shared = rng.normal(size=shape) + common
    noise = math.sqrt(1 / similarity**2 - 1)
    views = [shared + noise * rng.normal(size=shape) for _ in range(2)]
    return [view.astype(np.float32) for view in views]


def orthogonal_channels(num_channels=4, size=8):
    """One image (1, size, size, channels) of cosines: orthogonal, with mean 0."""
    phase = 2 * np.pi * np.arange(size) / size
    channels = [np.cos(k * phase)[:, None] * np.ones(size) for k in range(1, num_channels + 1)]
    return np.stack(channels, -1)[None].astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES, ids=["2D", "3D"])
@pytest.mark.parametrize("taus", TAUS)
def test_literal_form_is_the_papers_equation(shape, taus):
    view_1, view_2 = random_views(shape)
    expected = paper_loss(whole_image_units(view_1), whole_image_units(view_2), *taus)
    tolerance = 1e-6 / min(taus)  # of a float32 similarity, divided by the temperature
    np.testing.assert_allclose(
        contrastive_loss(view_1, view_2, *taus), expected, rtol=2e-5, atol=tolerance
    )


def test_default_is_the_literal_form_with_the_papers_temperatures():
    view_1, view_2 = random_views(SHAPES[0])
    expected = paper_loss(whole_image_units(view_1), whole_image_units(view_2), 1.0, 1.0, 0.1)
    np.testing.assert_allclose(contrastive_loss(view_1, view_2), expected, rtol=2e-5)


@pytest.mark.parametrize(
    ("spatial", "crop", "window"),
    [
        ((12, 12), 0, 6),
        ((12, 12), 2, 4),
        ((13, 19), 1, 5),  # 11 and 17 voxels: 2 windows of 5 and 3 of 5, voxels left over
        ((15, 10), 0, 6),  # 15 / 6 is 2.5: rounded up, 3 windows
        ((9, 11), 0, 30),  # one window
        ((9, 11), 3, 3),  # one window of 3 voxels and two of 2
        ((7, 9, 10), 1, 3),
    ],
)
def test_windowed_form_matches_slow_loops(spatial, crop, window):
    view_1, view_2 = random_views((2, *spatial, 3))
    units = [windowed_units(view, crop, window) for view in (view_1, view_2)]
    for unit, view in zip(units, (view_1, view_2), strict=True):
        np.testing.assert_allclose(unit_channels(view, crop, window), unit, atol=1e-6)
    expected = paper_loss(*units, 0.3, 0.3, 0.1)
    loss = contrastive_loss(view_1, view_2, 0.3, 0.3, 0.1, crop, window)
    np.testing.assert_allclose(loss, expected, rtol=2e-5)


@pytest.mark.parametrize("window", [None, 10])
def test_unknown_sizes_give_the_same_loss(window):
    view_1, view_2 = random_views((2, 17, 22, 3))
    signature = [tf.TensorSpec([None, None, None, None])] * 2
    graph = tf.function(
        lambda a, b: contrastive_loss(a, b, crop=2, window=window), input_signature=signature
    )
    expected = contrastive_loss(view_1, view_2, crop=2, window=window)
    np.testing.assert_allclose(graph(view_1, view_2), expected, rtol=1e-6)


@pytest.mark.parametrize("taus", TAUS)
def test_identical_views_with_orthogonal_channels(taus):
    features = orthogonal_channels(num_channels=3)
    alpha, beta, _ = taus
    expected = -math.log(3 * math.exp(1 / alpha) / (3 * math.exp(1 / beta) + 3 * 2 * math.exp(0)))
    np.testing.assert_allclose(
        contrastive_loss(features, features, *taus), [expected], rtol=2e-5, atol=1e-6
    )


@pytest.mark.parametrize("taus", TAUS)
def test_identical_channels(taus):
    features = np.repeat(random_views((1, 6, 7, 1))[0], 4, axis=-1)
    alpha, beta, gamma = taus
    expected = -math.log(
        4 * math.exp(1 / alpha) / (4 * math.exp(1 / beta) + 4 * 3 * math.exp(1 / gamma))
    )
    np.testing.assert_allclose(contrastive_loss(features, features, *taus), [expected], rtol=2e-5)


@pytest.mark.parametrize(("crop", "window"), [(0, None), (1, 5)])
def test_scale_of_a_channel_does_not_matter(crop, window):
    view_1, view_2 = random_views(SHAPES[0])
    loss = contrastive_loss(view_1, view_2, crop=crop, window=window)
    scale_1, scale_2 = np.float32([1e-2, 1, 3, 50, 1e3]), np.float32([7, 0.2, 1, 1e-2, 12])
    scaled = contrastive_loss(view_1 * scale_1, view_2 * scale_2, crop=crop, window=window)
    np.testing.assert_allclose(scaled, loss, rtol=1e-5)


@pytest.mark.parametrize(("crop", "window"), [(0, None), (1, 5)])
def test_signs(crop, window):
    view_1, view_2 = random_views(SHAPES[0])
    loss = contrastive_loss(view_1, view_2, crop=crop, window=window)
    all_flipped = contrastive_loss(-view_1, -view_2, crop=crop, window=window)
    np.testing.assert_allclose(all_flipped, loss, rtol=1e-6)
    one = np.float32([-1, 1, 1, 1, 1])
    one_flipped = contrastive_loss(view_1 * one, view_2 * one, crop=crop, window=window)
    assert np.all(np.abs(one_flipped - loss) > 0.05)
    unsigned = [
        contrastive_loss(view_1 * sign, view_2 * sign, crop=crop, window=window, unsigned=True)
        for sign in (1, one)
    ]
    np.testing.assert_allclose(*unsigned, rtol=1e-6)


def test_the_negative_of_a_channel_pays_only_in_the_papers_form():
    channels = orthogonal_channels(4)
    negatives = np.concatenate([channels[..., :2], -channels[..., :2]], axis=-1)
    taus = 0.3, 0.3, 0.3
    loss, paired = (contrastive_loss(one, one, *taus)[0] for one in (channels, negatives))
    assert paired < loss
    loss, paired = (
        contrastive_loss(one, one, *taus, unsigned=True)[0] for one in (channels, negatives)
    )
    assert paired > loss
    # By hand: 4 of 12 ordered pairs of channels have a similarity of 1, the others of 0.
    own = 4 * np.exp(1 / 0.3)
    expected = np.log((own + 4 * np.exp(1 / 0.3) + 8) / own)
    np.testing.assert_allclose(paired, expected, rtol=1e-5)


def test_negatives_come_from_the_first_view_only():
    view_1 = orthogonal_channels()
    view_2 = view_1 + 0.5 * view_1.sum(-1, keepdims=True)  # channels alike
    apart, alike = contrastive_loss(view_1, view_2), contrastive_loss(view_2, view_1)
    assert alike[0] > apart[0] + 1
    # A change of view 2 that keeps its similarity to view 1 changes nothing.
    other = np.cos(np.pi * np.arange(8))[:, None, None] * np.ones((1, 8, 1), "float32")
    similar_1 = contrastive_loss(orthogonal_channels(3), orthogonal_channels(3) + other)
    similar_2 = contrastive_loss(
        orthogonal_channels(3), orthogonal_channels(3) + other * np.float32([1, -1, 1])
    )
    np.testing.assert_allclose(similar_1, similar_2, rtol=1e-5)


@pytest.mark.parametrize(("crop", "window"), [(0, None), (1, 4)])
def test_each_pair_has_its_own_loss(crop, window):
    view_1, view_2 = random_views((4, 9, 11, 3))
    together = contrastive_loss(view_1, view_2, crop=crop, window=window).numpy()
    assert together.shape == (4,)
    assert len(set(together)) == 4
    for index in range(4):
        alone = contrastive_loss(
            view_1[index : index + 1], view_2[index : index + 1], crop=crop, window=window
        )
        np.testing.assert_allclose(alone, together[index : index + 1], rtol=1e-5)


@pytest.mark.parametrize(("crop", "window"), [(0, None), (2, 4)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "case", ["different", "identical", "alike", "zero", "constant", "one dead"]
)
def test_loss_and_gradient_are_finite_at_a_low_temperature(crop, window, dtype, case):
    shape = (2, 12, 13, 4)
    view_1, view_2 = random_views(shape)
    view_1, view_2 = {
        "different": (view_1, view_2),
        "identical": (view_1, view_1),
        "alike": (np.repeat(view_1[..., :1], 4, -1),) * 2,
        "zero": (np.zeros(shape, "float32"),) * 2,
        "constant": (np.full(shape, 0.3, "float32"),) * 2,
        "one dead": (view_1 * np.float32([1, 0, 1, 1]), view_2 * np.float32([1, 0, 1, 1])),
    }[case]
    view_1, view_2 = tf.cast(view_1, dtype), tf.cast(view_2, dtype)
    with tf.GradientTape() as tape:
        tape.watch([view_1, view_2])
        loss = contrastive_loss(view_1, view_2, 0.01, 0.01, 0.01, crop, window)
    assert loss.dtype == tf.float32
    assert np.all(np.isfinite(loss))
    for gradient in tape.gradient(loss, [view_1, view_2]):
        assert gradient.dtype == dtype
        assert np.all(np.isfinite(tf.cast(gradient, tf.float32)))


def test_exponents_beyond_float32_are_summed_without_overflow():
    # Similarities near 1 at 0.01 are exponents near 100; float32 ends at 88.
    view_1, view_2 = random_views((2, 9, 11, 4), similarity=0.999)
    view_1, view_2 = view_1 + 30, view_2 + 30
    expected = paper_loss(whole_image_units(view_1), whole_image_units(view_2), 0.01, 0.02, 0.01)
    assert np.all(expected < 10)
    loss = contrastive_loss(view_1, view_2, 0.01, 0.02, 0.01)
    np.testing.assert_allclose(loss, expected, atol=2e-4)
    # All similarities near -1: exponents near -100, of which float32 would sum zeros.
    opposite = contrastive_loss(view_1, -view_2, 0.01, 0.01, 1.0)
    expected = paper_loss(whole_image_units(view_1), whole_image_units(-view_2), 0.01, 0.01, 1.0)
    np.testing.assert_allclose(opposite, expected, rtol=1e-5)


def test_windows_without_signal_hold_nothing():
    view = random_views((1, 20, 40, 2))[0]
    view[:, :, 20:, 0] = 0.3
    unit = unit_channels(view, window=20).numpy()
    np.testing.assert_allclose((unit**2).sum(1), [[0.5, 1.0]], atol=1e-3)


@pytest.mark.parametrize("taus", [(0, 1, 1), (1, -0.1, 1), (1, 1, 0.0)])
def test_temperatures_must_be_positive(taus):
    view_1, view_2 = random_views(SHAPES[0])
    with pytest.raises(ValueError, match=r"tau_\w+ is .*; give a positive number"):
        contrastive_loss(view_1, view_2, *taus)


@pytest.mark.parametrize(("size", "crop"), [(8, 4), (9, 5), (9, 20)])
def test_crop_must_leave_something(size, crop):
    view_1, view_2 = random_views((1, size, 50, 3))
    with pytest.raises(ValueError, match=rf"nothing is left .*\({size}, 50\).* {crop} voxels"):
        contrastive_loss(view_1, view_2, crop=crop)


def test_crop_may_leave_one_row():
    view_1, view_2 = random_views((1, 9, 50, 3))
    np.testing.assert_allclose(
        contrastive_loss(view_1, view_2, crop=4),
        contrastive_loss(view_1[:, 4:5, 4:46], view_2[:, 4:5, 4:46]),
        rtol=1e-5,
    )


@pytest.mark.parametrize("window", [None, 5])
def test_the_cropped_border_is_ignored(window):
    view_1, view_2 = random_views((2, 16, 17, 3))
    loss = contrastive_loss(view_1, view_2, crop=3, window=window)
    ring = np.ones((1, 16, 17, 1), bool)
    ring[:, 3:-3, 3:-3] = False
    junk = np.where(ring, np.random.default_rng(1).normal(0, 1e3, view_1.shape), 0)
    changed = contrastive_loss(view_1 + junk, view_2 - 2 * junk, crop=3, window=window)
    np.testing.assert_array_equal(changed, loss)
    inside = view_1.copy()
    inside[:, 3, 3:-3] += 1  # the outermost row that counts
    assert np.all(contrastive_loss(inside, view_2, crop=3, window=window) != loss)


def test_a_signal_at_the_border_alone_wins_only_the_literal_loss():
    rng = np.random.default_rng(0)
    shape, crop = (1, 40, 40, 4), 8
    ring = np.ones((1, 40, 40, 1), bool)
    ring[:, 1:-1, 1:-1] = False
    at_border = np.where(ring, rng.normal(0, 100, shape), 0)  # the same in any image
    collapsed = [np.float32(at_border + rng.normal(size=shape)) for _ in range(2)]
    signal = rng.normal(size=shape)
    honest = [np.float32(signal + rng.normal(size=shape)) for _ in range(2)]

    literal = ContrastiveLoss(crop=0, window=None)
    assert literal(*collapsed) < literal(*honest) - 0.1
    windowed = ContrastiveLoss(crop=crop, window=8)
    assert windowed(*honest) < windowed(*collapsed) - 0.5


def test_keras_loss_is_the_mean_over_pairs():
    view_1, view_2 = random_views((3, 24, 25, 3))
    arguments = {"tau_alpha": 0.4, "tau_beta": 0.5, "tau_gamma": 0.2, "crop": 3, "window": 6}
    each = contrastive_loss(view_1, view_2, **arguments)
    np.testing.assert_allclose(ContrastiveLoss(**arguments)(view_1, view_2), np.mean(each))
    unreduced = ContrastiveLoss(**arguments, reduction="none")(view_1, view_2)
    np.testing.assert_allclose(unreduced, each)


def test_keras_loss_defaults_to_the_form_that_does_not_collapse():
    view_1, view_2 = random_views((2, 40, 41, 3))
    expected = contrastive_loss(view_1, view_2, 0.3, 0.3, 0.3, crop=8, window=20)
    np.testing.assert_allclose(ContrastiveLoss()(view_1, view_2), np.mean(expected))


def test_both_orders_are_the_mean_of_the_two():
    view_1, view_2 = random_views((3, 24, 25, 3))
    taus, form = (0.4, 0.5, 0.2), {"crop": 3, "window": 6}
    there, back = (
        paper_loss(windowed_units(first, **form), windowed_units(second, **form), *taus)
        for first, second in ((view_1, view_2), (view_2, view_1))
    )
    assert np.all(np.abs(there - back) > 1e-3)
    loss = ContrastiveLoss(*taus, **form, both_orders=True, reduction="none")
    np.testing.assert_allclose(loss(view_1, view_2), (there + back) / 2, rtol=2e-5)
    np.testing.assert_allclose(loss(view_2, view_1), loss(view_1, view_2), rtol=1e-6)


def slow_spatial_loss(view_1, view_2, tau, crop, stride):
    """InfoNCE of every voxel of a grid among all voxels of it, in loops over float64."""
    losses = []
    for image_1, image_2 in zip(np.float64(view_1), np.float64(view_2), strict=True):
        places = [*itertools.product(*[range(crop, n - crop, stride) for n in image_1.shape[:-1]])]
        grids = [np.array([image[place] for place in places]) for image in (image_1, image_2)]
        grids = [grid - grid.mean(axis=0) for grid in grids]
        terms = []
        for x, one in enumerate(grids[0]):
            cosines = [one @ other / math.sqrt((one @ one) * (other @ other)) for other in grids[1]]
            total = sum(math.exp(cosine / tau) for cosine in cosines)
            terms.append(-math.log(math.exp(cosines[x] / tau) / total))
        losses.append(sum(terms) / len(terms))
    return np.array(losses)


@pytest.mark.parametrize("shape", SHAPES, ids=["2D", "3D"])
@pytest.mark.parametrize(("tau", "crop", "stride"), [(0.1, 0, 2), (1.0, 1, 1), (0.5, 1, 3)])
def test_spatial_loss_matches_slow_loops(shape, tau, crop, stride):
    view_1, view_2 = random_views(shape)
    loss = spatial_contrastive_loss(view_1, view_2, tau, crop, stride)
    expected = slow_spatial_loss(view_1, view_2, tau, crop, stride)
    np.testing.assert_allclose(loss, expected, rtol=2e-5)


def test_spatial_loss_falls_where_every_voxel_is_its_own_match():
    view = random_views((1, 16, 16, 8))[0]
    right = spatial_contrastive_loss(view, view, stride=2)
    moved = spatial_contrastive_loss(view, np.roll(view, 2, axis=1), stride=2)
    same_everywhere = spatial_contrastive_loss(view, np.ones_like(view), stride=2)
    assert right[0] < same_everywhere[0] < moved[0]
    np.testing.assert_allclose(same_everywhere, [math.log(64)], rtol=1e-5)


@pytest.mark.parametrize(("arguments", "name"), [({"tau": 0}, "tau"), ({"stride": 0}, "stride")])
def test_spatial_loss_refuses_numbers_that_are_not_positive(arguments, name):
    view_1, view_2 = random_views(SHAPES[0])
    with pytest.raises(ValueError, match=rf"{name} is 0; give"):
        spatial_contrastive_loss(view_1, view_2, **arguments)


@pytest.mark.parametrize("both_orders", [False, True])
def test_keras_loss_adds_the_weighted_spatial_term(both_orders):
    view_1, view_2 = random_views((2, 24, 25, 3))
    form = {"crop": 3, "window": 6, "both_orders": both_orders, "reduction": "none"}
    without = ContrastiveLoss(**form)(view_1, view_2)
    orders = [(view_1, view_2), (view_2, view_1)][: 1 + both_orders]
    spatial = np.mean([slow_spatial_loss(*views, 0.1, 3, 4) for views in orders], axis=0)
    loss = ContrastiveLoss(**form, spatial_weight=0.5)(view_1, view_2)
    np.testing.assert_allclose(loss, without + 0.5 * spatial, rtol=2e-5)


def test_keras_loss_refuses_a_negative_spatial_weight():
    with pytest.raises(ValueError, match=r"spatial_weight is -1"):
        ContrastiveLoss(spatial_weight=-1)


@pytest.mark.parametrize(("window", "both_orders"), [(None, False), (6, True)])
def test_keras_loss_config_round_trip(window, both_orders):
    loss = ContrastiveLoss(
        0.4,
        0.5,
        0.2,
        3,
        window,
        both_orders,
        reduction="sum",
        name="mine",
        spatial_weight=0.3,
        unsigned=True,
    )
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(restored) is ContrastiveLoss
    assert restored.get_config() == loss.get_config()
    view_1, view_2 = random_views((2, 24, 25, 3))
    assert restored(view_1, view_2) == loss(view_1, view_2)


def test_crop_that_leaves_nothing_of_an_unknown_size():
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])] * 2)
    def loss(features_1, features_2):
        return contrastive_loss(features_1, features_2, crop=5)

    small = tf.ones((1, 10, 12, 3))
    with pytest.raises(tf.errors.InvalidArgumentError, match="no larger than the border"):
        loss(small, small)
