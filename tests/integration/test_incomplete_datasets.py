"""What commands make of datasets that lack files; nothing is trained here."""

import shutil

import pytest

from command_runner import run_here

TRAIN = {
    "segment": "cifl_tf.segmentation.training.train_segmenter",
    "register": "cifl_tf.registration.training.train_registration",
}


@pytest.fixture
def incomplete(dataset, tmp_path):
    """Five subjects, the first without T1w, the second without FLAIR."""
    folder = shutil.copytree(dataset, tmp_path / "bids")
    fifth = shutil.copytree(folder / "sub-4", folder / "sub-5")
    for path in sorted(fifth.rglob("sub-4*")):
        path.rename(path.with_name(path.name.replace("sub-4", "sub-5")))
    (folder / "sub-1" / "anat" / "sub-1_T1w.nii.gz").unlink()
    (folder / "sub-2" / "anat" / "sub-2_FLAIR.nii.gz").unlink()
    return folder


@pytest.mark.parametrize("task", TRAIN)
@pytest.mark.parametrize(("contrast", "lacking"), [("T1w", 1), ("FLAIR:inverted", 2)])
def test_training_needs_its_own_contrast_only(
    incomplete, tmp_path, monkeypatch, task, contrast, lacking
):
    found = []
    monkeypatch.setattr(
        TRAIN[task], lambda out, config, train, validation: found.extend((*train, *validation))
    )
    options = ["--data", incomplete, "--contrast", contrast, "--out", tmp_path / "out"]
    done = run_here(task, "train", *options, "--encoder", "intensity", "--skip-incomplete")
    assert done.exit_code == 0, done.output
    names = sorted(subject.name for subject in found)
    assert names == [f"sub-{number}" for number in range(1, 6) if number != lacking]
    suffix = contrast.partition(":")[0]
    assert all(suffix in subject.contrasts for subject in found)
    (note,) = done.stderr.splitlines()
    assert note.startswith(f"Note: 1 of 5 subjects of {incomplete} are incomplete and left out: ")
    assert f"sub-{lacking} (there is no sub-{lacking}*_{suffix}.nii.gz in " in note
    refused = run_here(task, "train", *options, "--encoder", "intensity")
    assert refused.exit_code == 1
    assert refused.stderr.startswith(f"cifl: subject sub-{lacking}: there is no sub-{lacking}*_")


def test_evaluation_needs_the_contrasts_that_are_compared(incomplete, tmp_path, monkeypatch):
    asked = []

    def load_cohort(data, ndim, segmentation, skip_incomplete, needed):
        asked.append((skip_incomplete, needed))
        raise ValueError("enough")

    monkeypatch.setattr("cifl_tf.datasets.catalog.load_cohort", load_cohort)
    options = ["--data", incomplete, "--contrast", "FLAIR,T1w:inverted", "--out", tmp_path / "out"]
    run_here("evaluate", "--model", "shapes-2d", *options, "--skip-incomplete")
    run_here("evaluate", "--model", "intensity", "--optimize", *options)
    assert asked == [
        (True, ["FLAIR", "T1w:inverted"]),
        (False, ["T1w", "FLAIR", "T1w:inverted"]),
    ]
