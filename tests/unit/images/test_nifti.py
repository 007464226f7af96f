import gzip
import io
import os
import tracemalloc

import nibabel
import numpy as np
import pytest

from cifl_tf.images.file_names import is_leftover, suffix_of
from cifl_tf.images.nifti import load_image
from cifl_tf.images.volumes import read_labels, read_volume, to_original
from oblique_images import SHAPE, make_image, saved

# Frames


def test_frames(tmp_path):
    data = np.random.default_rng(1).normal(size=(*SHAPE, 3)).astype(np.float32)
    path = saved(make_image("LPS", data=data), tmp_path / "frames.nii.gz")
    volume = read_volume(path, volume_index=1)
    np.testing.assert_array_equal(volume.data, data[..., 1])
    assert to_original(volume.data, volume).shape == SHAPE
    assert read_volume(make_image(data=data[..., :1])).data.shape == SHAPE
    with pytest.raises(
        ValueError,
        match=r"has 3 frames.*choose one from 0 to 2, volume_index=0 in Python, --volume-index 0",
    ):
        read_volume(path)


@pytest.mark.parametrize("volume_index", [-1, 3, 0.0, "0"])
def test_frame_out_of_range(volume_index):
    data = np.random.default_rng(1).normal(size=(*SHAPE, 3)).astype(np.float32)
    with pytest.raises(ValueError, match=r"volume_index is .*, but the image has 3: pass 0 to 2"):
        read_volume(make_image(data=data), volume_index=volume_index)
    with pytest.raises(ValueError, match="but the image has 1: leave it out"):
        read_volume(make_image(), volume_index=1)


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


def test_axes_of_one_voxel_after_the_third_are_left_out(tmp_path):
    data = np.random.default_rng(1).random((4, 5, 6, 3), np.float32)
    for shape, volume_index, expected in (
        ((4, 5, 6, 1, 1), None, data[..., 0]),
        ((4, 5, 6, 1, 1, 1, 1), 0, data[..., 0]),
        ((4, 5, 6, 3, 1), 2, data[..., 2]),
    ):
        stored = data[..., : shape[3]].reshape(shape)
        path = saved(nibabel.Nifti1Image(stored, np.eye(4)), tmp_path / "axes.nii.gz")
        volume = read_volume(path, volume_index)
        np.testing.assert_array_equal(volume.data, expected)
        assert to_original(volume.data, volume).shape == (4, 5, 6)
    labels = np.arange(120, dtype=np.uint8).reshape(4, 5, 6, 1, 1)
    path = saved(nibabel.Nifti1Image(labels, np.eye(4)), tmp_path / "labels.nii.gz")
    np.testing.assert_array_equal(read_labels(path), labels[..., 0, 0])


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
    with pytest.raises(ValueError, match=r"in spite of its name: rename it to image\.nii$"):
        read_volume(path.rename(tmp_path / "image.nii.gz"))


def test_compressed_file_named_as_plain(tmp_path):
    path = saved(make_image(), tmp_path / "image.nii.gz")
    with pytest.raises(ValueError, match=r"in spite of its name: rename it to image\.nii\.gz$"):
        read_volume(path.rename(tmp_path / "image.nii"))


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


