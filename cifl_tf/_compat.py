"""Legacy Keras, neurite and voxelmorph: the only module that imports them.

neurite 0.2 and voxelmorph 0.2 are the last releases for TensorFlow. They need Keras 2 (the
``tf-keras`` package) and ``inspect.getargspec``, which Python 3.11 removed. Everything else in the
package imports ``keras``, ``ne`` and ``vxm`` from here.
"""

import contextlib
import importlib.metadata
import inspect
import os
import sys
import tempfile
import warnings
from collections import namedtuple

LAST_TENSORFLOW_RELEASE = {"neurite": "0.2", "voxelmorph": "0.2"}
INSTALL_HINT = 'python -m pip install "neurite==0.2" "voxelmorph==0.2"'


def _require_tensorflow_releases():
    """Raise ImportError unless the TensorFlow releases of neurite and voxelmorph are installed."""
    for name, expected in LAST_TENSORFLOW_RELEASE.items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            raise ImportError(
                f"cifl_tf needs {name}=={expected}, which is not installed. Run: {INSTALL_HINT}"
            ) from None
        if found != expected:
            raise ImportError(
                f"cifl_tf needs {name}=={expected}, the last release for TensorFlow, but found "
                f"{name} {found}, which is for PyTorch. (voxelmorph 0.2 asks for neurite>=0.2, so "
                f"an unpinned install ends here.) Run: {INSTALL_HINT}"
            )
    for variable in ("NEURITE_BACKEND", "VXM_BACKEND"):
        if os.environ.get(variable, "tensorflow") != "tensorflow":
            raise ImportError(
                f"cifl_tf needs the TensorFlow backend, but the environment variable {variable} is "
                f"{os.environ[variable]!r}. Unset it, or set it to 'tensorflow'."
            )


def _set_tensorflow_defaults():
    """Choose what TensorFlow reads from the environment on import, where the user has not."""
    # TensorFlow logs a missing GPU as an error, so 3; real errors reach Python as exceptions.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # TensorFlow turns these convolutions on by itself only for processors with AVX-512 VNNI or AMX.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def _select_legacy_keras():
    """Make ``tf.keras`` Keras 2, or raise ImportError if TensorFlow already chose Keras 3."""
    hint = (
        "cifl_tf needs Keras 2 (tf-keras): import cifl_tf before tensorflow, or set the "
        "environment variable TF_USE_LEGACY_KERAS=1 before Python starts"
    )
    chosen = os.environ.get("TF_USE_LEGACY_KERAS")
    if chosen is not None and chosen not in ("1", "true", "True"):
        raise ImportError(f"TF_USE_LEGACY_KERAS is {chosen!r}. {hint}.")
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    with _silent_stderr():
        # Not tf.keras: that reads the variable now, these the one TensorFlow was imported with.
        from tensorflow.keras.layers import Layer

    if not Layer.__module__.startswith("tf_keras"):
        if chosen is None:
            del os.environ["TF_USE_LEGACY_KERAS"]
        raise ImportError(f"TensorFlow was imported with Keras 3. {hint}.")


@contextlib.contextmanager
def _silent_stderr():
    """Hold back what C++ writes to standard error; give it out again if the block raises.

    TensorFlow's first messages come before its log level is read, so only this silences them.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


@contextlib.contextmanager
def _getargspec():
    """Lend ``inspect.getargspec`` to the decorators that neurite and voxelmorph run on import."""
    if hasattr(inspect, "getargspec"):
        yield
        return
    arg_spec = namedtuple("arg_spec", "args varargs keywords defaults")
    # By name, because the type checker knows that it is gone.
    shim = lambda function: arg_spec(*inspect.getfullargspec(function)[:4])  # noqa: E731
    setattr(inspect, "getargspec", shim)  # noqa: B010
    try:
        yield
    finally:
        delattr(inspect, "getargspec")


_require_tensorflow_releases()
_set_tensorflow_defaults()
_select_legacy_keras()
with _silent_stderr(), _getargspec(), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import neurite as ne
    import voxelmorph as vxm
from tensorflow import keras  # noqa: E402

__all__ = ["keras", "ne", "vxm"]
