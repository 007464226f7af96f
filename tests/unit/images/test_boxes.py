import numpy as np

from cifl_tf.images.windows import foreground_window, put, take


def test_the_window_of_the_foreground_has_a_margin_that_may_leave_the_image():
    image = np.zeros((20, 18, 16), np.float32)
    image[1:7, 9:12, 4:15] = 0.5
    window = foreground_window(image, 2)
    assert window == (slice(-1, 9), slice(7, 14), slice(2, 17))


def test_a_window_beyond_the_image_is_taken_and_put_back(rng):
    image = rng.random((5, 6, 7)).astype(np.float32)
    window = (slice(-2, 4), slice(3, 9), slice(0, 7))
    found = take(image, window)
    np.testing.assert_array_equal(found, np.pad(image, ((2, 0), (0, 3), (0, 0)))[:6, 3:9])
    again = np.zeros_like(image)
    put(found, window, again)
    expected = np.zeros_like(image)
    expected[:4, 3:6] = image[:4, 3:6]
    np.testing.assert_array_equal(again, expected)
