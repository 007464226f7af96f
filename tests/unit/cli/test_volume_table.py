import csv
from concurrent.futures import ThreadPoolExecutor

import pytest

from cifl_tf.cli.volume_table import VolumeTable

NAMES = ["WM", "GM"]


def images(path):
    with path.open(newline="") as file:
        return [row["image"] for row in csv.DictReader(file)]


def test_rows_are_added_and_replaced(tmp_path):
    path = tmp_path / "new" / "volumes.csv"
    table = VolumeTable(path, NAMES)
    table.add("/a/T1.nii.gz", {"WM": 1.5, "GM": 2})
    table.add("/b/T1.nii.gz", {"WM": 3, "GM": 4})
    VolumeTable(path, NAMES).add("/a/T1.nii.gz", {"WM": 5, "GM": 6})
    assert path.read_text().split() == [
        "image,WM,GM",
        "/a/T1.nii.gz,5,6",
        "/b/T1.nii.gz,3,4",
    ]


def test_runs_at_the_same_time_lose_no_row(tmp_path):
    path = tmp_path / "volumes.csv"
    names = [[f"/{run}/{image}.nii" for image in range(8)] for run in range(3)]

    def work(mine):
        table = VolumeTable(path, NAMES)
        for name in mine:
            table.add(name, {"WM": 0, "GM": 0})

    with ThreadPoolExecutor(3) as runs:
        list(runs.map(work, names))
    assert sorted(images(path)) == sorted(name for mine in names for name in mine)
    assert [file.name for file in tmp_path.iterdir()] == ["volumes.csv"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"image,WM\n/a,1\n", r"volumes.csv has the columns \['image', 'WM'\], but the segmenter"),
        (b"image,WM,GM\n/a,1\n", "volumes.csv is damaged"),
        (b"image,WM,GM\n/a,1,2,3\n", "volumes.csv is damaged"),
        (b"", "volumes.csv is damaged"),
        (b"image,WM,GM\n/\xff,1,2\n", "volumes.csv is damaged"),
        (b'image,WM,GM\n"/a,1,2\n', "volumes.csv is damaged"),
    ],
)
def test_other_tables_are_refused_and_stay(tmp_path, content, message):
    path = tmp_path / "volumes.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        VolumeTable(path, NAMES)
    table = VolumeTable(path, NAMES, overwrite=True)
    assert path.read_bytes() == content
    for name in ("/b", "/c"):
        table.add(name, {"WM": 1, "GM": 2})
    assert images(path) == ["/b", "/c"]


def test_a_table_that_another_run_changed_is_refused(tmp_path):
    path = tmp_path / "volumes.csv"
    table = VolumeTable(path, NAMES)
    path.write_text("image,other\n")
    with pytest.raises(ValueError, match="has the columns"):
        table.add("/a", {"WM": 1, "GM": 2})
    assert path.read_text() == "image,other\n"
