import nibabel
import numpy as np
import pytest

import cifl_tf
from cifl_tf._compat import keras
from cifl_tf.augmentation.test_time import average_over_copies
from cifl_tf.images.intensity import rescale_intensity
from cifl_tf.segmentation import windows
from cifl_tf.segmentation.windows import OVERLAP, segment_in_windows

SHAPE = (61, 120, 22)


@pytest.fixture(scope="module", params=["features", "features and image", "intensities"])
def network(request):
    keras.utils.set_random_seed(2)
    encoder = None
    if request.param != "intensities":
        encoder = cifl_tf.build_encoder(3, num_features=3, num_filters=2)
    return cifl_tf.build_segmenter(
        encoder, 3, 3, num_filters=2, num_levels=2, with_image=request.param.endswith("image")
    )


@pytest.fixture
def image(rng):
    return rescale_intensity(rng.random(SHAPE).cumsum(axis=0) % 3)


@pytest.fixture
def small(monkeypatch):
    """A memory that holds the layers of the two halves of the image, but not of the whole."""

    def choose(network, share=2 / 3):
        room = share * np.prod(SHAPE) * windows._bytes_per_voxel(network)
        monkeypatch.setattr(windows, "memory_left", lambda most, more: room)

    return choose


def test_windows_are_near_the_whole_and_equal_in_the_middle(network, image, small):
    whole = network.predict_on_batch(image[None, ..., None])[0]
    small(network)
    found = segment_in_windows(image, cifl_tf.Segmenter(network))
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)
    difference = np.abs(found - whole).max(axis=(0, 2, 3))
    # A voxel at the border of one window would differ by a tenth.
    assert 1e-5 < difference.max() < 5e-3
    middle = SHAPE[1] // 2
    np.testing.assert_allclose(difference[: middle - OVERLAP - 4], 0, atol=2e-5)
    np.testing.assert_allclose(difference[middle + OVERLAP + 4 :], 0, atol=2e-5)
    small(network, share=1)
    assert segment_in_windows(image, network) is None


def test_a_segmenter_of_files_obeys_its_memory(network, image, small):
    segmenter = cifl_tf.Segmenter(network)
    nifti = nibabel.Nifti1Image(image, np.diag([-1, 1, 1, 1]))
    whole = segmenter.segment(nifti).probabilities.get_fdata()
    small(network)
    found = segmenter.segment(nifti, memory=1).probabilities.get_fdata()
    np.testing.assert_allclose(found, whole, atol=5e-3)
    assert (found != whole).any()


def test_too_little_memory_is_refused(network, image):
    nifti = nibabel.Nifti1Image(image, np.eye(4))
    with pytest.raises(ValueError, match=r"memory is 1.0 MB, but .* take .*; give at least"):
        cifl_tf.Segmenter(network).segment(nifti, memory=1e6)


def test_other_networks_are_left_alone(image):
    volume = keras.Input((None, None, None, 1))
    network = keras.Model(volume, keras.layers.Conv3D(2, 3, padding="same")(volume))
    assert segment_in_windows(image, network, memory=1) is None


@pytest.mark.parametrize("copies", [{"flip_axis": 0}, {"flip_axis": 1, "zoom_factors": (1.1,)}])
def test_copies_of_an_image_go_through_windows_one_by_one(network, image, small, copies):
    averaged = average_over_copies(network, **copies)
    whole = averaged.predict_on_batch(image[None, ..., None])[0]
    small(network)
    found = segment_in_windows(image, cifl_tf.Segmenter(averaged))
    np.testing.assert_allclose(found, whole, atol=5e-3)
    assert np.abs(found - whole).max() > 1e-6
    small(network, share=1.4)  # for the largest copy too
    assert segment_in_windows(image, averaged) is None
