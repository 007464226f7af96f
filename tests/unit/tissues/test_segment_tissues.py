import nibabel
import numpy as np
import pytest
import tensorflow as tf

from balls import ball_stripper
from cifl_tf._compat import keras
from cifl_tf.images.preprocessing import Preprocessing, exact_voxel_size
from cifl_tf.segmentation.segmenter import Segmenter
from cifl_tf.tissues.network import TISSUES
from cifl_tf.tissues.segment import segment_tissues, with_deep_between

GRID = np.array([[0, 0, -4.0, 60], [4, 0, 0, -70], [0, 4, 0, -50], [0, 0, 0, 1]])


class Levels(keras.layers.Layer):
    """Probabilities by the intensity of a voxel: nothing, then white matter, then gray matter."""

    def call(self, image):
        level = tf.cast(image > 0.02, tf.int32) + tf.cast(image > 0.75, tf.int32)
        return tf.one_hot(level[..., 0], 1 + len(TISSUES))


def model_of(layer, **options):
    image = keras.Input((None, None, None, 1))
    size = Preprocessing(exact_voxel_size([4, 4, 4]))
    names = ["background", *TISSUES.values()]
    return Segmenter(keras.Model(image, layer(image)), size, names, **options)


@pytest.fixture
def segmenter():
    return model_of(Levels(), field_margin=8.0)


@pytest.fixture
def stripper():
    return ball_stripper()


def shells(*radii_and_values):
    """A scan of shells around the middle, of 4 mm, with axes in an odd order."""
    shape = (36, 34, 32)
    middle = (np.array(shape) - 1) / 2
    distance = 4 * np.linalg.norm(np.moveaxis(np.indices(shape), 0, -1) - middle, axis=-1)
    radii, values = zip(*radii_and_values, strict=True)
    scan = np.select([distance < radius for radius in radii], values).astype(np.float32)
    return nibabel.Nifti1Image(scan, GRID), distance


def test_the_skull_of_a_head_gets_no_label(segmenter, stripper):
    head, distance = shells((20, 100), (40, 60), (60, 90))
    found = segment_tissues(head, segmenter, stripper=stripper)
    labels = np.asarray(found.segmentation.labels.dataobj)
    assert found.brain.head is not None
    assert not labels[distance > 46].any()
    assert (labels[distance < 18] == 2).all()
    assert (labels[(distance > 24) & (distance < 34)] == 1).all()
    assert found.brain.volume == pytest.approx(4 / 3 * np.pi * 40**3, rel=0.1)
    assert sum(found.shares.values()) == pytest.approx(1)


def test_a_brain_keeps_all_that_the_scan_shows(segmenter, stripper):
    brain, distance = shells((20, 100), (45, 60))  # 5 mm more than the stripper finds
    found = segment_tissues(brain, segmenter, stripper=stripper)
    assert found.brain.head is None
    labels = np.asarray(found.segmentation.labels.dataobj)
    np.testing.assert_array_equal(labels > 0, distance < 45)


@pytest.mark.parametrize(("middle", "doubted"), [(60, True), (90, False)])
def test_the_size_of_a_brain_that_came_without_skull_is_doubted(segmenter, middle, doubted):
    brain, distance = shells((20, 100), (44, 60))
    larger = nibabel.Nifti1Image(np.asarray(brain.dataobj), GRID @ np.diag([middle / 60] * 3 + [1]))
    ml = (distance < 44).sum() * 0.064 * (middle / 60) ** 3
    doubts = segment_tissues(larger, segmenter, stripped=True).doubts
    assert any(f"{ml:.0f} ml" in doubt for doubt in doubts) == doubted


def test_what_the_user_says_goes(segmenter, stripper):
    brain, distance = shells((20, 100), (48, 60))
    cut = segment_tissues(brain, segmenter, stripped=False, stripper=stripper)
    assert not np.asarray(cut.segmentation.labels.dataobj)[distance > 44].any()
    head, distance = shells((20, 100), (40, 60), (60, 90))
    whole = segment_tissues(head, segmenter, stripped=True)
    assert np.asarray(whole.segmentation.labels.dataobj)[distance < 58].all()


