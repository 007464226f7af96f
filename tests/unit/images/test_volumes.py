import gzip
import os
import stat
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec, voxel_sizes
from nibabel.orientations import aff2axcodes, axcodes2ornt, ornt_transform

from cifl_tf.images import volumes
from cifl_tf.images.volumes import (
    plane_axis,
    read_label_volume,
    read_labels,
    read_volume,
    save_image,
    to_original,
    write_features,
)
from oblique_images import make_image, oblique_affine, saved

RAW_HEADS = Path(__file__).parents[4] / "shared" / "data" / "raw"


def blob_image(codes="PIR", shape=(24, 22, 20), zooms=(1.0, 1.2, 1.4)):
    affine = oblique_affine(zooms)
    center = np.array([13.3, 9.6, 8.2])
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    data = np.exp(-((((grid - center) * zooms) / 3.0) ** 2).sum(-1)).astype(np.float32)
    image = nibabel.Nifti1Image(data, affine)
    image = image.as_reoriented(ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes)))
    return image, apply_affine(affine, center)


def centre_of_mass(data, affine):
    grid = np.stack(np.meshgrid(*map(np.arange, data.shape), indexing="ij"), axis=-1)
    return apply_affine(affine, (grid * data[..., None]).sum((0, 1, 2)) / data.sum())


# Orientation


@pytest.mark.parametrize("tilt", [0, 0.2, 0.7], ids=["straight", "oblique", "very oblique"])
@pytest.mark.parametrize("codes", ["RAS", "LAS", "LPS", "PIR", "ASL", "SRP"])
def test_round_trip_is_exact(tmp_path, codes, tilt):
    image = make_image(codes, tilt=tilt)
    path = saved(image, tmp_path / "image.nii.gz")
    volume = read_volume(path)
    canonical = nibabel.as_closest_canonical(nibabel.load(path))
    np.testing.assert_array_equal(volume.data, canonical.get_fdata())
    np.testing.assert_array_equal(volume.affine, canonical.affine)
    assert "".join(aff2axcodes(volume.affine)) == "RAS"
    assert volume.data.dtype == np.float32
    assert volume.data.flags.c_contiguous

    features = np.stack([volume.data, -volume.data], axis=-1)
    write_features(tmp_path / "features.nii.gz", features, volume)
    back = nibabel.load(tmp_path / "features.nii.gz")
    data = image.get_fdata(dtype=np.float32)
    np.testing.assert_array_equal(back.get_fdata(), np.stack([data, -data], axis=-1))
    np.testing.assert_array_equal(back.affine, nibabel.load(path).affine)
    assert back.get_data_dtype() == np.float32


@pytest.mark.parametrize(("sform_code", "qform_code"), [(4, 1), (0, 1), (2, 0), (0, 0)])
def test_codes_and_units_of_the_input_are_kept(tmp_path, sform_code, qform_code):
    image = make_image("PIR")
    image.header.set_xyzt_units("micron", "sec")
    image.header["cal_max"] = 7
    image.set_qform(oblique_affine(tilt=0.1), qform_code)
    image.set_sform(image.affine if sform_code else None, sform_code)
    image = nibabel.load(saved(image, tmp_path / "image.nii"))
    volume = read_volume(image)
    save_image(to_original(volume.data[..., None], volume), tmp_path / "back.nii")
    back = nibabel.load(tmp_path / "back.nii")
    np.testing.assert_array_equal(back.affine, image.affine)
    np.testing.assert_array_equal(back.get_sform(), image.get_sform())
    np.testing.assert_array_equal(back.header["pixdim"][:4], image.header["pixdim"][:4])
    if qform_code:
        np.testing.assert_array_equal(back.get_qform(), image.get_qform())
    assert (back.header["sform_code"], back.header["qform_code"]) == (sform_code, qform_code)
    assert back.header.get_xyzt_units() == ("micron", "unknown")
    assert back.header["cal_max"] == 0


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 1), (6, 8, 1, 1)])
@pytest.mark.parametrize("codes", ["RAS", "PIR"])
def test_slice(tmp_path, shape, codes):
    affine = make_image(codes).affine
    data = np.arange(48, dtype=np.int16).reshape(shape)
    volume = read_volume(saved(nibabel.Nifti1Image(data, affine), tmp_path / "slice.nii"))
    assert sorted(volume.data.shape) == [1, 6, 8]
    back = to_original(volume.data, volume)
    np.testing.assert_array_equal(back.get_fdata(), data.reshape(shape[:3]))
    assert to_original(volume.data[..., None], volume).shape == (6, 8, 1, 1)


