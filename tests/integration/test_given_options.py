"""Ways to give options to the real commands: former names, files, and completion of the shell."""

import dataclasses
import json

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from cifl_tf.cli.main import app
from cifl_tf.datasets import virtual_cohort
from cifl_tf.features.config import TrainingConfig
from cifl_tf.registration.config import RegistrationConfig
from cifl_tf.segmentation.config import SegmentationConfig
from cifl_tf.training.claims import claim_folder
from command_runner import run_here

FORMER = {
    "features": "--ensemble gamma --frame=1",
    "segment train": "--model m --ensemble none --around THA --copies 2 --no-vary-intensity",
    "segment apply": "--frame 1",
    "register train": "--model=m --passes 3 --vary-intensity --remapped=0.1 --around x",
    "register apply": "--moving-frame 1 --fixed-frame 2",
    "register optimise": "--ensemble none --moving-frame 1",
    "evaluate": "--optimise --around THA",
}


@pytest.mark.parametrize("command", FORMER)
def test_commands_take_former_names(command):
    # --help ends a command after all of its options were understood.
    options = FORMER[command].split()
    done = run_here(*command.split(), *options, "--help")
    assert done.exit_code == 0, done.output
    (note,) = done.stderr.splitlines()
    former = [name.partition("=")[0] for name in options if name.startswith("--")]
    assert note.startswith("Note: ")
    assert [part for part in former if f"{part} is --" not in note] == []
    assert ("optimise is optimize now" in note) == (command == "register optimise")
    shown = run_here(*command.replace("optimise", "optimize").split(), "--help").stdout
    assert not [name for name in former if f"{name} " in shown and name != "--model"]


TRAININGS = {
    "train": (
        "cifl_tf.features.training.train",
        TrainingConfig(shape=(48, 50), scales=(2.5, 9), labels="/maps", both_orders=True),
    ),
    "segment train": (
        "cifl_tf.segmentation.training.train_segmenter",
        SegmentationConfig(
            "intensity", flip_axis=0, zoom_factors=(1.2,), remappings=(), cached_copies=2
        ),
    ),
    "register train": (
        "cifl_tf.registration.training.train_registration",
        RegistrationConfig("intensity", loss="ncc", num_cascades=3, intensity_augmentation=False),
    ),
}


@pytest.mark.parametrize("command", TRAININGS)
def test_a_training_is_asked_for_again_by_its_configuration(command, tmp_path, monkeypatch):
    """Also who trained: without their names, those who were kept out would train now."""
    function, config = TRAININGS[command]
    found = []
    monkeypatch.setattr(function, lambda out, *given: found.append(given))
    names = virtual_cohort(6).names
    people = {
        "data": "virtual:6",
        "train": names[1:3],
        "validation": names[3:5],
        "label_names": ["background", "WM"],
    }
    people = {} if command == "train" else people
    claim_folder(tmp_path / "first", dataclasses.asdict(config) | people)
    options = ["--out", tmp_path / "second", "--config", tmp_path / "first" / "config.json"]
    done = run_here(*command.split(), *options)
    assert done.exit_code == 0, done.output
    ((again, *cohorts),) = found
    assert again == config
    if cohorts:
        train, validation = cohorts
        assert [[*train.names], [*validation.names]] == [[*names[1:3]], [*names[3:5]]]
    assert run_here(*command.split(), *options, "--steps", 7).exit_code == 0
    assert found[1][0] == dataclasses.replace(config, steps=7)


def test_a_run_is_repeated_by_its_record(tmp_path, tiny_encoder, monkeypatch, rng):
    tiny_encoder.save(tmp_path / "encoder.keras")
    for name in "ab":
        image = nibabel.Nifti1Image(rng.random((9, 10, 11)).astype(np.float32), np.eye(4))
        nibabel.save(image, tmp_path / f"{name}.nii.gz")
    monkeypatch.chdir(tmp_path)
    options = ["--model", "encoder.keras", "--out", "out", "--plane", "axial", "--overwrite"]
    given = ["--remappings", "gamma", "--window", "0,0.9"]
    assert run_here("features", "a.nii.gz", "b.nii.gz", *options, *given).exit_code == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    again = run_here("features", "--config", tmp_path / "out" / "run.json")
    assert again.exit_code == 0, again.output
    first, second = json.loads((tmp_path / "out" / "run.json").read_text())["runs"]
    assert second["options"] == first["options"] | {"overwrite": False}
    assert second["inputs"][0]["files"] == first["inputs"][0]["files"]
    other = run_here("features", "--config", tmp_path / "out" / "run.json", "--plane", "coronal")
    assert "made with plane 'axial', not 'coronal'" in other.stderr
    wrong = run_here("export", "--config", tmp_path / "out" / "run.json")
    assert wrong.exit_code == 2
    wrong = run_here("segment", "apply", "--config", tmp_path / "out" / "run.json")
    assert wrong.stderr == (
        f"cifl: {tmp_path / 'out' / 'run.json'} has no run of cifl segment apply, but of cifl "
        "features; give another file\n"
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cifl reg", ["register"]),
        ("cifl register opt", ["optimize"]),
        ("cifl segment train --random", ["--random-contrast", "--random-strip"]),
        ("cifl segment train --out x --intens", ["--intensity-augmentation"]),
        ("cifl train --precision mixed", ["mixed_bfloat16"]),
        ("cifl register optimize a b --mod", ["--model"]),
        ("cifl segment train --ensem", []),
    ],
)
def test_shells_complete(line, expected):
    environment = {
        "_CIFL_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split()) - 1),
    }
    done = CliRunner().invoke(app, [], env=environment, prog_name="cifl")
    assert (done.stdout.split(), done.stderr) == (expected, "")


def test_completion_can_be_installed():
    shown = CliRunner().invoke(app, ["--help"], prog_name="cifl").stdout
    assert "--install-completion" in shown
