from pathlib import Path

import nibabel
import numpy as np
import pytest

from balls import ball_head, ball_stripper
from cifl_tf._notes import Note
from cifl_tf.images.volumes import read_volume
from cifl_tf.stripping import brain_of, head_in, strip

DATA = Path(__file__).parents[4] / "shared" / "data"
real = pytest.mark.skipif(not DATA.exists(), reason="the real scans are not here")


def test_a_head_becomes_its_brain():
    head, known = ball_head()
    found = brain_of(head, stripper=ball_stripper())
    inside = np.asarray(known.dataobj) > 0
    assert found.head is not None
    assert np.mean(found.mask != inside) < 0.01
    assert found.volume == pytest.approx(inside.sum() * 64, rel=0.05)
    assert not np.asarray(found.image.dataobj)[~found.mask].any()


def test_a_brain_stays_as_it_is():
    head, known = ball_head()
    brain = nibabel.Nifti1Image(np.asarray(head.dataobj) * np.asarray(known.dataobj), head.affine)
    found = brain_of(brain, stripper=ball_stripper())
    assert found.head is None
    np.testing.assert_array_equal(np.asarray(found.image.dataobj), np.asarray(brain.dataobj))
    np.testing.assert_array_equal(found.mask, np.asarray(known.dataobj) > 0)


def test_fluid_as_dark_as_the_air_around_a_brain_is_brain():
    """In CT, fluid has about 0 HU, and so has what a skull strip left."""
    _, known = ball_head()
    inside = np.asarray(known.dataobj) > 0
    values = np.where(inside, 35.0, 0)
    middle = tuple(size // 2 for size in inside.shape)
    values[tuple(slice(place - 2, place + 2) for place in middle)] = 0
    found = brain_of(nibabel.Nifti1Image(values, known.affine), stripped=True)
    np.testing.assert_array_equal(found.mask, inside)


def test_the_mask_is_an_image_for_further_work():
    head, known = ball_head()
    scan = nibabel.Nifti1Image(np.asarray(head.dataobj), known.affine)
    mask = brain_of(scan, stripper=ball_stripper()).mask_image
    np.testing.assert_allclose(mask.affine, known.affine)
    assert mask.get_data_dtype() == np.uint8
    read_volume(mask)


def test_volumes_are_in_mm3_whatever_the_unit_of_the_header():
    _, known = ball_head()
    brain = nibabel.Nifti1Image(np.asarray(known.dataobj) * 50, np.diag([0.004, 0.004, 0.004, 1]))
    brain.header.set_xyzt_units("meter")
    inside = np.asarray(known.dataobj) > 0
    assert brain_of(brain, stripped=True).volume == pytest.approx(64 * inside.sum())


def test_a_scan_that_may_show_anything_is_stripped_where_its_brain_has_the_size_of_one():
    head, _ = ball_head()  # of 268 ml: no brain of an adult
    assert head_in(head, stripper=ball_stripper(), any_body_part=True) is None
    assert head_in(head, stripped=False, stripper=ball_stripper(), any_body_part=True) is not None
    larger = nibabel.Nifti1Image(np.asarray(head.dataobj), np.diag([6.5, 6.5, 6.5, 1]))
    found = head_in(larger, stripper=ball_stripper(radius=65), any_body_part=True)
    assert 700 < found.volume_ml < 2200


def test_a_scan_without_a_brain_is_told_with_what_to_do():
    head, _ = ball_head()
    with pytest.raises(ValueError, match=r"no brain was found.*give --stripped") as told:
        brain_of(head, stripper=ball_stripper(radius=-1))
    assert "border" not in str(told.value)


def test_a_small_field_of_view_shows_no_head():
    head, _ = ball_head()
    slab = head.slicer[:, :, 10:30]
    with pytest.warns(Note, match="shows no whole head"):
        assert head_in(slab, any_body_part=True) is None


def test_a_slice_alone_is_refused():
    head, _ = ball_head()
    with pytest.raises(ValueError, match="single slice, but brains are found in volumes"):
        strip(head.slicer[:, :, 19:20], model=ball_stripper())


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_part_of_a_head_is_told_from_a_part_of_a_brain(axis):
    head, known = ball_head()
    brain = nibabel.Nifti1Image(np.asarray(head.dataobj) * np.asarray(known.dataobj), head.affine)
    middle = head.shape[axis] // 2
    part = [slice(None)] * 3
    part[axis] = slice(middle - 4, middle + 4)
    scans = [scan.slicer[tuple(part)] for scan in (head, brain)]
    assert [strip(scan, model=ball_stripper()).was_stripped for scan in scans] == [False, True]


@real
@pytest.mark.parametrize("part", [slice(45, 85), slice(60, 100), slice(75, 120)])
def test_slabs_of_a_real_head_are_no_brains_without_skull(part):
    slab = nibabel.load(DATA / "raw/Subj1_T1.nii.gz").slicer[:, :, part]
    found = strip(slab)
    assert not found.was_stripped
    known = nibabel.load(DATA / "raw/Subj1_T1_DLMUSE.nii.gz").slicer[:, :, part].get_fdata() > 0
    mask = np.asarray(found.mask.dataobj) > 0
    assert mask[known].mean() > 0.95  # labels have no fluid around the brain
    assert known[mask].mean() > 0.6


@real
@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("raw/Subj1_T1.nii.gz", False),
        ("raw/Subj5_FL.nii.gz", False),
        ("clinical/sub-FG6692_T2w.nii.gz", False),
        ("heads/epi_T2star.nii.gz", True),
        ("heads/ct_brain_atlas_1mm.nii.gz", True),
        ("nichart/sub-12/anat/sub-12_space-MNI152NLin2009aSym_res-2_desc-brain_T1w.nii.gz", True),
    ],
)
def test_real_scans_are_told_apart(file, expected):
    assert strip(DATA / file).was_stripped == expected