def test_slice_keeps_its_thickness():
    image = make_image("PIR", shape=(1, 12, 14))
    volume = read_volume(image, voxel_size=0.75)
    assert volume.data.shape == (1, 24, 37)
    np.testing.assert_allclose(voxel_sizes(volume.affine), [1.0, 0.75, 0.75])
    assert to_original(volume.data, volume).shape == image.shape


@pytest.mark.parametrize("suffix", [".mgz", ".mgh"])
def test_mgh(tmp_path, suffix):
    image = make_image("LIA")
    path = saved(
        nibabel.MGHImage(image.get_fdata(dtype=np.float32), image.affine),
        tmp_path / f"image{suffix}",
    )
    volume = read_volume(path)
    np.testing.assert_allclose(volume.affine, nibabel.as_closest_canonical(image).affine, atol=1e-4)
    save_image(to_original(volume.data, volume), tmp_path / "back.nii.gz")
    back = nibabel.load(tmp_path / "back.nii.gz")
    np.testing.assert_array_equal(back.get_fdata(), image.get_fdata())
    np.testing.assert_allclose(back.affine, nibabel.load(path).affine, atol=1e-5)
    np.testing.assert_allclose(back.get_qform(), back.affine, atol=1e-4)
    assert back.header.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize("image_class", [nibabel.Nifti2Image, nibabel.Spm99AnalyzeImage])
def test_other_images_in_memory(image_class):
    image = image_class(make_image().get_fdata(dtype=np.float32), make_image().affine)
    volume = read_volume(image)
    back = to_original(volume.data, volume)
    assert type(back) is nibabel.Nifti1Image
    np.testing.assert_array_equal(back.get_fdata(), image.get_fdata())
    np.testing.assert_array_equal(back.affine, image.affine)


def test_integers_with_scaling(tmp_path):
    image = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), oblique_affine())
    image.header.set_slope_inter(0.5, -3)
    path = saved(image, tmp_path / "scaled.nii")
    expected = nibabel.load(path).get_fdata()
    np.testing.assert_allclose(read_volume(path).data, expected, rtol=1e-6)


def test_volume_does_not_share_memory_with_its_input(tmp_path):
    image = make_image()
    before = image.get_fdata().copy()
    read_volume(image).data[:] = 0
    np.testing.assert_array_equal(image.get_fdata(), before)
    path = saved(image, tmp_path / "image.nii")
    assert not isinstance(read_volume(path).data.base, np.memmap)


# Voxel size


@pytest.mark.parametrize("voxel_size", [2.0, 0.8, (1.0, 1.2, 2.5)], ids=str)
@pytest.mark.parametrize("codes", ["RAS", "PIR", "LSA"])
def test_resampling_keeps_physical_positions(codes, voxel_size):
    image, position = blob_image(codes)
    volume = read_volume(image, voxel_size=voxel_size)
    wanted = np.broadcast_to(voxel_size, 3)
    np.testing.assert_allclose(voxel_sizes(volume.affine), wanted)
    half = 0.5 * wanted.min()
    assert np.abs(centre_of_mass(volume.data, volume.affine) - position).max() < half / 5
    peak = np.unravel_index(volume.data.argmax(), volume.data.shape)
    inverse = np.linalg.inv(volume.affine)
    assert np.abs(apply_affine(inverse, position) - peak).max() < 0.75

    back = to_original(np.stack([volume.data] * 2, axis=-1), volume)
    assert back.shape == (*image.shape, 2)
    np.testing.assert_array_equal(back.affine, image.affine)
    restored = np.asarray(back.dataobj)[..., 1]
    assert np.abs(centre_of_mass(restored, back.affine) - position).max() < half / 5
    assert np.corrcoef(restored.ravel(), image.get_fdata().ravel())[0, 1] > 0.99


