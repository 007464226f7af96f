"""Legacy Keras, neurite and voxelmorph: the only module that imports them.

neurite 0.2 and voxelmorph 0.2 are the last releases for TensorFlow. They need Keras 2 (the
``tf-keras`` package) and ``inspect.getargspec``, which Python 3.11 removed. Everything else in the
package imports ``keras``, ``ne`` and ``vxm`` from here.
"""

import contextlib
import inspect
import os
import warnings
from collections import namedtuple

from cifl_tf._environment import KERAS_HINT, KERAS_VARIABLE, prepare
from cifl_tf._quiet_tensorflow import silent_stderr


def _require_legacy_keras():
    """Raise ImportError if TensorFlow was imported with Keras 3."""
    with silent_stderr():
        # Not tf.keras: that reads the variable now, these the one TensorFlow was imported with.
        from tensorflow.keras.layers import Layer

    if not Layer.__module__.startswith("tf_keras"):
        if not prepare():
            del os.environ[KERAS_VARIABLE]
        raise ImportError(f"TensorFlow was imported with Keras 3. {KERAS_HINT}.")


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


_require_legacy_keras()
with silent_stderr(), _getargspec(), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import neurite as ne
    import voxelmorph as vxm
from tensorflow import keras  # noqa: E402

__all__ = ["keras", "ne", "vxm"]
