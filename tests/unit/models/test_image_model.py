import nibabel
import numpy as np
import pytest

import cifl_tf
from cifl_tf import Encoder, Segmenter
from cifl_tf._compat import keras
from cifl_tf.features.inference import apply_network
from cifl_tf.images.intensity import BEFORE_0_2, IntensityScaling
from cifl_tf.images.preprocessing import Preprocessing, exact_voxel_size
from cifl_tf.models.image_model import preprocessing_of

TRAINED_AT_2_MM = Preprocessing(exact_voxel_size((2, 2, 2)), "coronal")


def segmenter(plane="coronal", ndim=2, **kwargs):
    network = cifl_tf.build_segmenter(None, 3, ndim, 2, 2)
    preprocessing = Preprocessing(exact_voxel_size((2, 2, 2)), plane, IntensityScaling(1, 99))
    return Segmenter(network, preprocessing, ("air", "WM", "GM"), (0, 2, 41), **kwargs)


@pytest.mark.parametrize(
    "model",
    [
        lambda: Encoder(cifl_tf.build_encoder(2, 3, 2), Preprocessing(((0.8, 2.5),) * 3)),
        lambda: Encoder(cifl_tf.build_encoder(3, 3, 2)),
        lambda: segmenter(coverage=(0.1, 0.9)),
        lambda: segmenter(None, 3),
        lambda: cifl_tf.RegistrationNetwork(None, (16, 16), preprocessing=TRAINED_AT_2_MM),
    ],
)
def test_the_file_alone_is_complete(tmp_path, model):
    model = model()
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    assert type(restored) is type(model)
    for name in ("preprocessing", "label_names", "label_values", "coverage"):
        assert getattr(restored, name, None) == getattr(model, name, None)
    for ours, theirs in zip(restored.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_model_of_before_has_the_defaults(tmp_path):
    encoder = cifl_tf.build_encoder(2, 3, 2)
    assert preprocessing_of(encoder) == Preprocessing()
    network = cifl_tf.RegistrationNetwork(None, (16, 16))
    config = network.get_config()
    del config["preprocessing"]
    restored = cifl_tf.RegistrationNetwork.from_config(config)
    assert restored.preprocessing == Preprocessing(scaling=BEFORE_0_2)


def test_what_to_resample_to():
    trained = Preprocessing(exact_voxel_size((2, 2, 3)))
    assert trained.voxel_size_for((90, 100, 60), (1, 1, 1)) == (2, 2, 3)
    assert trained.voxel_size_for((90, 100, 60), (1, 1, 1), across=2) == (2, 2, None)
    assert trained.voxel_size_for((90, 100, 60), (2.05, 1.95, 3)) is None
    assert trained.voxel_size_for((90, 100, 60), (2, 2, 6), across=2) is None
    assert trained.voxel_text() == "2 x 2 x 3 mm"
    measured = Preprocessing(((0.8, 2.5),) * 3)
    assert measured.voxel_size_for((90, 100, 60), (0.1, 1, 1)) is None
    assert not measured.accepts((0.1, 1, 1))
    assert measured.accepts((0.1, 1, 1), across=0)
    assert measured.voxel_text().startswith("0.8 to 2.5 x")
    assert Preprocessing().accepts((1, 2, 300))
    with pytest.raises(ValueError, match=r"30 voxels of 0\.05 mm .* check the voxel size"):
        trained.voxel_size_for((30, 30, 30), (0.05, 0.05, 0.05))


def test_an_encoder_warns_of_another_voxel_size(tiny_encoder, rng):
    encoder = Encoder(tiny_encoder, Preprocessing(((0.8, 2.5),) * 3))
    image = nibabel.Nifti1Image(rng.random((20, 12, 20)), np.diag([0.3, 0.3, 0.3, 1]))
    with pytest.warns(UserWarning, match=r"are 0\.3 x 0\.3 x 0\.3 mm, but the model is for 0"):
        features = cifl_tf.features_of(image, encoder)
    assert features.shape == (20, 12, 20, 4)
    with pytest.warns(UserWarning, match=r"voxels are 3 x 3 x 3 mm"):
        cifl_tf.features_of(image, encoder, voxel_size=3)


def test_thick_slices_are_encoded_as_they_were_acquired(tiny_encoder, rng):
    data = rng.random((24, 20, 8)).astype(np.float32)
    thick = nibabel.Nifti1Image(data, np.diag([1, 1, 5.5, 1]))
    found = cifl_tf.features_of(thick, tiny_encoder).get_fdata()
    np.testing.assert_allclose(
        found, cifl_tf.features_of(thick, tiny_encoder, "axial").get_fdata(), atol=1e-6
    )
    even = nibabel.Nifti1Image(data, np.eye(4))
    found = cifl_tf.features_of(even, tiny_encoder).get_fdata()
    np.testing.assert_allclose(
        found, cifl_tf.features_of(even, tiny_encoder, "coronal").get_fdata(), atol=1e-6
    )


@pytest.mark.parametrize("ndim", [2, 3])
def test_an_image_is_resampled_to_the_voxel_size_of_the_training(rng, ndim):
    model = segmenter("axial" if ndim == 2 else None, ndim)
    image = nibabel.Nifti1Image(rng.random((33, 35, 18)).astype("f4"), np.diag([1, 1, 2, 1]))
    found, volume = apply_network(image, model, model.preprocessing)
    assert found.shape == (16, 18, 18, 3)
    assert found.shape[:3] == volume.data.shape
    own, _ = apply_network(image, model, model.preprocessing, voxel_size=(2, 2, None))
    np.testing.assert_array_equal(found, own)


def test_slices_beyond_the_training():
    shown = np.zeros(40, bool)
    shown[10:31] = True
    beyond = segmenter(coverage=(0.25, 0.75)).slices_beyond(shown)
    assert np.flatnonzero(beyond).tolist() == [10, 11, 12, 13, 27, 28, 29, 30]
    assert not segmenter().slices_beyond(shown).any()
    assert not segmenter(coverage=(0, 1)).slices_beyond(np.zeros(40, bool)).any()


def test_labels_that_do_not_fit():
    network = cifl_tf.build_segmenter(None, 3, 2, 2, 2)
    with pytest.raises(ValueError, match="the network has 3 labels; give a name and a value"):
        Segmenter(network, label_names=("background", "brain"))
    assert Segmenter(network).label_names == ("background", "1", "2")
    assert Segmenter(network).label_values == (0, 1, 2)


WRONG_RANGES = [(1, 2), (2, 1), (0, 1), (np.nan, 1), (-1, -1), (1, 2, 3)]


@pytest.mark.parametrize("pair", WRONG_RANGES, ids=str)
def test_voxel_sizes_that_are_none(pair):
    with pytest.raises(ValueError, match=r"voxel_range is .*; give"):
        Preprocessing((pair,) * (2 if pair == (1, 2) else 3))