@pytest.mark.parametrize("voxel_size", [0.7, 1.9, 3.0, 100.0])
def test_field_of_view(voxel_size):
    image = make_image("PIR")
    volume = read_volume(image, voxel_size=voxel_size)
    old = np.array(nibabel.as_closest_canonical(image).shape) * oblique_zooms(volume)
    new = np.array(volume.data.shape) * voxel_size
    assert (np.abs(old - new) <= np.maximum(voxel_size / 2, voxel_size - old) + 1e-9).all()
    old_center = apply_affine(image.affine, (np.array(image.shape) - 1) / 2)
    new_center = apply_affine(volume.affine, (np.array(volume.data.shape) - 1) / 2)
    np.testing.assert_allclose(old_center, new_center)


def oblique_zooms(volume):
    sizes = voxel_sizes(volume.original.affine)
    axes = nibabel.io_orientation(volume.original.affine)[:, 0].astype(int)
    return sizes[np.argsort(axes)]


@pytest.mark.filterwarnings("ignore:Resampling binary images")
@pytest.mark.parametrize("voxel_size", [0.6, 1.7, 2.9, 4.1])
def test_no_ring_at_the_border(voxel_size):
    data = np.full((12, 14, 16), -1000, np.float32)
    data[5:8, 6:9, 7:10] = 40
    volume = read_volume(make_image("LPS", data=data), voxel_size=voxel_size)
    border = np.ones(volume.data.shape, bool)
    border[1:-1, 1:-1, 1:-1] = False
    np.testing.assert_allclose(volume.data[border], -1000, atol=60)
    back = to_original(np.ones((*volume.data.shape, 2)), volume)
    np.testing.assert_allclose(back.get_fdata(), 1, atol=1e-5)


def test_same_voxel_size_changes_nothing():
    image = make_image("PIR")
    volume = read_volume(image, voxel_size=(1.0, 1.5, 2.0))
    np.testing.assert_array_equal(volume.data, read_volume(image).data)
    np.testing.assert_array_equal(to_original(volume.data, volume).get_fdata(), image.get_fdata())


@pytest.mark.parametrize("voxel_size", [0, -1, np.nan, (1, 1), "big"])
def test_voxel_size_error(voxel_size):
    with pytest.raises(ValueError, match=r"voxel_size is|could not convert"):
        read_volume(make_image(), voxel_size=voxel_size)


# Back to the original grid


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [(bool, np.int32), (np.uint8, np.uint8), (np.int16, np.int16), (np.int64, np.int32)],
)
@pytest.mark.parametrize("voxel_size", [None, 0.9])
def test_labels(tmp_path, dtype, stored, voxel_size):
    image, _ = blob_image("ASL")
    volume = read_volume(image, voxel_size=voxel_size)
    labels = (volume.data > 0.3).astype(dtype)
    back = to_original(labels, volume, order="nearest")
    save_image(back, tmp_path / "labels.nii.gz")
    back = nibabel.load(tmp_path / "labels.nii.gz")
    assert back.get_data_dtype() == stored
    assert back.shape == image.shape
    expected = image.get_fdata() > 0.3
    found = np.asarray(back.dataobj)
    assert set(np.unique(found)) == {0, 1}
    dice = 2 * (found * expected).sum() / (found.sum() + expected.sum())
    assert dice == 1 if voxel_size is None else dice > 0.85


def test_array_that_does_not_fit(tmp_path):
    volume = read_volume(make_image())
    for shape in [(7, 9), (7, 9, 12), (7, 9, 11, 1, 1)]:
        with pytest.raises(ValueError, match=r"the array has shape .*the volume has \(7, 9, 11\)"):
            to_original(np.zeros(shape), volume)
    with pytest.raises(ValueError, match=r"order is 'cubic': choose"):
        to_original(volume.data, volume, order="cubic")
    with pytest.raises(ValueError, match="give four axes"):
        write_features(tmp_path / "features.nii", volume.data, volume)
    with pytest.raises(ValueError, match=r"features.mgz does not end in .nii or .nii.gz"):
        write_features(tmp_path / "features.mgz", volume.data[..., None], volume)
    assert not list(tmp_path.iterdir())


