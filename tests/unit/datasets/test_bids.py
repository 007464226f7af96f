"""BIDS datasets as people have them: incomplete, with sessions, runs and left-over files."""

import nibabel
import numpy as np
import pytest

from cifl_tf._notes import Note
from cifl_tf.datasets import load_cohort, read_bids
from cifl_tf.datasets.bids_names import images_in, matching
from cifl_tf.datasets.scans import scans_in

IMAGE = np.arange(5 * 6 * 7, dtype=np.float32).reshape(5, 6, 7)
LABELS = (np.arange(5 * 6 * 7).reshape(5, 6, 7) % 3).astype(np.uint8)
POINTER = b"/annex/objects/MD5E-s1000--0123456789abcdef.nii.gz\n"


def save(path, array=IMAGE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)
    return path


def file_of(folder, subject, ending):
    return folder / subject / "anat" / f"{subject}_{ending}.nii.gz"


@pytest.fixture
def bids(tmp_path):
    """Five subjects with T1w, FLAIR and labels."""
    for number in range(1, 6):
        subject = f"sub-{number:02d}"
        for contrast in ("T1w", "FLAIR"):
            save(file_of(tmp_path, subject, contrast))
        save(file_of(tmp_path, subject, "desc-tissue_dseg"), LABELS)
    (tmp_path / "desc-tissue_dseg.tsv").write_text("index\tname\n1\tone\n2\ttwo\n")
    return tmp_path


def make_link(path):
    path.unlink()
    path.symlink_to(path.parent / "absent")


SPOILERS = {
    "missing": lambda path: path.unlink(),
    "link to nothing": make_link,
    "pointer of git-annex": lambda path: path.write_bytes(POINTER),
    "empty": lambda path: path.write_bytes(b""),
}
REASONS = dict(zip(SPOILERS, ("there is no", "is a link", "git-annex", "is empty"), strict=True))


@pytest.mark.parametrize("ending", ["T1w", "desc-tissue_dseg"])
@pytest.mark.parametrize("kind", SPOILERS)
def test_every_kind_of_incompleteness_is_skipped(bids, ending, kind):
    SPOILERS[kind](file_of(bids, "sub-03", ending))
    with pytest.raises(FileNotFoundError, match=rf"subject sub-03: .*{REASONS[kind]}.*; add it"):
        load_cohort(bids, needed=["T1w:inverted"])
    message = rf"^1 of 5 subjects of .* left out: sub-03 \(.*{REASONS[kind]}.*\)$"
    for needed in ((), ["T1w:inverted"]):
        with pytest.warns(Note, match=message):
            cohort = load_cohort(bids, skip_incomplete=True, needed=needed)
        assert cohort.names == ("sub-01", "sub-02", "sub-04", "sub-05")
        assert cohort.contrasts == ("T1w", "FLAIR")


def test_subject_that_was_not_downloaded_is_skipped(bids):
    (bids / "sub-06").symlink_to(bids / "absent")
    (bids / "sub-07").mkdir()
    with pytest.raises(FileNotFoundError, match="subject sub-06: there is no"):
        read_bids(bids, ["T1w"])
    with pytest.warns(Note, match=r"^2 of 7 subjects .*: sub-06 \(.*\), sub-07 \("):
        assert len(read_bids(bids, skip_incomplete=True)) == 5


def test_contrast_that_is_asked_for_counts_alone(bids):
    for subject in ("sub-01", "sub-02", "sub-03"):
        file_of(bids, subject, "FLAIR").unlink()
    file_of(bids, "sub-05", "T1w").unlink()
    save(file_of(bids, "sub-04", "T2w"))

    def names(**kwargs):
        with pytest.warns(Note, match="left out"):
            cohort = read_bids(bids, skip_incomplete=True, **kwargs)
        return cohort.names, cohort.contrasts

    # Most have T1w, which FLAIR and T2w do not reach.
    assert names() == (("sub-01", "sub-02", "sub-03", "sub-04"), ("T1w",))
    save(file_of(bids, "sub-03", "T2w"))
    assert names(needed=["T1w"]) == (("sub-01", "sub-02", "sub-03", "sub-04"), ("T1w",))
    assert names(needed=["FLAIR"]) == (("sub-04", "sub-05"), ("FLAIR",))
    assert names(needed=["FLAIR", "T1w"]) == (("sub-04",), ("T1w", "T2w", "FLAIR"))
    with pytest.raises(FileNotFoundError, match=r"no contrast 'PDw': choose from \['T1w', 'T2"):
        read_bids(bids, needed=["PDw"])


def test_session_that_some_lack(tmp_path):
    for subject, sessions in (("sub-01", "12"), ("sub-02", "1"), ("sub-03", "21")):
        for session in sessions:
            name = f"{subject}_ses-{session}_T1w.nii.gz"
            save(tmp_path / subject / f"ses-{session}" / "anat" / name)
    (tmp_path / "sub-03" / "._ses-0" / "anat").mkdir(parents=True)
    with pytest.warns(
        Note, match=r"^2 subjects of .* first is taken, ses-1 of sub-01, ses-1 of sub-03: choose"
    ):
        read_bids(tmp_path, segmentation=None)
    with pytest.raises(FileNotFoundError, match=r"sub-02: there is no .*_T1w.* in .*ses-2.anat"):
        read_bids(tmp_path, ["T1w"], None, session="2")
    with pytest.warns(Note, match=r"1 of 3 subjects .*: sub-02 \(there is no .*ses-2.anat\)"):
        cohort = read_bids(tmp_path, None, None, session="2", skip_incomplete=True)
    assert cohort.names == ("sub-01", "sub-03")


