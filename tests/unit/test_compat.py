import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import cifl_tf

ROOT = Path(cifl_tf.__file__).parents[1]
CLEARED = (
    "TF_USE_LEGACY_KERAS",
    "TF_CPP_MIN_LOG_LEVEL",
    "TF_ENABLE_ONEDNN_OPTS",
    "NEURITE_BACKEND",
    "VXM_BACKEND",
)


def run_python(code, path=(), **variables):
    """Run code in a new Python whose environment a user's shell might have."""
    environment = {name: value for name, value in os.environ.items() if name not in CLEARED}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, [*path, ROOT]))
    return subprocess.run(
        [sys.executable, "-P", "-W", "default", "-c", code],  # -P: not what lies in this folder
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )


def import_error(run):
    """The ImportError that ended the run."""
    last = run.stderr.strip().splitlines()[-1]
    assert run.returncode == 1, run.stderr
    assert last.startswith("ImportError: "), run.stderr
    return last


def fake_release(folder, name, version):
    metadata = folder / f"{name}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_import_prints_nothing_and_leaves_nothing_behind():
    code = "import cifl_tf, inspect, sys; sys.exit(hasattr(inspect, 'getargspec'))"
    run = run_python(code)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("variables", "expected"), [({}, "1"), ({"TF_ENABLE_ONEDNN_OPTS": "0"}, "0")]
)
def test_fast_convolutions_unless_the_user_chose(variables, expected):
    code = "import cifl_tf, os; print(os.environ['TF_ENABLE_ONEDNN_OPTS'])"
    assert run_python(code, **variables).stdout.split() == [expected]


def test_no_getargspec_is_left_behind_here():
    assert not hasattr(inspect, "getargspec")


def test_keras_is_legacy_keras():
    from cifl_tf._compat import keras

    assert keras.Model.__module__.startswith("tf_keras")


def test_tensorflow_imported_earlier_with_keras_3():
    code = (
        "import os, tensorflow\n"
        "tensorflow.keras.layers\n"
        "try:\n"
        "    import cifl_tf\n"
        "finally:\n"
        "    print(os.environ.get('TF_USE_LEGACY_KERAS'))"
    )
    run = run_python(code)
    message = import_error(run)
    assert "imported with Keras 3" in message
    assert "TF_USE_LEGACY_KERAS=1" in message
    assert run.stdout.strip() == "None"  # what failed to help is not left behind


def test_keras_3_chosen_by_the_environment():
    message = import_error(run_python("import cifl_tf", TF_USE_LEGACY_KERAS="0"))
    assert "TF_USE_LEGACY_KERAS is '0'" in message
    assert "TF_USE_LEGACY_KERAS=1" in message


@pytest.mark.parametrize(("name", "version"), [("neurite", "0.3"), ("voxelmorph", "0.3.1")])
def test_pytorch_release_installed(tmp_path, name, version):
    fake_release(tmp_path, name, version)
    message = import_error(run_python("import cifl_tf", path=[tmp_path]))
    assert f"found {name} {version}, which is for PyTorch" in message
    assert f"{name}==0.2" in message
    assert 'pip install "neurite==0.2" "voxelmorph==0.2"' in message


@pytest.mark.parametrize("variable", ["NEURITE_BACKEND", "VXM_BACKEND"])
def test_pytorch_backend_chosen_by_the_environment(variable):
    message = import_error(run_python("import cifl_tf", **{variable: "pytorch"}))
    assert f"{variable} is 'pytorch'" in message
