import nibabel
import numpy as np
import pytest

from cifl_tf._notes import Note
from cifl_tf.datasets.label_tables import (
    occurring_rows,
    occurring_values,
    read_bids_table,
    read_freesurfer_table,
)

HEADINGS = b"index\tname\tabbreviation\n"


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_abbreviations_come_before_names(tmp_path):
    rows = b"0\t\t\n4\tfour\tF\n1\tone\t\n2\ttwo\tn/a\n3\tthree\n"
    for start in (b"", b"\xef\xbb\xbf"):  # with the mark that Windows puts before UTF-8
        found = read_bids_table(write(tmp_path / "dseg.tsv", start + HEADINGS + rows))
        assert found == {4: "F", 1: "one", 2: "two", 3: "three"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"has the columns \[\]"),
        ("value\tname\n1\tone\n", r"has the columns \['value', 'name'\]: it needs"),
        ("x" * 10_000 + "\n1\n", r"has the columns \['xxx.*\.\.\..*xxx'\]: it needs"),
        ("index,name\n1,one\n", r"has the columns \['index,name'\]: it needs"),
        ("index\tname\nx\tone\n", "has the label 'x': give whole numbers"),
        ("index\tname\tcolor\n\tone\tred\n", "has the label '': give whole numbers"),
        ("name\tindex\none\n", "has the label None: give whole numbers"),
        ("index\tname\n3000000000\tone\n", r"has the label 3000000000: .* below 2\*\*31"),
        ("index\tname\n1\tone\n1\ttwo\n", "has the label 1 twice"),
        ("index\tname\n0\tnone\n", "has no labels besides 0"),
        ("index\tname\n1\tone\n2\tone\n", "has the same name for two labels"),
        ("index\tname\n1\tone\n2\n", "has a name of 0 letters for the label 2: give 1 to 200"),
        ("index\tname\n1\tn/a\n", "has a name of 0 letters for the label 1"),
        ("index\tname\n1\t" + "x" * 201, "has a name of 201 letters for the label 1"),
        ("index\tname\n1\t" + "x" * 200_000, r"is no table with tabs \(field larger than"),
        (b"\xff\xfeindex\tname\n1\ta\n", r"is no text in UTF-8 \(invalid start byte\)"),
        ("index\tname\n1\tgrüne\n".encode("latin-1"), "is no text in UTF-8"),
        (bytes(range(256)), "is no text in UTF-8"),
    ],
)
def test_bids_tables_that_are_wrong(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"table\.tsv {message}") as caught:
        read_bids_table(write(tmp_path / "table.tsv", content))
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a b 0 0 0 0", "has the label 'a': give whole numbers"),
        ("1 one 0 0 0 0\n2", "has a name of 0 letters for the label 2"),
        ("# nothing", "has no labels besides 0"),
        (b"1 gr\xfcn 0 0 0 0", "is no text in UTF-8"),
    ],
)
def test_freesurfer_tables_that_are_wrong(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"lut\.txt {message}"):
        read_freesurfer_table(write(tmp_path / "lut.txt", content))


@pytest.fixture
def label_maps(tmp_path):
    """Files with the labels 0 and 2; 0, 2 and 41; and 17."""
    paths = []
    for number, values in enumerate([(0, 2), (0, 2, 41), (17, 17)]):
        labels = np.resize(np.array(values, np.uint8), (3, 3, 3))
        paths.append(tmp_path / f"{number}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), paths[-1])
    return paths


def test_rows_of_labels_that_occur_nowhere_are_left_out(label_maps):
    table = {2: "Left", 41: "Right", 17: "Hippo"}
    long = {1000 + row: f"ctx-{row}" for row in range(1347)} | table
    with pytest.warns(
        Note, match=r"^1347 of the 1350 labels of a\.tsv occur in no .*: ctx-0, ctx-1.* 1341 more$"
    ):
        assert list(occurring_rows(long, label_maps, "a.tsv").items()) == list(table.items())
    assert occurring_values(label_maps) == [0, 2, 17, 41]
    with pytest.raises(ValueError, match=r"a\.tsv has the labels 1, 3, of which no segmentation"):
        occurring_rows({1: "one", 3: "three"}, label_maps, "a.tsv")


def test_label_maps_are_read_once_and_no_more_than_needed(label_maps, monkeypatch):
    read = []

    def read_labels(path):
        read.append(path)
        return np.array([0, 5, 6])

    monkeypatch.setattr("cifl_tf.datasets.label_tables.read_labels", read_labels)
    assert occurring_rows({6: "six"}, label_maps, "a.tsv") == {6: "six"}
    assert read == label_maps[:1]
    for _ in range(2):
        assert occurring_values(label_maps) == [0, 5, 6]
    assert read == label_maps
    label_maps[1].write_bytes(b"changed")
    occurring_values(label_maps)
    assert read == [*label_maps, label_maps[1]]
