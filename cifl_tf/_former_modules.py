"""Names that modules had before version 0.3, for scripts and files of before.

A ``.keras`` file of an earlier version names the module of each class, and Keras imports modules by
these names.
"""

import importlib
import importlib.abc
import importlib.util
import sys
import types
import warnings

FORMER = {
    "appearance": "synthesis.appearance",
    "averaging": "augmentation.test_time",
    "callbacks": "training.callbacks",
    "cli_errors": "cli.errors",
    "cli_options": "cli.options",
    "command_run": "cli.command_run",
    "datasets.diffeomorphisms": "datasets.virtual_fields",
    "datasets.opening": "datasets.catalog",
    "datasets.segmentation_maps": "datasets.label_folder",
    "datasets.studies": "datasets.splits",
    "datasets.tables": "datasets.label_tables",
    "demo": "cli.demo_images",
    "encoder": "features.encoder",
    "evaluation_cli": "cli.evaluate",
    "evaluation_report": "evaluation.report",
    "evaluation_summary": "evaluation.summary",
    "files": "images.atomic",
    "frozen_features": "features.frozen",
    "grid": "images.grid",
    "image_claims": "images.claims",
    "image_files": "images.nifti",
    "inference": "features.inference",
    "instance": "registration.instance",
    "intensity": "images.intensity",
    "layers": "features.layers",
    "losses": "features.losses",
    "memory": "images.memory",
    "mind": "features.mind",
    "model": "features.cifl",
    "model_archive": "models.archive",
    "model_config": "models.config",
    "model_files": "models.files",
    "model_order": "models.order",
    "output_folder": "cli.output_folder",
    "patches": "augmentation.patches",
    "precision": "models.precision",
    "pretrained": "features.pretrained",
    "registration_cli": "cli.register",
    "registration_files": "registration.images",
    "registration_methods": "registration.methods",
    "registration_training": "registration.training",
    "run_report": "cli.run_report",
    "segmentation_cli": "cli.segment",
    "segmentation_training": "segmentation.training",
    "similarity": "registration.similarity",
    "smooth_fields": "synthesis.smooth_fields",
    "syn": "registration.syn",
    "training_folder": "training.folder",
    "training_progress": "training.progress",
    "transforms": "registration.displacements",
    "volume_table": "cli.volume_table",
    "volumes": "images.volumes",
    "warps": "images.warps",
}
# Of modules that were divided: where their classes are. Files name these two.
DIVIDED = {
    "image_model": {"Encoder": "features.encoder", "Segmenter": "segmentation.segmenter"},
}
PREFIX = "cifl_tf."


class FormerModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives a module of today under the name that was its own before."""

    def find_spec(self, fullname, path=None, target=None):
        """A spec for a former name; None for all other names."""
        name = fullname.removeprefix(PREFIX)
        if name not in FORMER | DIVIDED or not fullname.startswith(PREFIX):
            return None
        return importlib.util.spec_from_loader(fullname, self)

    def create_module(self, spec):
        """The module of today, or one with the classes of one that was divided."""
        former = spec.name.removeprefix(PREFIX)
        if former in DIVIDED:
            self.own_spec = spec
            return _gathered(spec, DIVIDED[former])
        name = PREFIX + FORMER[former]
        warnings.warn(f"{spec.name} is {name} now", DeprecationWarning, stacklevel=2)
        module = importlib.import_module(name)
        self.own_spec = module.__spec__
        return module

    def exec_module(self, module):
        """Give the module its own specification back; it ran under its own name."""
        module.__spec__ = self.own_spec


def _gathered(spec, places):
    """A module with classes of several others."""
    warnings.warn(f"{spec.name} is divided: {places}", DeprecationWarning, stacklevel=3)
    module = types.ModuleType(spec.name)
    for name, place in places.items():
        setattr(module, name, getattr(importlib.import_module(PREFIX + place), name))
    return module


def install() -> None:
    """Let Python find former names, after all others."""
    if not any(isinstance(finder, FormerModules) for finder in sys.meta_path):
        sys.meta_path.append(FormerModules())