def claiming(path, shape, content=b"", offset=352):
    """A float32 file whose header claims a shape, with this content after the header."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.float32)
    header.set_data_shape(shape)
    header["srow_x"], header["srow_y"], header["srow_z"] = np.eye(4)[:3]
    header["sform_code"], header["vox_offset"], header["magic"] = 1, offset, b"n+1"
    data = header.binaryblock + bytes(4) + content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["huge.nii", "huge.nii.gz"])
def test_header_that_claims_more_than_the_file(tmp_path, name):
    path = claiming(tmp_path / name, (1000, 1000, 1000), np.random.default_rng(0).bytes(50_000))
    tracemalloc.start()
    with pytest.raises(
        ValueError,
        match=r"huge.* is truncated or damaged: its header claims float32 voxels of shape "
        r"\(1000, 1000, 1000\), 4\.0 GB, but the file holds 50\.\d KB; copy",
    ) as caught:
        read_volume(path)
    assert tracemalloc.get_traced_memory()[1] < 30e6
    tracemalloc.stop()
    check_single_line(caught)


@pytest.mark.parametrize("offset", [352, 8e6])
def test_claim_beyond_memory_is_refused_before_anything_is_read(tmp_path, monkeypatch, offset):
    content = bytes(int(offset) - 352 + 4 * 200**3)
    path = claiming(tmp_path / "large.nii.gz", (200, 200, 200), content, offset)
    needed = offset + 200**3 * (4 + 8 + 4)  # stored, in float64 and in float32
    for module in ("image_claims", "image_files"):
        monkeypatch.setattr(f"cifl_tf.{module}.compressed_size", None)  # fails where it is called
    monkeypatch.setattr("cifl_tf.images.claims.available_memory", lambda: needed - 1)
    number = rf"{needed / 1e6:.1f} MB"
    with pytest.raises(
        ValueError, match=rf"\(200, 200, 200\) needs {number} of mem.* {number} are"
    ):
        load_image(path)


def test_memory_is_asked_for_an_image_that_was_opened_before(tmp_path, monkeypatch):
    image = nibabel.load(claiming(tmp_path / "large.nii", (50, 50, 50), bytes(500_000)))
    monkeypatch.setattr("cifl_tf.images.claims.available_memory", lambda: 1_999_999)
    with pytest.raises(ValueError, match=r"large\.nii of shape \(50, 50, 50\) needs 2\.0 MB"):
        read_volume(image)
    monkeypatch.setattr("cifl_tf.images.claims.available_memory", lambda: 2_000_000)
    with pytest.raises(ValueError, match="is constant"):
        read_volume(image)


def test_compressed_file_that_expands_to_more_than_it_claims_is_not_read_through(tmp_path):
    path = claiming(tmp_path / "bomb.nii.gz", (8, 8, 8))
    first = path.read_bytes()
    with path.open("wb") as file:
        file.write(first)
        for _ in range(40):  # members of a gzip file follow each other
            file.write(gzip.compress(bytes(1 << 20)))
    damaged_end = path.read_bytes() + gzip.compress(bytes(1 << 20))[:-4]
    path.write_bytes(damaged_end)
    with pytest.raises(
        ValueError, match=r"holds more than 16\.8 MB, but its header claims .*2\.4 K"
    ):
        read_volume(path)


def test_bytes_after_the_voxels_do_no_harm(tmp_path):
    image = make_image()
    path = saved(image, tmp_path / "image.nii.gz")
    path.write_bytes(path.read_bytes() + b"a signature, or what a copy left")
    np.testing.assert_array_equal(
        read_volume(path).data, read_volume(image).data, err_msg="after the compressed data"
    )
    data = gzip.decompress(saved(image, path).read_bytes()) + bytes(1000)
    path.write_bytes(gzip.compress(data))
    np.testing.assert_array_equal(read_volume(path).data, read_volume(image).data)


def test_damaged_checksum_before_bytes_that_follow(tmp_path):
    path = saved(make_image(), tmp_path / "image.nii.gz")
    content = bytearray(path.read_bytes())
    content[-8] ^= 0xFF
    path.write_bytes(content + b"more")
    with pytest.raises(ValueError, match=r"truncated or damaged.*CRC"):
        read_volume(path)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("a.dcm", "whole folder by dcm2niix"),
        ("IM0001", "whole folder by dcm2niix"),
        ("a.seg.nrrd", "3D Slicer, or by SimpleITK"),
        ("a.MHA", "3D Slicer, or by SimpleITK"),
        ("a.mnc", "nibabel.load"),
        ("a.mat", r"nibabel.Nifti1Image\(array, affine\)"),
        ("a.npy", r"nibabel.Nifti1Image\(array, affine\)"),
        ("a.jpg", "no voxel size in mm"),
        ("a.nii.bz2", "unpack it first"),
        ("a.gii", "is a surface"),
        ("a.txt", "convert it to one of these"),
    ],
)
def test_other_formats_are_told_how_to_convert(tmp_path, name, advice):
    path = tmp_path / name
    path.write_bytes(bytes(128) + (b"DICM" if name == "IM0001" else b"data"))
    with pytest.raises(
        ValueError, match=rf"{name} does not end in \.nii or .*: .*{advice}"
    ) as caught:
        read_volume(path)
    check_single_line(caught)


def test_folder_of_dicom(tmp_path):
    with pytest.raises(ValueError, match=r"is a folder.*dcm2niix"):
        read_volume(tmp_path)


@pytest.mark.parametrize(
    "kind", [nibabel.Nifti1Pair, nibabel.AnalyzeImage, nibabel.Spm2AnalyzeImage]
)
@pytest.mark.parametrize("upper", [False, True])
def test_pairs(tmp_path, kind, upper):
    data = np.random.default_rng(1).integers(0, 300, SHAPE).astype(np.int16)
    kind(data, np.diag([-2.0, 2, 2, 1])).to_filename(tmp_path / "pair.img")
    names = ["pair.img", "pair.hdr"]
    if upper:
        names = [os.fspath((tmp_path / name).rename(tmp_path / name.upper())) for name in names]
    for name in names:
        volume = read_volume(tmp_path / name)
        np.testing.assert_array_equal(volume.data, data[::-1])
        np.testing.assert_allclose(np.diag(volume.affine), [2, 2, 2, 1])
    (tmp_path / names[0]).unlink()
    with pytest.raises(
        FileNotFoundError, match=r"(?i)pair\.hdr is half of a pair, but .*pair\.img"
    ):
        read_volume(tmp_path / names[1])


@pytest.mark.parametrize("name", ["IMAGE.NII.GZ", "image.NII", "image.nii.GZ", "image.MGZ"])
def test_endings_in_upper_case(tmp_path, name):
    data = np.random.default_rng(1).random(SHAPE, np.float32)
    kind = nibabel.MGHImage if name.endswith("MGZ") else nibabel.Nifti1Image
    image = kind(data, np.eye(4))
    saved(image, tmp_path / name.lower()).rename(tmp_path / name)
    np.testing.assert_array_equal(read_volume(tmp_path / name).data, data)


def test_files_without_content(tmp_path):
    link = tmp_path / "link.nii.gz"
    link.symlink_to(tmp_path / ".git" / "annex" / "objects" / "absent.nii.gz")
    with pytest.raises(
        FileNotFoundError, match=r"link\.nii\.gz is a link to a file that is not.*datalad"
    ):
        read_volume(link)
    pointer = tmp_path / "pointer.nii.gz"
    pointer.write_text("/annex/objects/MD5E-s1000--0123456789abcdef.nii.gz\n")
    with pytest.raises(
        FileNotFoundError, match=r"pointer\.nii\.gz is a pointer of git-annex.*datalad"
    ):
        read_volume(pointer)
    empty = tmp_path / "empty.nii"
    empty.touch()
    with pytest.raises(ValueError, match=r"empty\.nii is empty"):
        read_volume(empty)


def test_endings():
    names = ["a.nii", "A.NII.GZ", "a.b.mgz", "a.img", "nii", "a.nii.gz.txt"]
    found = [".nii", ".nii.gz", ".mgz", ".img", None, None]
    assert [suffix_of(f"folder.nii/{name}") for name in names] == found


def test_leftovers_of_systems_and_editors():
    left = ["._a.nii.gz", ".DS_Store", "a.nii~", "#a.tsv#", ".a.nii.gz"]
    assert [is_leftover(f"folder/{name}") for name in left] == [True] * 5
    assert not any(map(is_leftover, ["a.nii.gz", "sub-01", ".hidden/a.nii"]))


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


def test_colors_and_complex(tmp_path):
    rgb = np.zeros((3, 3, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(ValueError, match=r"are colors \(RGB\): give an image with one real"):
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
    with pytest.raises(ValueError, match=r"affine of .*image.nii is singular, not finite"):
        read_volume(path)


def test_no_affine():
    with pytest.raises(ValueError, match="affine of the image is singular, not finite"):
        read_volume(nibabel.Nifti1Image(make_image().get_fdata(), None))


def test_voxel_size_of_0(tmp_path):
    """nibabel would take 1 mm for it."""
    header = nibabel.Nifti1Header()
    header.set_data_shape((3, 4, 5))
    header.set_zooms((2, 2, 2))
    image = nibabel.Nifti1Image(np.arange(60.0).reshape(3, 4, 5), None, header)
    path = tmp_path / "image.nii"
    content = bytearray(image.to_bytes())
    content[80:84] = np.float32(0).tobytes()
    path.write_bytes(content)
    message = r"voxel size of .*image.nii is \(0.0, \d.0, 2.0\) mm"
    with pytest.raises(ValueError, match=message):
        load_image(path)


def test_nibabel_adds_no_lines_to_an_error(tmp_path, monkeypatch):
    (handler,) = nibabel.imageglobals.logger.handlers
    stream = io.StringIO()
    monkeypatch.setattr(handler, "stream", stream)
    content = bytearray(make_image().to_bytes())
    content[70:72] = np.int16(0).tobytes()  # the datatype
    (tmp_path / "image.nii").write_bytes(content)
    with pytest.raises(ValueError, match="data code 0 not supported"):
        load_image(tmp_path / "image.nii")
    assert stream.getvalue() == ""
