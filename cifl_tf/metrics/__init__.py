"""How good a result is: features, label maps, warps, and runs compared; knows arrays only."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
