"""What answers at once imports nothing that takes seconds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cifl_tf

ROOT = Path(cifl_tf.__file__).parents[1]
HEAVY = ("tensorflow", "tf_keras", "neurite", "voxelmorph", "matplotlib", "nilearn", "nibabel")
HEAVY += ("pandas", "scipy", "sklearn", "rich")
# Command lines that end before any work, with their statuses.
QUICK = [
    ("--version", 0),
    ("--help", 0),
    ("info", 0),
    ("info shapes-2d", 0),
    ("info nobody", 1),
    ("nonsense", 2),
    ("train --out o --steps x", 2),
    ("train --out o --steps 0", 1),
    ("train --out o --config none.yaml", 1),
    ("features none.nii", 2),
    ("features none.nii --out o --remappings t2", 1),
    ("features none.nii --out o --window 80,0", 1),
    ("strip none.nii --out o --border 100", 1),
    ("strip none.nii --out o --window 80,0", 1),
    ("segment train --out o --zoom 1", 1),
    ("segment train --out o --ndim 4", 1),
    ("segment apply none.nii --out o --model m --window 1", 1),
    ("register train --out o --random-contrast 2", 1),
    ("register optimize a.nii b.nii --out o --ndim 4", 1),
    ("register a.nii b.nii --out o --stages rigid,none", 1),
    ("register nonsense", 2),
    ("cohort nonsense", 2),
    ("cohort features none o participant", 1),
    ("cohort features . o participant --shard 3/2", 1),
    ("cohort strip . o participant --border 100", 1),
    ("cohort register-to-template . o participant --stages none", 1),
    ("evaluate --model m --contrast T1w --out o --num-slices 0", 1),
    *[
        (f"{command} --help", 0)
        for command in (
            *("train", "features", "export", "demo", "info", "device", "evaluate", "warp", "strip"),
            *("segment", "segment train", "segment apply", "segment export"),
            *("register", "register train", "register apply", "register optimize"),
            "register pair",
            "register export",
            *("cohort", "cohort features", "cohort strip", "cohort segment"),
            "cohort register-to-template",
        )
    ],
]
CODE = """
import json, sys
from typer.testing import CliRunner
from cifl_tf.cli.main import app
statuses = [CliRunner().invoke(app, line.split()).exit_code for line in json.loads(sys.argv[1])]
print(json.dumps([statuses, sorted(set(json.loads(sys.argv[2])) & set(sys.modules))]))
"""


def run(lines, folder, names=HEAVY):
    arguments = [json.dumps(lines), json.dumps(names)]
    command = [sys.executable, "-c", CODE, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_many_scans_that_are_done_need_no_numpy(tmp_path):
    (tmp_path / "sub-1" / "anat").mkdir(parents=True)
    lines = ["--help", "cohort strip . out participant"]  # of which no scan is begun
    assert run(lines, tmp_path, [*HEAVY, "numpy"]) == [[0, 1], []]


def test_help_and_errors_import_nothing_heavy(tmp_path):
    lines = [line for line, _ in QUICK]
    assert run(lines, tmp_path) == [[status for _, status in QUICK], []]
    assert not [*tmp_path.iterdir()]


def test_what_is_looked_for_would_be_found(tmp_path):
    # The file is read by nibabel, and is not there.
    statuses, heavy = run(["register optimize a.nii b.nii --out o --ndim 2"], tmp_path)
    assert statuses == [1]
    assert {"nibabel", "tensorflow"} <= {*heavy}
