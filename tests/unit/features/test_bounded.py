import nibabel
import numpy as np
import pytest

import cifl_tf
from cifl_tf.features import bounded
from cifl_tf.features.bounded import bounded_features, slice_axis_of
from cifl_tf.features.tiling import bytes_per_voxel
from cifl_tf.images.channels import ChannelFile, save_channels
from cifl_tf.images.intensity import rescale_intensity
from cifl_tf.images.preprocessing import Preprocessing
from cifl_tf.images.volumes import save_image
from cifl_tf.models.image_model import ImageModel


@pytest.fixture(scope="module", params=[2, 3])
def encoder(request):
    return cifl_tf.build_encoder(request.param, num_features=3, num_filters=2)


@pytest.fixture
def scan(tmp_path, rng):
    path = tmp_path / "scan.nii.gz"
    array = np.zeros((60, 30, 50), np.float32)  # with air that is not encoded
    array[:12] = rng.random((12, 30, 50))
    nibabel.save(nibabel.Nifti1Image(array, np.diag([-1, 1, 1, 1])), path)
    return path


@pytest.mark.parametrize("remappings", [(), ("inverted", "gamma")])
@pytest.mark.parametrize("voxel_size", [None, 1.2])
def test_features_on_the_disk_are_those_in_memory(
    encoder, scan, tmp_path, remappings, voxel_size, monkeypatch
):
    expected = cifl_tf.features_of(scan, encoder, None, voxel_size, remappings=remappings)
    room = 20 * 30 * 30 * bytes_per_voxel(encoder)
    monkeypatch.setattr(bounded, "memory_left", lambda most, more: room)
    file = tmp_path / "out" / "features.nii"
    options = {"voxel_size": voxel_size, "remappings": remappings, "memory": 1}
    with bounded_features(scan, encoder, file, **options) as (features, volume):
        assert isinstance(features, ChannelFile)
        assert volume.data.shape == features.shape[:3]
        save_channels(features, volume, file)
    assert [*file.parent.iterdir()] == [file]
    found = nibabel.load(file)
    np.testing.assert_allclose(found.get_fdata(), expected.get_fdata(), atol=5e-5)
    np.testing.assert_array_equal(found.affine, expected.affine)


def test_features_that_fit_are_in_memory(encoder, scan, tmp_path):
    file = tmp_path / "features.nii"
    with bounded_features(scan, encoder, file) as (features, volume):
        assert isinstance(features, np.ndarray)
        save_channels(features, volume, file)
    save_image(cifl_tf.features_of(scan, encoder), tmp_path / "expected.nii")
    assert file.read_bytes() == (tmp_path / "expected.nii").read_bytes()


def test_too_little_memory_is_refused(encoder, scan, tmp_path):
    message = r"memory is 20.0 MB, but the program, .* take .* give at least .* GB"
    features = bounded_features(scan, encoder, tmp_path / "features.nii", memory=2e7)
    with pytest.raises(ValueError, match=message), features:
        pass
    with pytest.raises(ValueError, match=message):
        cifl_tf.features_of(scan, encoder, memory=2e7)
    assert [*tmp_path.iterdir()] == [scan]


@pytest.mark.parametrize(
    ("trained", "plane", "sizes", "voxel_size"),
    [
        (None, None, (1, 1, 1), None),
        (None, None, (1, 1, 4), None),
        (None, None, (4, 1, 1), 2),  # as thick slices are resampled, the features are of these
        (None, "axial", (1, 1, 1), None),
        ("sagittal", None, (1, 1, 1), None),
        ("sagittal", "axial", (4, 1, 1), None),
    ],
)
def test_the_axis_of_slices_is_that_which_the_encoder_saw(
    tmp_path, rng, trained, plane, sizes, voxel_size
):
    network = cifl_tf.build_encoder(2, num_features=3, num_filters=2)
    encoder = ImageModel(network, Preprocessing(plane=trained))
    image = nibabel.Nifti1Image(rng.random((14, 12, 10)).astype(np.float32), np.diag([*sizes, 1]))
    image = image.as_reoriented([[1, -1], [2, 1], [0, -1]])
    options = {"plane": plane, "voxel_size": voxel_size}
    with bounded_features(image, encoder, tmp_path / "features.nii", **options) as found:
        features, volume = found
    axis = slice_axis_of(encoder, volume, plane)
    scaled = np.moveaxis(rescale_intensity(volume.data), axis, 0)
    expected = network(scaled[:1, ..., None])[0]
    np.testing.assert_allclose(np.moveaxis(features, axis, 0)[0], expected, atol=1e-4)


def test_an_encoder_of_volumes_sees_no_slices(scan):
    encoder = cifl_tf.build_encoder(3, num_features=3, num_filters=2)
    assert slice_axis_of(encoder, cifl_tf.read_volume(scan), "axial") is None
