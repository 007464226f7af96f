"""Tissues of brains of any contrast, by a segmenter that ships: examples, training, and its use."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