# Saving


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_save(tmp_path, suffix):
    path = tmp_path / "new" / "folder" / f"image.v1{suffix}"
    save_image(make_image(), path)
    save_image(make_image(), str(path))
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    np.testing.assert_array_equal(nibabel.load(path).get_fdata(), make_image().get_fdata())
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == (suffix == ".nii.gz")
    plain = tmp_path / "plain"
    plain.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("existing", [True, False])
def test_interrupted_save_leaves_what_was_there(tmp_path, monkeypatch, error, existing):
    path = tmp_path / "image.nii.gz"
    if existing:
        save_image(make_image(), path)
    before = {entry: entry.read_bytes() for entry in tmp_path.iterdir()}

    def save_half(image, name):
        Path(name).write_bytes(gzip.compress(b"half"))
        raise error

    monkeypatch.setattr(volumes.nibabel, "save", save_half)
    with pytest.raises(type(error)):
        save_image(make_image("PIR"), path)
    assert {entry: entry.read_bytes() for entry in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["image.mgz", "image.nii.bz2", "image", "image.gz"])
def test_save_under_another_name(tmp_path, name):
    with pytest.raises(ValueError, match=rf"{name} does not end in .nii or .nii.gz"):
        save_image(make_image(), tmp_path / name)


def test_image_may_be_saved_over_its_own_file(tmp_path):
    path = saved(make_image(), tmp_path / "image.nii")
    save_image(nibabel.load(path), path)
    np.testing.assert_array_equal(nibabel.load(path).get_fdata(), make_image().get_fdata())
    assert os.listdir(tmp_path) == ["image.nii"]


# Planes


def test_planes():
    assert [plane_axis(plane) for plane in ("sagittal", "coronal", "axial")] == [0, 1, 2]
    with pytest.raises(ValueError, match="plane is 'frontal': choose one of sagittal, coronal, ax"):
        plane_axis("frontal")


# Real heads


@pytest.mark.skipif(not RAW_HEADS.is_dir(), reason=f"the real heads are not in {RAW_HEADS}")
@pytest.mark.parametrize("name", ["Subj1_T1", "Subj1_FL"])
def test_real_head(tmp_path, name):
    path = RAW_HEADS / f"{name}.nii.gz"
    image = nibabel.load(path)
    volume = read_volume(path)
    write_features(tmp_path / "features.nii", volume.data[..., None], volume)
    back = nibabel.load(tmp_path / "features.nii")
    np.testing.assert_array_equal(back.get_fdata()[..., 0], image.get_fdata(dtype=np.float32))
    np.testing.assert_array_equal(back.affine, image.affine)
    assert back.header["sform_code"] == image.header["sform_code"]

    volume = read_volume(path, voxel_size=4)
    back = to_original(volume.data, volume)
    assert back.shape == image.shape
    correlation = np.corrcoef(np.ravel(back.dataobj), np.ravel(image.get_fdata()))[0, 1]
    assert correlation > 0.9


def test_label_values_are_exact(tmp_path):
    values = np.array([0, 312782546, 614454277, -5, 2**24 + 1], np.int32)
    image = nibabel.Nifti1Image(np.broadcast_to(values, (2, 3, 5)).copy(), np.eye(4))
    nibabel.save(image, tmp_path / "atlas.nii.gz")
    np.testing.assert_array_equal(read_labels(tmp_path / "atlas.nii.gz")[0, 0], values)


@pytest.mark.parametrize("noise", [3e-6, -9e-4])
def test_labels_with_rounding_noise_are_read(tmp_path, noise):
    values = np.array([0, 2, 41, 17, 53])
    labels = np.broadcast_to(values, (2, 3, 5))
    image = nibabel.Nifti1Image((labels + noise * (labels > 0)).astype(np.float32), np.eye(4))
    nibabel.save(image, tmp_path / "labels.nii.gz")
    found = read_labels(tmp_path / "labels.nii.gz")
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, labels)


