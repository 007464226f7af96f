import nibabel
import numpy as np
import pytest

import cifl_tf
from cifl_tf.images.intensity import rescale_intensity

OBLIQUE = np.array(
    [[0.0, 0.2, -1.9, 30], [-2.1, 0.1, 0.0, 40], [0.1, 2.0, 0.1, -50], [0, 0, 0, 1]], np.float32
)


@pytest.fixture
def head(rng, tmp_path):
    """A file whose axes are neither in canonical order nor direction."""
    image = nibabel.Nifti1Image(rng.random((12, 14, 16)).astype(np.float32) * 900, OBLIQUE)
    nibabel.save(image, tmp_path / "head.nii.gz")
    return tmp_path / "head.nii.gz"


def test_slice_is_the_encoder_on_scaled_intensities(tiny_encoder, rng):
    image = rng.normal(size=(21, 30)) * 50 + 1000
    expected = tiny_encoder(rescale_intensity(image)[None, ..., None])[0]
    features = cifl_tf.features_of(image, tiny_encoder)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, atol=1e-5)


@pytest.mark.parametrize(("plane", "axis"), [("sagittal", 0), ("coronal", 1), ("axial", 2)])
def test_volume_goes_slice_by_slice(tiny_encoder, rng, plane, axis):
    volume = rng.random((9, 10, 11)).astype(np.float32)
    features = cifl_tf.features_of(volume, tiny_encoder, plane=plane, batch_size=4)
    assert features.shape == (9, 10, 11, 4)
    scaled = rescale_intensity(volume)
    for index in range(volume.shape[axis]):
        expected = tiny_encoder(scaled.take(index, axis)[None, ..., None])[0]
        np.testing.assert_allclose(features.take(index, axis), expected, atol=1e-5)


def test_volume_encoder_sees_the_whole_volume(rng):
    encoder = cifl_tf.build_encoder(ndim=3, num_features=2, num_filters=2)
    volume = rng.random((9, 10, 11)).astype(np.float32)
    expected = encoder(rescale_intensity(volume)[None, ..., None])[0]
    np.testing.assert_allclose(cifl_tf.features_of(volume, encoder), expected, atol=1e-5)


def test_file_comes_back_on_its_own_grid(head, tiny_encoder):
    features = cifl_tf.features_of(head, tiny_encoder, plane="axial")
    assert features.shape == (12, 14, 16, 4)
    np.testing.assert_array_equal(features.affine, OBLIQUE)
    # The axial slices of this file, whose axes are P, S, L, lie along its second axis.
    canonical = nibabel.as_closest_canonical(nibabel.load(head))
    data = rescale_intensity(canonical.get_fdata(dtype=np.float32))
    expected = tiny_encoder(data[None, :, :, 3, None])[0]
    oriented = nibabel.as_closest_canonical(features).get_fdata()
    np.testing.assert_allclose(oriented[:, :, 3], expected, atol=1e-5)


def test_file_is_resampled_and_back(head, tiny_encoder):
    features = cifl_tf.features_of(head, tiny_encoder, voxel_size=3.0)
    assert features.shape == (12, 14, 16, 4)
    np.testing.assert_array_equal(features.affine, OBLIQUE)
    native = cifl_tf.features_of(head, tiny_encoder)
    assert np.abs(features.get_fdata() - native.get_fdata()).max() > 0.1


def test_model_gives_its_encoder_and_frames_are_chosen(tiny_encoder, rng):
    frames = rng.random((8, 9, 10, 2)).astype(np.float32)
    image = nibabel.Nifti1Image(frames, np.eye(4))
    chosen = cifl_tf.features_of(image, cifl_tf.CIFL(tiny_encoder), volume_index=1)
    expected = cifl_tf.features_of(frames[..., 1], tiny_encoder)
    np.testing.assert_allclose(chosen.get_fdata(), expected, atol=1e-5)


def test_file_of_one_slice(tiny_encoder, rng):
    image = rng.random((20, 1, 22)).astype(np.float32)
    features = cifl_tf.features_of(
        nibabel.Nifti1Image(image, np.eye(4)), tiny_encoder, plane="axial"
    )
    expected = cifl_tf.features_of(image[:, 0], tiny_encoder)
    np.testing.assert_allclose(features.get_fdata()[:, 0], expected, atol=1e-5)


def test_zero_image_gives_finite_features(tiny_encoder):
    assert np.isfinite(cifl_tf.features_of(np.zeros((16, 16)), tiny_encoder)).all()


def test_errors(tiny_encoder, rng):
    volume_encoder = cifl_tf.build_encoder(ndim=3, num_features=2, num_filters=2)
    with pytest.raises(ValueError, match=r"shape \(8, 8\), but the network takes 3D"):
        cifl_tf.features_of(np.ones((8, 8)), volume_encoder)
    slice_image = nibabel.Nifti1Image(rng.random((8, 8, 1)), np.eye(4))
    with pytest.raises(ValueError, match="single slice"):
        cifl_tf.features_of(slice_image, volume_encoder)
    with pytest.raises(ValueError, match="without batch and channel"):
        cifl_tf.features_of(np.ones((1, 8, 8, 1)), tiny_encoder)
    with pytest.raises(ValueError, match="2 voxels that are NaN or infinite"):
        cifl_tf.features_of(np.array([[np.nan, 1], [np.inf, 0]]), tiny_encoder)
    with pytest.raises(ValueError, match="plane is 'oblique'"):
        cifl_tf.features_of(np.ones((8, 8, 8)), tiny_encoder, plane="oblique")
    with pytest.raises(ValueError, match="for files"):
        cifl_tf.features_of(np.ones((8, 8)), tiny_encoder, voxel_size=2)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        cifl_tf.features_of("nowhere.nii", tiny_encoder)


def test_load_encoder(tmp_path, tiny_encoder, rng):
    image = rng.random((16, 16))
    tiny_encoder.save(tmp_path / "encoder.keras")
    for path in (tmp_path, str(tmp_path / "encoder.keras")):
        loaded = cifl_tf.load_encoder(path)
        np.testing.assert_array_equal(
            cifl_tf.features_of(image, loaded), cifl_tf.features_of(image, tiny_encoder)
        )
    with pytest.raises(ValueError, match="does not exist"):
        cifl_tf.load_encoder(tmp_path / "other.keras")
    (tmp_path / "damaged.keras").write_bytes((tmp_path / "encoder.keras").read_bytes()[:5000])
    with pytest.raises(ValueError, match="not a network in the Keras format"):
        cifl_tf.load_encoder(tmp_path / "damaged.keras")


def test_a_slice_of_a_volume_is_one_slice(tiny_encoder, rng):
    image = rng.random((20, 22, 1)).astype(np.float32)
    np.testing.assert_array_equal(
        cifl_tf.features_of(image, tiny_encoder, plane="coronal")[:, :, 0],
        cifl_tf.features_of(image[..., 0], tiny_encoder),
    )


def test_a_saved_model_gives_its_encoder(tmp_path, tiny_encoder):
    cifl_tf.CIFL(tiny_encoder).save(tmp_path / "cifl.keras")
    assert cifl_tf.load_encoder(tmp_path / "cifl.keras").input_shape == tiny_encoder.input_shape


def test_a_network_file_with_a_flipped_byte(tmp_path, tiny_encoder):
    tiny_encoder.save(tmp_path / "encoder.keras")
    content = bytearray((tmp_path / "encoder.keras").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "encoder.keras").write_bytes(content)
    with pytest.raises(ValueError, match="not a network in the Keras format"):
        cifl_tf.load_encoder(tmp_path)
