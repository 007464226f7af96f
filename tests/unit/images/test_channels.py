import nibabel
import numpy as np
import pytest

from cifl_tf.images.channels import ChannelFile, save_channels
from cifl_tf.images.volumes import read_volume, save_image, to_original

SHAPE = (6, 5, 4, 3)
TURNED = np.array([[0, 0, 2, -7], [-1.5, 0, 0, 3], [0, -1, 0, 4], [0, 0, 0, 1.0]])


@pytest.mark.parametrize("name", ["features.nii", "features.nii.gz"])
@pytest.mark.parametrize("voxel_size", [None, 2])
@pytest.mark.parametrize("shape", [(9, 8, 7), (9, 8)])
def test_the_file_is_that_of_the_whole_image(rng, tmp_path, name, voxel_size, shape):
    volume = read_volume(nibabel.Nifti1Image(rng.random(shape), TURNED), voxel_size=voxel_size)
    channels = rng.random((*volume.data.shape, 3)).astype(np.float32)
    save_image(to_original(channels, volume), tmp_path / f"whole_{name}")
    save_channels(channels, volume, tmp_path / name)
    assert (tmp_path / name).read_bytes() == (tmp_path / f"whole_{name}").read_bytes()


def test_a_channel_file_is_like_an_array(rng, tmp_path):
    file, array = ChannelFile(tmp_path / "part", SHAPE), rng.random(SHAPE).astype(np.float32)
    assert (tmp_path / "part").stat().st_size == array.nbytes
    file[...] = 0
    file[2:, :, 1:] = array[2:, :, 1:]
    array[:2] = array[:, :, :1] = 0
    np.testing.assert_array_equal(file[...], array)
    file *= np.float32([1, 2, 3])
    array *= np.float32([1, 2, 3])
    file[:, 1] += 1
    array[:, 1] += 1
    np.testing.assert_array_equal(file[..., 2], array[..., 2])
    np.testing.assert_array_equal(file[...], array)


def test_other_names_are_refused(rng, tmp_path):
    volume = read_volume(nibabel.Nifti1Image(rng.random(SHAPE[:3]), TURNED))
    with pytest.raises(ValueError, match="mgz"):
        save_channels(np.zeros(SHAPE, np.float32), volume, tmp_path / "features.mgz")
    assert not [*tmp_path.iterdir()]
