import nibabel
import numpy as np
import pytest
import SimpleITK

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


@pytest.mark.parametrize("voxel_size", [None, 2])
@pytest.mark.parametrize("on_disk", [False, True])
def test_integers_take_half_the_space_and_lose_little(rng, tmp_path, voxel_size, on_disk):
    volume = read_volume(nibabel.Nifti1Image(rng.random((9, 8, 7)), TURNED), voxel_size=voxel_size)
    array = (10 * rng.normal(size=(*volume.data.shape, 3))).astype(np.float32)
    channels = array
    if on_disk:
        channels = ChannelFile(tmp_path / "part", array.shape)
        channels[...] = array
    sizes = []
    for dtype in ("float32", "int16"):
        save_channels(channels, volume, tmp_path / f"{dtype}.nii", dtype)
        sizes.append((tmp_path / f"{dtype}.nii").stat().st_size - 352)
    assert sizes[0] == 2 * sizes[1]
    expected, found = (nibabel.load(tmp_path / f"{name}.nii") for name in ("float32", "int16"))
    assert found.get_data_dtype() == np.int16
    expected, found = expected.get_fdata(), found.get_fdata()
    assert np.abs(found - expected).max() < 0.51 * np.abs(expected).max() / 32767
    read = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(tmp_path / "int16.nii")).T
    np.testing.assert_allclose(read, found, rtol=1e-5, atol=1e-5)


def test_channels_without_signal_and_types_that_are_none(tmp_path):
    volume = read_volume(nibabel.Nifti1Image(np.indices((4, 4, 4))[0] * 1.0, TURNED))
    nothing = np.zeros((*volume.data.shape, 2), np.float32)
    save_channels(nothing, volume, tmp_path / "nothing.nii", "int16")
    assert not nibabel.load(tmp_path / "nothing.nii").get_fdata().any()
    with pytest.raises(ValueError, match="dtype is 'float16'; choose from float32, int16"):
        save_channels(nothing, volume, tmp_path / "nothing.nii", "float16")


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
