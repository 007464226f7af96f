import os
import sys

import pytest

from cifl_tf._quiet_tensorflow import QuietTensorFlow, silent_stderr
from test_compat import run_python

NOISY = "import os\nos.write(2, b'noise')\nloud = True\n"


def test_what_is_held_back_comes_out_with_an_error(capfd):
    with silent_stderr():
        os.write(2, b"noise")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"
    with pytest.raises(TypeError), silent_stderr():
        os.write(2, b"noise") + None
    assert capfd.readouterr().err == "noise"


def test_tensorflow_is_quiet_after_this_package(tmp_path):
    (tmp_path / "tensorflow.py").write_text(NOISY)
    (tmp_path / "other.py").write_text(NOISY)
    quiet = run_python("import cifl_tf, tensorflow; print(tensorflow.loud)", [tmp_path])
    assert (quiet.stdout, quiet.stderr) == ("True\n", "")
    loud = run_python("import cifl_tf, other, tensorflow", [tmp_path])
    assert loud.stderr == "noise"


def test_a_failed_import_says_why(tmp_path):
    (tmp_path / "tensorflow.py").write_text(NOISY + "raise ImportError('no driver')")
    failed = run_python("import cifl_tf, tensorflow", [tmp_path])
    assert failed.stderr.startswith("noise")
    assert failed.stderr.endswith("ImportError: no driver\n")


def test_other_modules_are_found_as_ever():
    finder = QuietTensorFlow()
    assert finder.find_spec("json") is None
    assert finder not in sys.meta_path
