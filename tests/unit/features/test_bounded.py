import nibabel
import numpy as np
import pytest

import cifl_tf
from cifl_tf.features import bounded
from cifl_tf.features.bounded import bounded_features
from cifl_tf.features.tiling import bytes_per_voxel
from cifl_tf.images.channels import ChannelFile, save_channels
from cifl_tf.images.volumes import save_image


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