def test_the_field_of_view_does_not_change_labels():
    """The network sees the brain with the same margin, however large the scan is."""
    seen = []

    class Watch(Levels):
        def call(self, image):
            seen.append(tuple(image.shape))
            return super().call(image)

    watching = model_of(Watch(), field_margin=8.0)
    brain, _ = shells((20, 100), (40, 60))
    wide = nibabel.Nifti1Image(np.pad(brain.get_fdata(), 9), GRID)
    watching.run_eagerly = True
    watching.compile(run_eagerly=True)
    first, second = (watching.segment(one) for one in (brain, wide))
    assert seen[-1] == seen[-2] == (1, 24, 24, 24, 1)
    np.testing.assert_array_equal(
        np.asarray(first.labels.dataobj), np.asarray(second.labels.dataobj)[9:-9, 9:-9, 9:-9]
    )


def test_an_uncertain_network_is_doubted():
    class Guess(keras.layers.Layer):
        def call(self, image):
            return tf.nn.softmax(tf.concat([image, 1.1 * image, image, image, image, image], -1))

    unsure = model_of(Guess())
    brain, _ = shells((40, 60), (44, 70))
    found = segment_tissues(brain, unsure, stripped=True)
    assert found.certainty < 0.3
    assert "uncertain" in found.doubts[-1]


def test_nothing_outside_of_the_brain_gets_a_label():
    class Everything(Levels):
        def call(self, image):
            return super().call(image + 0.5)

    brain, distance = shells((20, 100), (40, 60))
    for refined in (False, True):
        found = segment_tissues(brain, model_of(Everything()), stripped=True, refined=refined)
        labels = np.asarray(found.segmentation.labels.dataobj)
        np.testing.assert_array_equal(labels > 0, distance < 40)


def test_a_segmenter_of_other_labels_is_refused():
    class Slices(keras.layers.Layer):
        def call(self, image):
            return tf.nn.softmax(tf.concat([image, image], -1))

    brain, _ = shells((20, 100), (40, 60))
    layer = keras.Input((None, None, None, 1))
    lesions = Segmenter(keras.Model(layer, Slices()(layer)), label_names=["background", "lesion"])
    flat = keras.Input((None, None, 1))
    slices = Segmenter(
        keras.Model(flat, Slices()(flat)), label_names=["background", "white matter"]
    )
    for other in (lesions, slices):
        with pytest.raises(ValueError, match="cifl segment apply"):
            segment_tissues(brain, other, stripped=True)


@pytest.mark.parametrize("stripped", [True, None])
@pytest.mark.parametrize("shape", [(36, 34), (36, 34, 1)])
def test_a_slice_alone_is_refused_in_one_line(segmenter, stripper, stripped, shape, tmp_path):
    brain, _ = shells((20, 100), (40, 60))
    scan = nibabel.Nifti1Image(np.asarray(brain.dataobj)[:, :, 16].reshape(shape), GRID)
    nibabel.save(scan, tmp_path / "slice.nii.gz")
    with pytest.raises(ValueError, match=r"slice\.nii\.gz is a single slice"):
        segment_tissues(tmp_path / "slice.nii.gz", segmenter, stripped, stripper)


def test_an_image_in_memory_is_named_in_words(segmenter):
    scan = nibabel.Nifti1Image(np.random.default_rng(0).random((20, 20, 1)), GRID)
    with pytest.raises(ValueError, match=r"^the image is a single slice"):
        segmenter.segment(scan)


def test_deep_gray_matter_looks_like_something_between_white_and_gray_matter():
    means = np.array([0.8, 0.4, 0.1, 0.05, 0.6])
    np.testing.assert_allclose(with_deep_between(means), [0.8, 0.4, 0.1, 0.3, 0.6])
    np.testing.assert_allclose(with_deep_between(1 - means), [0.2, 0.6, 0.9, 0.7, 0.4])
