"""Contrast-invariant feature learning (CIFL) for medical images, in TensorFlow.

Names are imported when they are used: ``__init__.pyi`` lists where they are.
"""

import sys

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
__getattr__ = _former_modules.with_former(__name__, _present)
