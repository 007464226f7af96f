"""Subjects with contrasts and labels: readers of published datasets, and a virtual cohort."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
