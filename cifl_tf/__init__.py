"""Contrast-invariant feature learning (CIFL) for medical images, in TensorFlow.

Names are imported when they are used: ``__init__.pyi`` lists where they are.
"""

import sys
import warnings

import lazy_loader

from cifl_tf import _environment, _former_modules, _quiet_tensorflow
from cifl_tf._version import __version__

_environment.prepare()

if "tensorflow" in sys.modules:  # before it fails in a less clear way
    from cifl_tf import _compat  # noqa: F401
else:
    _quiet_tensorflow.install()

_former_modules.install()
_present, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]
FORMER_NAMES = {"optimise_instance": "optimize_instance", "start_from": "transfer_weights"}


def __getattr__(name: str):
    if name in FORMER_NAMES:
        message = f"cifl_tf.{name} is cifl_tf.{FORMER_NAMES[name]} now"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
    return _present(FORMER_NAMES.get(name, name))
