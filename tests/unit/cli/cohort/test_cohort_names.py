import json
from pathlib import Path

import pytest

from cifl_tf.cli.cohort.names import Scan
from cifl_tf.datasets.bids_names import parse_name


def scan(name, folder="anat"):
    entities, suffix, _ = parse_name(name)
    return Scan(Path(name), folder, entities, suffix)


@pytest.mark.parametrize(
    ("source", "entities", "suffix", "expected"),
    [
        ("sub-1_T1w.nii.gz", {"desc": "brain"}, None, "sub-1_desc-brain_T1w.nii.gz"),
        (
            "sub-1_ses-2_acq-x_run-3_T1w.nii",
            {"desc": "cifl", "space": "T1w"},
            "dseg",
            "sub-1_ses-2_acq-x_run-3_space-T1w_desc-cifl_dseg.nii.gz",
        ),
        (
            "sub-1_run-3_desc-brain_FLAIR.nii.gz",
            {"from": "FLAIR", "to": "MNI", "mode": "image", "desc": None},
            "xfm",
            "sub-1_run-3_from-FLAIR_to-MNI_mode-image_xfm.nii.gz",
        ),
        (
            "sub-1_new-9_desc-a_T1w.nii.gz",
            {"res": "2"},
            None,
            "sub-1_new-9_res-2_desc-a_T1w.nii.gz",
        ),
    ],
)
def test_entities_are_in_the_order_of_bids(source, entities, suffix, expected):
    assert scan(source).name(entities, suffix) == f"anat/{expected}"


def test_contrasts_have_names_of_their_own():
    for pattern in ("sub-1_{}.nii.gz", "sub-1_space-MNI_{}.nii.gz"):
        scans = [scan(pattern.format(contrast)) for contrast in ("T1w", "FLAIR")]
        assert len({one.name(one.on_own_grid("brain"), "mask") for one in scans}) == 2
    in_space = scan("sub-1_space-MNI_T1w.nii.gz")
    masked = in_space.name(in_space.on_own_grid("brain"), "mask")
    assert masked == "anat/sub-1_space-MNI_desc-brainT1w_mask.nii.gz"


def test_whether_the_skull_is_there(tmp_path):
    one = Scan(tmp_path / "sub-1_T1w.nii.gz", "anat", {"sub": "1"}, "T1w")
    sidecar = tmp_path / "sub-1_T1w.json"
    assert not one.skull_stripped
    for content, expected in ({"SkullStripped": True}, True), ({}, False), ([], False):
        sidecar.write_text(json.dumps(content))
        assert one.skull_stripped == expected
