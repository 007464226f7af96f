"""Training images out of random shapes and label maps."""

import lazy_loader

from cifl_tf._former_modules import with_former

_present, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__getattr__ = with_former(__name__, _present)
