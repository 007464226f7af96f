import nibabel
import numpy as np
import pytest
import tensorflow as tf

from balls import AFFINE, ball_head
from cifl_tf._compat import keras
from cifl_tf.images.preprocessing import Preprocessing, exact_voxel_size
from cifl_tf.stripping.field_of_view import FIELD_MM, head_window
from cifl_tf.stripping.losses import FARTHEST, DistanceLoss, brain_dice
from cifl_tf.stripping.stripper import Stripper


class Bright(keras.layers.Layer):
    """A distance in mm that is negative where the image is bright."""

    def call(self, image):
        return 10.0 * (0.7 - image)


@pytest.fixture(scope="module")
def by_brightness():
    """A stripper that finds what is bright, at 4 mm."""
    image = keras.Input((None, None, None, 1))
    network = keras.Model(image, Bright()(image))
    return Stripper(network, Preprocessing(exact_voxel_size([4, 4, 4])))


def test_the_mask_is_on_the_grid_of_the_image(by_brightness):
    head, brain = ball_head()
    turned = (
        nibabel.as_closest_canonical(head)
        .slicer[::-1]
        .as_reoriented(np.array([[1, -1], [2, 1], [0, 1]]))
    )
    found = by_brightness.strip(turned)
    for image in (found.mask, found.brain, found.distance, found.image):
        assert image.shape == turned.shape
        np.testing.assert_allclose(image.affine, turned.affine)
    mask = np.asarray(found.mask.dataobj)
    assert mask.dtype == np.uint8
    assert found.volume_ml == pytest.approx(np.sum(np.asarray(brain.dataobj)) * 0.064, rel=0.02)
    inside = np.asarray(turned.dataobj)[mask > 0]
    np.testing.assert_allclose(np.asarray(found.brain.dataobj)[mask > 0], inside)
    assert (np.asarray(found.brain.dataobj)[mask == 0] == 0).all()


def test_a_far_bright_spot_and_a_hole_are_no_matter(by_brightness):
    head, brain = ball_head()
    data = np.asarray(head.dataobj).copy()
    data[1:3, 1:3, 30:32] = 95
    data[18, 20, 19] = 20
    found = by_brightness.strip(nibabel.Nifti1Image(data, AFFINE))
    np.testing.assert_array_equal(np.asarray(found.mask.dataobj), np.asarray(brain.dataobj))


def test_a_border_makes_the_mask_wider(by_brightness):
    head, _ = ball_head()
    exact, wide = (by_brightness.strip(head, border).volume_ml for border in (0.0, 5.0))
    assert wide > 2 * exact
    with pytest.raises(ValueError, match="border is nan; give a number of mm"):
        by_brightness.strip(head, float("nan"))


def test_air_of_negative_intensity_stays_outside(by_brightness):
    head, _ = ball_head()
    low = nibabel.Nifti1Image(np.asarray(head.dataobj) - np.int16(1000), AFFINE)
    found = by_brightness.strip(low)
    outside = np.asarray(found.mask.dataobj) == 0
    assert (np.asarray(found.brain.dataobj)[outside] == -1000).all()


def test_an_image_without_a_brain_is_refused(by_brightness):
    head, _ = ball_head()
    with pytest.raises(ValueError, match="no brain was found in the image; check"):
        by_brightness.strip(head, -15.0)


def test_a_volume_that_no_brain_has_is_doubted(by_brightness):
    found = by_brightness.strip(ball_head()[0])
    assert "the mask has 270 ml" in found.doubt
    assert "700 to 2200 ml" in found.doubt


def test_the_field_of_view_begins_above_the_head_and_ignores_the_neck():
    image = np.zeros((60, 70, 90), np.float32)
    image[20:40, 15:55, 30:80] = 0.8  # a head up to slice 79
    image[0:60, 0:70, 0:10] = 0.8  # shoulders
    window = head_window(image, 4.0)
    assert [one.stop - one.start for one in window] == [round(size / 4) for size in FIELD_MM]
    assert window[2].stop == 80 + 3
    middle = [(one.start + one.stop) / 2 for one in window]
    assert middle[:2] == [30, 35]


def test_the_loss_counts_errors_near_the_surface_most():
    loss = DistanceLoss()
    near, far = (float(loss([[d]], [[d + 1.0]])) for d in (0.0, 20.0))
    assert near == pytest.approx(6)
    assert far == pytest.approx(1, abs=1e-3)
    # Beyond the farthest distance that is told, more is as right, and less is wrong.
    assert float(loss([[60.0]], [[30.0]])) == 0
    assert float(loss([[60.0]], [[20.0]])) == pytest.approx(FARTHEST - 20, rel=1e-3)
    prediction = tf.Variable([[40.0]])
    with tf.GradientTape() as tape:
        value = loss([[10.0]], prediction)
    assert float(tape.gradient(value, prediction)[0, 0]) > 0


def test_dice_of_distances():
    truth = tf.constant([-1.0, -1, 1, 1])
    found = tf.constant([-2.0, 1, -1, 5])
    assert float(brain_dice(truth, found)) == pytest.approx(0.5)
