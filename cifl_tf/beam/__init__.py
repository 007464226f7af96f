"""Apache Beam: images as sources and sinks, and SavedModels, for pipelines of any runner.

Needs ``pip install "cifl_tf[beam]"``, in an environment of its own.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
