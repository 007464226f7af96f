import re
import shlex
import sys
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pytest

from cifl_tf.datasets import virtual_cohort
from command_runner import run_here, run_script_here

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
# As written, but for the length of training.
FEW_STEPS = {"steps_per_epoch=100, epochs=20": "steps_per_epoch=2, epochs=1"}
# Of a command, to make it short.
SHORTER = {
    "train": ("--steps", "2", "--num-slices", "3", "--num-filters", "2"),
    "evaluate": ("--num-slices", "3"),
    "tissues": ("--stripped",),  # the scans here are too small for a head
}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with the images that the README names."""
    folder = tmp_path_factory.mktemp("readme")
    rng = np.random.default_rng(0)
    for name in ("T1.nii.gz", "FLAIR.nii.gz"):
        nibabel.save(
            nibabel.Nifti1Image(rng.random((20, 22, 24)), np.diag([2.0, 2, 2, 1])), folder / name
        )
    # A head of a brain, a skull and a scalp.
    middle = np.linalg.norm(np.moveaxis(np.indices((50, 50, 50)), 0, -1) - 25, axis=-1)
    head = np.select([middle < 17, middle < 19, middle < 22], [90.0, 10, 60])
    nibabel.save(nibabel.Nifti1Image(head, np.diag([4, 4, 4, 1])), folder / "head.nii.gz")
    return folder


def features_of_block(code):
    """What a block calls ``features`` at its end."""
    names = {"__name__": "__main__"}
    exec(compile(code, "README.md", "exec"), names)
    return names["features"]


def test_readme_is_short():
    assert len(README.splitlines()) <= 130


def test_readme_runs_as_written(workplace, monkeypatch):
    languages = [language for language, _ in BLOCKS]
    assert languages == ["sh", "sh", "python", "sh", "sh", "python", "sh", "python"]
    features_script, keras_script, saved_model_script = (
        code for language, code in BLOCKS if language == "python"
    )
    commands = "".join(code for language, code in BLOCKS if language == "sh").splitlines()
    for long, short in FEW_STEPS.items():
        assert long in keras_script
        keras_script = keras_script.replace(long, short)
    with monkeypatch.context() as changed:
        changed.chdir(workplace)
        coarse = partial(virtual_cohort, resolution=4)  # which takes an eighth of the time
        changed.setattr("cifl_tf.datasets.catalog.virtual_cohort", coarse)
        assert features_of_block(features_script).shape == (20, 22, 24, 16)
        assert features_of_block(keras_script).shape == (197, 189, 16)
        for command in commands:
            program, *arguments = shlex.split(command, comments=True)
            if program == "make":
                assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.M)
                continue
            assert program == "cifl"
            shorter = [option for word in arguments for option in SHORTER.get(word, ())]
            done = run_here(*arguments, *shorter)
            assert done.exit_code == 0, f"{command}: {done.stderr or done.exception!r}"
        # As where the package is not installed; test_export.py has a process without it.
        for name in ("cifl_tf", "neurite", "voxelmorph", "tf_keras", "keras"):
            changed.setitem(sys.modules, name, None)  # importing it raises ImportError
        assert features_of_block(saved_model_script).shape == (4, 160, 192, 16)
    written = {path.name for path in workplace.iterdir()}
    assert written >= {
        "encoder.keras",
        "stripped",
        "labels",
        "registered",
        "warped",
        "scores",
        "saved_model",
    }
    assert (workplace / "labels" / "report.html").exists()


@pytest.mark.parametrize(
    "script", sorted((ROOT / "scripts").glob("*.py")), ids=lambda path: path.stem
)
def test_scripts_start(script, capsys):
    if "__main__" not in script.read_text():
        pytest.skip("a module that scripts share")
    with pytest.raises(SystemExit) as end:
        run_script_here(script, "--help")
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("usage: ")


def test_script_runs(tmp_path):
    options = ["--shape", "32", "32", "--epochs", "1", "--steps-per-epoch", "2"]
    run_script_here(ROOT / "scripts" / "train_cifl.py", "--out", tmp_path, *options)
    assert {path.name for path in tmp_path.iterdir()} == {"encoder.keras", "logs", "saved_model"}
