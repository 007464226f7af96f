import nibabel
import numpy as np
import pytest
from oblique_images import SHAPE, make_image, saved

from cifl_tf.volumes import read_volume, to_original

# Frames


def test_frames(tmp_path):
    data = np.random.default_rng(1).normal(size=(*SHAPE, 3)).astype(np.float32)
    path = saved(make_image("LPS", data=data), tmp_path / "frames.nii.gz")
    volume = read_volume(path, frame=1)
    np.testing.assert_array_equal(volume.data, data[..., 1])
    assert to_original(volume.data, volume).shape == SHAPE
    assert read_volume(make_image(data=data[..., :1])).data.shape == SHAPE
    with pytest.raises(
        ValueError, match=r"has 3 frames.*choose one from 0 to 2, frame=0 in Python, --frame 0"
    ):
        read_volume(path)


@pytest.mark.parametrize("frame", [-1, 3, 0.0, "0"])
def test_frame_out_of_range(frame):
    data = np.random.default_rng(1).normal(size=(*SHAPE, 3)).astype(np.float32)
    with pytest.raises(ValueError, match=r"frame is .*, but the image has 3: pass 0 to 2"):
        read_volume(make_image(data=data), frame=frame)
    with pytest.raises(ValueError, match="but the image has 1: pass 0 to 0"):
        read_volume(make_image(), frame=1)


# Files that cannot be read


def check_single_line(caught):
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing.nii does not exist: give a .nii or"):
        read_volume(tmp_path / "nothing.nii")


def test_wrong_name(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match=r"image.png does not end in .nii or .nii.gz or .mgh"):
        read_volume(path)


def test_folder(tmp_path):
    (tmp_path / "x.nii").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        read_volume(tmp_path / "x.nii")


def test_array_instead_of_image():
    with pytest.raises(ValueError, match=r"got a ndarray.*nibabel.Nifti1Image"):
        read_volume(np.zeros((3, 3, 3)))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mgh", ".mgz"])
@pytest.mark.parametrize("content", [b"", b"This is text and no image. " * 100])
def test_wrong_content(tmp_path, suffix, content):
    path = tmp_path / f"text{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"text.* no NIfTI or MGH image.*convert") as caught:
        read_volume(path)
    check_single_line(caught)


def test_plain_file_named_as_compressed(tmp_path):
    path = saved(make_image(), tmp_path / "image.nii")
    with pytest.raises(ValueError, match=r"in spite of its name.*Not a gzipped file"):
        read_volume(path.rename(tmp_path / "image.nii.gz"))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mgh", ".mgz"])
@pytest.mark.parametrize("share", [0.003, 0.1, 0.5, 0.9])
def test_truncated(tmp_path, suffix, share):
    image = make_image()
    image = nibabel.MGHImage(image.dataobj, image.affine) if "mg" in suffix else image
    path = saved(image, tmp_path / f"image{suffix}")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"image.* is truncated or damaged.*copy") as caught:
        read_volume(path)
    check_single_line(caught)


@pytest.mark.parametrize("suffix", [".nii.gz", ".mgz"])
def test_damaged_voxels_of_a_compressed_file(tmp_path, suffix):
    image = make_image()
    image = nibabel.MGHImage(image.dataobj, image.affine) if "mg" in suffix else image
    path = saved(image, tmp_path / f"image{suffix}")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match="truncated or damaged"):
        read_volume(path)


def test_header_that_claims_more_than_any_memory(tmp_path):
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.float64)
    header.set_data_shape((30000, 30000, 30000))
    path = tmp_path / "huge.nii"
    path.write_bytes(header.binaryblock[:344] + b"n+1\0" + bytes(100))
    with pytest.raises(ValueError, match=r"truncated or damaged.*\(MemoryError\)"):
        read_volume(path)


# Images that cannot be used


@pytest.mark.parametrize("shape", [(5,), (3, 3, 3, 1, 2)])
def test_number_of_axes(shape):
    image = nibabel.Nifti1Image(np.ones(shape, np.float32), np.eye(4))
    with pytest.raises(ValueError, match=rf"the image has {len(shape)} axes"):
        read_volume(image)


@pytest.mark.parametrize("shape", [(4, 0, 4), (4, 4, 4, 0)])
def test_empty(shape):
    with pytest.raises(ValueError, match="is empty, its shape is"):
        read_volume(nibabel.Nifti1Image(np.ones(shape, np.float32), np.eye(4)))


@pytest.mark.parametrize("shape", [(4, 5, 6), (1, 1, 1)])
def test_constant(tmp_path, shape):
    path = saved(nibabel.Nifti1Image(np.full(shape, 3, np.int16), np.eye(4)), tmp_path / "c.nii")
    with pytest.raises(ValueError, match=r"c.nii is constant, all 3.0: give"):
        read_volume(path)


def test_not_finite():
    data = np.arange(60.0).reshape(3, 4, 5)
    data[0, 0, :2] = np.nan
    data[1, 1, :3] = np.inf, -np.inf, 1e300
    with pytest.raises(ValueError, match=r"2 NaN and 3 infinite voxels .* of 60: .*nan_to_num"):
        read_volume(nibabel.Nifti1Image(data, np.eye(4)))


def test_colours_and_complex(tmp_path):
    rgb = np.zeros((3, 3, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(ValueError, match=r"are colours \(RGB\): give an image with one real"):
        read_volume(saved(nibabel.Nifti1Image(rgb, np.eye(4)), tmp_path / "rgb.nii"))
    with pytest.raises(ValueError, match="are of type complex64: give an image with one real"):
        read_volume(nibabel.Nifti1Image(np.zeros((3, 3, 3), np.complex64), np.eye(4)))


@pytest.mark.parametrize("value", [0, np.nan, np.inf])
def test_affine(tmp_path, value):
    header = nibabel.Nifti1Header()
    header["sform_code"] = 1
    header["srow_x"], header["srow_y"], header["srow_z"] = np.eye(4)[:3]
    header["srow_z"][2] = value
    data = make_image().get_fdata(dtype=np.float32)
    path = saved(nibabel.Nifti1Image(data, None, header), tmp_path / "image.nii")
    with pytest.raises(ValueError, match=r"affine of .*image.nii is singular or not finite"):
        read_volume(path)


def test_no_affine():
    with pytest.raises(ValueError, match="affine of the image is singular or not finite"):
        read_volume(nibabel.Nifti1Image(make_image().get_fdata(), None))
