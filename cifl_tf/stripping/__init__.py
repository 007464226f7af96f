"""Brain masks of whole heads, of any contrast: examples for training, the network, and its use."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
