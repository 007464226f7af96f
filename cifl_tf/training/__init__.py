"""What every resumable training shares."""

import lazy_loader

from cifl_tf._former_modules import with_former

_present, __dir__, __all__ = lazy_loader.attach(__name__, submodules=["callbacks", "folder"])
__getattr__ = with_former(__name__, _present)
