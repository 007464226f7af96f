import dataclasses
import json

import pytest

from cifl_tf.cli.cohort.dataset import bids_uri, claim_dataset
from cifl_tf.cli.run_report import Request

REQUEST = Request("cohort strip", [], "/", {"model": "strip", "border": 0.0, "window": None})


@pytest.fixture
def bids(tmp_path):
    (tmp_path / "my study").mkdir()
    return tmp_path / "my study"


def test_what_describes_a_derivative_dataset(bids, tmp_path):
    out = tmp_path / "out"
    claim_dataset(out, bids, "Brains", REQUEST)
    found = json.loads((out / "dataset_description.json").read_text())
    assert (found["DatasetType"], found["Name"]) == ("derivative", "Brains of my study")
    (made_by,) = found["GeneratedBy"]
    assert made_by["Name"] == "cifl_tf"
    assert made_by["Description"] == "cifl cohort strip with border 0.0, model strip"
    assert found["DatasetLinks"] == {"source": bids.as_uri()}
    assert bids_uri("sub-1/a b.nii") == "bids:source:sub-1/a%20b.nii"
    assert {path.name for path in out.iterdir()} == {
        *("dataset_description.json", ".bidsignore", "README.md")
    }


def test_the_same_command_changes_nothing(bids, tmp_path):
    out = tmp_path / "out"
    claim_dataset(out, bids, "Brains", REQUEST)
    (out / "README.md").write_text("of the user")
    before = (out / "dataset_description.json").stat().st_mtime_ns
    claim_dataset(out, bids, "Brains", REQUEST)
    assert (out / "README.md").read_text() == "of the user"
    assert (out / "dataset_description.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"GeneratedBy": [{"Name": "fMRIPrep"}]}, "is a dataset of fMRIPrep"),
        ({"GeneratedBy": None}, "is a dataset of another program"),
        ({"GeneratedBy": {"Name": "FreeSurfer"}}, "is a dataset of FreeSurfer"),
        ({"GeneratedBy": ["FreeSurfer"]}, "is a dataset of another program"),
        ({"DatasetLinks": {"source": "file:///other"}}, "was made from .*other"),
    ],
)
def test_other_datasets_are_refused(bids, tmp_path, change, reason):
    out = tmp_path / "out"
    claim_dataset(out, bids, "Brains", REQUEST)
    file = out / "dataset_description.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ValueError, match=f"{reason}.*; give another OUT_DIR, or --overwrite"):
        claim_dataset(out, bids, "Brains", REQUEST)
    claim_dataset(out, bids, "Brains", dataclasses.replace(REQUEST, overwrite=True))
    claim_dataset(out, bids, "Brains", REQUEST)


def test_other_options_are_refused(bids, tmp_path):
    claim_dataset(tmp_path / "out", bids, "Brains", REQUEST)
    wider = dataclasses.replace(REQUEST, options={**REQUEST.options, "border": 2.0})
    with pytest.raises(ValueError, match=r"border 0.0.*not.*border 2.0.*give another OUT_DIR"):
        claim_dataset(tmp_path / "out", bids, "Brains", wider)
    with pytest.raises(ValueError, match="is the dataset of the scans"):
        claim_dataset(bids, bids, "Brains", REQUEST)


def test_a_damaged_description(bids, tmp_path):
    (tmp_path / "dataset_description.json").write_text("{")
    with pytest.raises(ValueError, match="is no JSON"):
        claim_dataset(tmp_path, bids, "Brains", REQUEST)
