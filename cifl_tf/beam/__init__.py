"""Apache Beam: images as sources and sinks, and SavedModels, for pipelines of any runner.

Needs ``pip install ".[beam]"`` in a clone, in an environment of its own.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
