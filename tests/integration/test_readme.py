import re
import shlex
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from command_runner import run_here

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
# As written, but for the length of training.
FEW_STEPS = {"steps_per_epoch=100, epochs=20": "steps_per_epoch=2, epochs=1"}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with the images that the README names."""
    folder = tmp_path_factory.mktemp("readme")
    rng = np.random.default_rng(0)
    for name in ("T1.nii.gz", "FLAIR.nii.gz"):
        nibabel.save(nibabel.Nifti1Image(rng.random((20, 22, 24)), np.eye(4)), folder / name)
    return folder


def run_python(code, folder):
    return subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)


def test_readme_runs_as_written(workplace, monkeypatch):
    languages = [language for language, _ in BLOCKS]
    # "bash" needs ANTs, see test_ants_puts_an_affine_before_the_warp.
    assert languages == ["python"] * 2 + ["sh"] * 3 + ["python", "bash", "sh", "python"]
    scripts = [code for language, code in BLOCKS if language == "python"]
    first_script, keras_script, registration_script, saved_model_script = scripts
    commands = "".join(code for language, code in BLOCKS if language == "sh")
    for long, short in FEW_STEPS.items():
        assert long in keras_script
        keras_script = keras_script.replace(long, short)
    check = "\nassert features.shape == (197, 189, 16), features.shape"
    run_python(first_script + check, workplace)
    run_python(keras_script + check, workplace)
    with monkeypatch.context() as changed:
        changed.chdir(workplace)
        for command in commands.splitlines():
            program, *arguments = shlex.split(command)
            assert program == "cifl"
            steps = ["--steps", "2"] if "train" in arguments else []
            done = run_here(*arguments, *steps)
            assert done.exit_code == 0, f"{command}: {done.stderr or done.exception!r}"
    run_python(registration_script, workplace)
    written = {path.name for path in workplace.iterdir()}
    assert written >= {"encoder.keras", "my_model", "demo", "features", "saved_model", "labels"}
    assert "warped.nii.gz" in written
    check = "\nassert features.shape == (4, 160, 192, 16), features.shape"
    check += "\nassert next(iter(dataset))['features'].shape == (1, 160, 192, 16)"
    run_python(saved_model_script + check, workplace)


@pytest.mark.parametrize(
    "script", sorted((ROOT / "scripts").glob("*.py")), ids=lambda path: path.stem
)
def test_scripts_start(script):
    if "ArgumentParser" not in script.read_text():
        pytest.skip("a module that scripts share")
    done = subprocess.run([sys.executable, script, "--help"], check=True, capture_output=True)
    assert done.stdout.startswith(b"usage: ")


def test_script_runs(tmp_path):
    options = ["--shape", "32", "32", "--epochs", "1", "--steps-per-epoch", "2"]
    script = ROOT / "scripts" / "train_cifl.py"
    subprocess.run([sys.executable, script, "--out", tmp_path, *options], check=True)
    assert {path.name for path in tmp_path.iterdir()} == {"encoder.keras", "logs", "saved_model"}