@pytest.mark.parametrize("run", ["1", "01", "001"])
def test_label_map_without_a_run_serves_every_run(bids, run):
    for number in range(1, 6):
        image = file_of(bids, f"sub-{number:02d}", "T1w")
        save(file_of(bids, f"sub-{number:02d}", "run-02_T1w"))
        image.rename(file_of(bids, f"sub-{number:02d}", "run-01_T1w"))
    of_run = save(file_of(bids, "sub-02", "run-1_desc-tissue_dseg"), LABELS)
    save(file_of(bids, "sub-02", "run-2_desc-tissue_dseg"), LABELS)
    with pytest.raises(ValueError, match=r"'run': '01'\}, or in --data as FOLDER:run-01$"):
        load_cohort(bids)
    cohort = load_cohort(f"{bids}:run-{run}")
    assert [subject.images["T1w"].name for subject in cohort] == [
        f"sub-{number:02d}_run-01_T1w.nii.gz" for number in range(1, 6)
    ]
    first, second, *_ = (subject.segmentation for subject in cohort)
    assert first == file_of(bids, "sub-01", "desc-tissue_dseg")
    assert second == of_run
    np.testing.assert_array_equal(cohort.subjects[0].labels(), LABELS)


def test_which_file_is_meant(tmp_path):
    for name in ("sub-1_acq-a_run-01_dseg", "sub-1_acq-a_dseg", "sub-1_dseg", "sub-1_acq-01_T1w"):
        (tmp_path / f"{name}.nii.gz").touch()
    images = images_in(tmp_path)

    def names(*arguments):
        return [path.name.removesuffix(".nii.gz") for path in matching(images, *arguments)]

    assert names("dseg", {"acq": "a", "run": "1"}) == ["sub-1_acq-a_run-01_dseg"]
    assert names("dseg", {"acq": "a", "run": "2"}) == []
    assert names("dseg", {"acq": "a", "run": "2"}, ["acq", "run"]) == ["sub-1_acq-a_dseg"]
    assert names("dseg", {"acq": "b", "run": "2"}, ["acq", "run"]) == ["sub-1_dseg"]
    assert names("dseg", {"acq": "b", "run": "2"}, ["run"]) == []
    assert names("dseg", {"acq": None}) == ["sub-1_dseg"]
    # Only the values of some entities are numbers.
    assert names("T1w", {"acq": "1"}) == []


def test_what_systems_and_editors_leave_is_passed_over(bids):
    before = read_bids(bids)
    for name in ("._sub-01_T1w.nii.gz", "sub-01_T1w.nii.gz~", "#sub-01_T1w.nii.gz#", ".DS_Store"):
        (bids / "sub-01" / "anat" / name).write_bytes(b"nothing")
    (bids / "sub-01" / "anat" / "._sub-01_desc-tissue_dseg.tsv").write_bytes(b"\0\xff")
    (bids / "._desc-tissue_dseg.tsv").write_bytes(b"\0\xff")
    for name in ("._sub-01", "sub-01~", ".sub-08"):
        (bids / name).mkdir()
    after = read_bids(bids)
    assert (after.names, after.label_names) == (before.names, before.label_names)
    (bids / "desc-tissue_dseg.tsv").unlink()
    assert read_bids(bids).label_names == {1: "1", 2: "2"}


def test_table_that_is_longer_than_the_labels(bids):
    rows = "".join(f"{1000 + row}\tctx-{row}\n" for row in range(1347))
    table = bids / "desc-tissue_dseg.tsv"
    table.write_text(f"index\tname\n{rows}2\tLeft\n41\tRight\n17\tHippo\n")
    # One label occurs in a single subject: every split of the cohort has its channel too.
    save(file_of(bids, "sub-05", "desc-tissue_dseg"), np.where(LABELS == 1, 17, LABELS))
    for number in range(1, 5):
        labels = np.where(LABELS == 1, 41, LABELS)
        save(file_of(bids, f"sub-{number:02d}", "desc-tissue_dseg"), labels)
    with pytest.warns(Note, match="1347 of the 1350 labels of .*dseg.tsv"):
        cohort = read_bids(bids)
    assert cohort.label_names == {1: "Left", 2: "Right", 3: "Hippo"}
    assert cohort.label_values == (0, 2, 41, 17)
    assert cohort.select(["sub-01"]).num_labels == 4
    assert np.unique(cohort.subjects[4].labels()).tolist() == [0, 1, 3]


def test_tables_that_cannot_be_read_are_named(bids):
    (bids / "desc-tissue_dseg.tsv").write_bytes(b"\xff\xfeindex\tname\n1\ta\n")
    with pytest.raises(ValueError, match=r"desc-tissue_dseg\.tsv is no text in UTF-8"):
        read_bids(bids)


def test_scans_of_a_folder_are_told_by_how_their_names_end(tmp_path):
    names = (
        "pat.001_T1w.nii.gz",
        "pat.001_mask.nii.gz",
        "IXI002-Guys-0828-T1.nii.gz",
        "labels.nii",
    )
    for name in (*names, "sub-1_T1w.nii", "sub-1_inplaneT1.nii", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    scans, left_out = scans_in(tmp_path)
    assert {path.name for path in left_out} == {"pat.001_mask.nii.gz", "labels.nii"}
    assert len(scans) == 4
    found = {only: [path.name for path in scans_in(tmp_path, [only])[0]] for only in ("T1", "T1w")}
    assert found["T1"] == ["IXI002-Guys-0828-T1.nii.gz"]
    assert found["T1w"] == ["pat.001_T1w.nii.gz", "sub-1_T1w.nii"]
