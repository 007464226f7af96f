import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

import cifl_tf
from cifl_tf.metrics import folding_fraction
from cifl_tf.registration.deformable import register_deformable
from cifl_tf.registration.demons import DemonsSettings

SHAPE = (40, 36, 40)
QUICK = DemonsSettings(scales=(2, 1), steps=(8, 6))


@pytest.fixture
def pair(rng):
    """A ball of blobs in air, the inverted ball after a smooth displacement, and that."""
    blobs = gaussian_filter(rng.normal(size=SHAPE), 2, mode="nearest")
    blobs = 0.5 + 0.2 * blobs / blobs.std()
    points = np.moveaxis(np.indices(SHAPE), 0, -1) - (np.array(SHAPE) - 1) / 2
    ball = np.linalg.norm(points, axis=-1) < 12
    truth = gaussian_filter(rng.normal(size=(*SHAPE, 3)), (6, 6, 6, 0), mode="nearest")
    truth *= 2 / np.abs(truth[ball]).max()
    where = np.moveaxis(np.moveaxis(np.indices(SHAPE), 0, -1) + truth, -1, 0)
    moved = map_coordinates(blobs, where, mode="nearest")
    inside = map_coordinates(ball.astype(float), where, order=1) > 0.5
    moving = np.where(ball, np.clip(blobs, 0.01, 1), 0)
    fixed = np.where(inside, np.clip(1 - moved, 0.01, 1), 0)
    return moving, fixed, truth, inside


@pytest.mark.parametrize("search", [None, (2, 1)])
def test_an_inverted_image_is_registered_without_folds(pair, search):
    moving, fixed, truth, inside = pair
    encoder = cifl_tf.Encoder.from_pretrained("shapes-2d")
    found = register_deformable(moving, fixed, encoder, settings=QUICK, search=search)
    assert found.shape == (*SHAPE, 3)
    assert found.dtype == np.float32
    error = np.abs(found - truth)[inside].mean() / np.abs(truth)[inside].mean()
    assert error < 0.6
    assert folding_fraction(found) < 1e-3


@pytest.mark.parametrize("search", [None, (2, 1)])
def test_lesions_outside_of_masks_do_not_pull(pair, search):
    *images, truth, inside = pair
    points = np.moveaxis(np.indices(SHAPE), 0, -1)
    masks = {}
    for number, (name, middle) in enumerate((("moving", 17), ("fixed", 23))):
        lesion = np.linalg.norm(points - [middle, 18, 20], axis=-1) < 5
        images[number] = np.where(lesion, 1.0, images[number])
        masks[f"{name}_mask"] = ~lesion
    encoder = cifl_tf.Encoder.from_pretrained("shapes-2d")
    near = inside & np.logical_and(*masks.values())

    def error(**masks):
        found = register_deformable(*images, encoder, settings=QUICK, search=search, **masks)
        return np.abs(found - truth)[near].mean() / np.abs(truth)[near].mean()

    assert error(**masks) < 0.27
    assert error() > 0.3


def test_channels_take_the_place_of_features(pair):
    moving, fixed, truth, inside = pair
    blank = [np.where(image > 0, 0.5, 0) for image in (moving, fixed)]
    bright = moving[..., None], np.where(fixed > 0, 1 - fixed, 0)[..., None]
    found = register_deformable(*blank, None, settings=QUICK, channels=bright)
    assert np.abs(found - truth)[inside].mean() < 0.6 * np.abs(truth)[inside].mean()


def test_air_alone_stays(tiny_encoder):
    air = np.zeros((12, 12, 12))
    settings = DemonsSettings(scales=(1,), steps=(1,))
    found = register_deformable(air, air, tiny_encoder, settings=settings)
    np.testing.assert_array_equal(found, np.zeros((12, 12, 12, 3)))


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        (((12, 12, 12), (12, 12, 11)), {}, "two of one shape"),
        (((12, 12), (12, 12)), {}, "two volumes"),
        (((12, 12, 12), (12, 12, 12)), {"num_components": 0}, "num_components"),
        (((12, 12, 12), (12, 12, 12)), {"remappings": ("red",)}, "red"),
        (((12, 12, 12), (12, 12, 12)), {"moving_mask": np.zeros((12, 12, 12))}, "moving mask"),
        (((12, 12, 12), (12, 12, 12)), {"channels": [np.zeros((12, 12, 9, 2))] * 2}, "channels"),
    ],
)
def test_bad_input_is_told(tiny_encoder, shapes, options, message):
    with pytest.raises(ValueError, match=message):
        register_deformable(*map(np.ones, shapes), tiny_encoder, **options)


def test_nothing_to_compare_is_told():
    with pytest.raises(ValueError, match="neither an encoder nor channels"):
        register_deformable(*[np.ones((12, 12, 12))] * 2, None)
