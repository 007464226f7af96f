import json

import pytest

from cifl_tf.cli.cohort.selection import Selection, read_filter, subjects_in

FILES = [
    "sub-1/anat/sub-1_T1w.nii.gz",
    "sub-1/anat/sub-1_FLAIR.nii.gz",
    "sub-1/anat/sub-1_desc-brain_mask.nii.gz",
    "sub-1/anat/._sub-1_T2w.nii.gz",
    "sub-1/anat/sub-1_T1w.json",
    "sub-1/func/sub-1_task-rest_bold.nii.gz",
    "sub-2/ses-a/anat/sub-2_ses-a_acq-iso_run-01_T1w.nii.gz",
    "sub-2/ses-a/anat/sub-2_ses-a_run-2_T1w.nii",
    "sub-2/ses-b/anat/sub-2_ses-b_T2w.nii.gz",
]


@pytest.fixture
def bids(tmp_path):
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(bids, subject, selection):
    return [scan.path.name for scan in selection.scans(bids, subject)]


def test_all_anatomical_images_by_default(bids):
    assert names(bids, "sub-1", Selection()) == ["sub-1_FLAIR.nii.gz", "sub-1_T1w.nii.gz"]
    assert [scan.place for scan in Selection().scans(bids, "sub-2")] == FILES[-3:]


def test_contrasts_and_sessions(bids):
    assert names(bids, "sub-1", Selection(contrasts=("T1w",))) == ["sub-1_T1w.nii.gz"]
    assert names(bids, "sub-2", Selection(sessions=("ses-b",))) == ["sub-2_ses-b_T2w.nii.gz"]
    assert names(bids, "sub-1", Selection(sessions=("ses-b",))) == []


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"run": 1}, ["sub-2_ses-a_acq-iso_run-01_T1w.nii.gz"]),
        ({"acquisition": None, "run": "02"}, ["sub-2_ses-a_run-2_T1w.nii"]),
        ({"acq": "iso"}, ["sub-2_ses-a_acq-iso_run-01_T1w.nii.gz"]),
        ({"session": ["b", "c"]}, ["sub-2_ses-b_T2w.nii.gz"]),
        ({"suffix": ["T2w", "FLAIR"]}, ["sub-2_ses-b_T2w.nii.gz"]),
        ({"run": None}, ["sub-2_ses-b_T2w.nii.gz"]),
        ({"suffix": "mask"}, []),
    ],
)
def test_filter_files(bids, tmp_path, wanted, found):
    file = tmp_path / "filter.json"
    file.write_text(json.dumps({"image": wanted}))
    assert names(bids, "sub-2", Selection(entities=read_filter(file))) == found


def test_filters_of_fmriprep_name_the_datatype_and_the_ending(bids, tmp_path):
    file = tmp_path / "filter.json"
    wanted = {"datatype": "anat", "suffix": "T1w", "extension": [".nii", "nii.gz"]}
    file.write_text(json.dumps({"image": wanted}))
    assert len(names(bids, "sub-2", Selection(entities=read_filter(file)))) == 2
    file.write_text(json.dumps({"image": {**wanted, "extension": ".nii"}}))
    found = names(bids, "sub-2", Selection(entities=read_filter(file)))
    assert found == ["sub-2_ses-a_run-2_T1w.nii"]


def test_contrasts_within_a_filter(bids):
    entities = {"suffix": ["T1w", "PDw"]}
    assert names(bids, "sub-1", Selection(("T1w", "FLAIR"), (), entities)) == ["sub-1_T1w.nii.gz"]
    assert names(bids, "sub-1", Selection(("FLAIR",), (), entities)) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[]", "has no object 'image'"),
        ('{"t1w": {}}', "has no object 'image'"),
        ('{"image": {}, "bold": {}}', "has bold beside 'image'"),
        ('{"image": {"run": {}}}', "run is {}; give text"),
        ('{"image": {"run": []}}', "run is"),
    ],
)
def test_wrong_filter_files_are_refused(tmp_path, text, message):
    (tmp_path / "filter.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_filter(tmp_path / "filter.json")


@pytest.mark.parametrize("count", [1, 2, 3, 7, 12])
def test_shares_have_every_subject_once(tmp_path, count):
    for number in range(7):
        (tmp_path / f"sub-{number}").mkdir()
    (tmp_path / "sub-file.txt").touch()
    shares = [subjects_in(tmp_path, (), (number, count)) for number in range(1, count + 1)]
    assert sorted(name for share in shares for name in share) == [f"sub-{i}" for i in range(7)]
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


def test_subjects_that_are_wanted(bids, tmp_path_factory):
    assert subjects_in(bids) == ["sub-1", "sub-2"]
    assert subjects_in(bids, ["sub-2", "sub-2"]) == ["sub-2"]
    with pytest.raises(FileNotFoundError, match="has no sub-3; it has sub-1, sub-2"):
        subjects_in(bids, ["sub-3", "sub-1"])
    with pytest.raises(FileNotFoundError, match="holds no folders sub-"):
        subjects_in(tmp_path_factory.mktemp("empty"))


def test_parts_of_complex_images_are_wanted_by_name_only(bids):
    for part in ("mag", "phase", "real", "imag"):
        (bids / "sub-1" / "anat" / f"sub-1_part-{part}_T2starw.nii.gz").touch()
    contrast = Selection(("T2starw",))
    assert names(bids, "sub-1", contrast) == ["sub-1_part-mag_T2starw.nii.gz"]
    phase = Selection(("T2starw",), (), {"part": ["phase"]})
    assert names(bids, "sub-1", phase) == ["sub-1_part-phase_T2starw.nii.gz"]


@pytest.mark.parametrize(
    "name",
    [
        "sub-1/anat/sub-2_T1w.nii.gz",
        "sub-2/ses-a/anat/sub-2_ses-b_T1w.nii.gz",
        "sub-2/ses-a/anat/sub-1_ses-a_T1w.nii.gz",
    ],
)
def test_a_file_in_the_folder_of_another_is_refused(bids, name):
    (bids / name).touch()
    with pytest.raises(ValueError, match=f"{name} lies in .* but its name says .*move or rename"):
        Selection().scans(bids, name.split("/")[0])


def test_a_locked_folder_is_told_from_an_empty_one(bids, monkeypatch):
    def locked(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("os.listdir", locked)
    with pytest.raises(PermissionError):
        Selection().scans(bids, "sub-1")


def test_names_with_dots(bids):
    (bids / "sub-1" / "anat" / "sub-1_acq-1.5T_T2w.NII.GZ").touch()
    (scan,) = Selection(("T2w",)).scans(bids, "sub-1")
    assert (scan.entities["acq"], scan.stem) == ("1.5T", "sub-1_acq-1.5T_T2w")