def test_labels_that_scaling_has_moved_are_explained(tmp_path):
    # nibabel scales floats into the eight bits of the header: 41 becomes 197 * 53 / 255.
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.uint8)
    labels = np.broadcast_to(np.array([0.0, 41, 53]), (2, 4, 3))
    nibabel.save(nibabel.Nifti1Image(labels, np.eye(4), header), tmp_path / "labels.nii")
    with pytest.raises(
        ValueError,
        match=r"8 of 24 voxels are not whole numbers, but up to 0\.0549 off; resample .* nearest",
    ):
        read_labels(tmp_path / "labels.nii")


@pytest.mark.parametrize("value", [np.inf, np.nan, 2.0**31, 0.5])
def test_what_is_no_label_is_refused(tmp_path, value):
    array = np.zeros((2, 3, 4))
    array[0, 0, 0] = value
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "labels.nii")
    with pytest.raises(ValueError, match=r"labels\.nii is no label map: 1 of 24 voxels"):
        read_labels(nibabel.load(tmp_path / "labels.nii"))  # named, though it is in memory


@pytest.mark.parametrize("sheared", [False, True])
@pytest.mark.parametrize("sform_code", [0, 1, 2, 4])
@pytest.mark.parametrize("qform_code", [0, 1, 2])
def test_itk_affine(tmp_path, sform_code, qform_code, sheared):
    sitk = pytest.importorskip("SimpleITK")
    sform = oblique_affine() @ np.diag([1, 1.2, 1, 1])  # longer axes than pixdim says
    sform[0, 1] += 0.4 * sheared
    # Without an affine of its own, which nibabel would write.
    image = nibabel.Nifti1Image(np.eye(4, dtype=np.float32)[..., None] + np.zeros(3), None)
    image.header.set_qform(oblique_affine(tilt=0.4), code=1)
    image.header.set_sform(sform, code=1)
    image.header["sform_code"], image.header["qform_code"] = sform_code, qform_code
    nibabel.save(image, tmp_path / "image.nii")
    found = read_volume(tmp_path / "image.nii").original.itk_affine
    try:
        theirs = sitk.ReadImage(str(tmp_path / "image.nii"))
    except RuntimeError:  # a shear that ITK cannot hold, and nothing else to take
        assert sheared
        assert qform_code == 0
        return
    scaled = np.reshape(theirs.GetDirection(), (3, 3)) * theirs.GetSpacing()
    expected = np.diag([-1, -1, 1, 1]) @ from_matvec(scaled, theirs.GetOrigin())
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_quaternion_too_long_by_rounding_is_where_itk_sees_it(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    image = nibabel.Nifti1Image(np.eye(5, dtype=np.float32)[..., None], oblique_affine())
    image.set_sform(oblique_affine(), code="aligned")
    image.set_qform(np.diag([1.0, 2, 3, 1]), code="scanner")
    for name in ("quatern_b", "quatern_c"):
        image.header[name] = 0.70710695  # the sum of the squares is above 1
    nibabel.save(image, tmp_path / "image.nii")
    found = read_volume(tmp_path / "image.nii").original.itk_affine
    theirs = sitk.ReadImage(str(tmp_path / "image.nii"))
    scaled = np.reshape(theirs.GetDirection(), (3, 3)) * theirs.GetSpacing()
    expected = np.diag([-1, -1, 1, 1]) @ from_matvec(scaled, theirs.GetOrigin())
    np.testing.assert_allclose(found, expected, atol=1e-4)
    image.header["quatern_b"] = np.nan
    found = read_volume(image).original
    np.testing.assert_array_equal(found.itk_affine, found.affine)


def test_a_label_map_of_several_frames_needs_an_index(tmp_path):
    frames = np.arange(48).reshape(2, 3, 4, 2)
    nibabel.save(nibabel.Nifti1Image(frames.astype(np.uint8), np.eye(4)), tmp_path / "labels.nii")
    with pytest.raises(ValueError, match="has 2 frames"):
        read_label_volume(tmp_path / "labels.nii")
    found = read_label_volume(tmp_path / "labels.nii", 1)
    np.testing.assert_array_equal(found.data, frames[..., 1])
