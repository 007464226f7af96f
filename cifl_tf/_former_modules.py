"""Names that modules had in earlier versions, for scripts and files of before.

A ``.keras`` file of an earlier version names the module of each class, and Keras imports modules by
these names. Modules that became packages have the names that moved elsewhere by ``with_former``.
"""

import importlib
import importlib.abc
import importlib.util
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

# Where the names of a module are now: in one module, or in several.
FORMER = {
    "appearance": "synthesis.appearance synthesis.thickness",
    "averaging": "augmentation.test_time _checks",
    "callbacks": "training.callbacks features.callbacks features.pictures",
    "cli_errors": "cli.errors",
    "cli_options": "cli.options cli.parsing features.pretrained",
    "command_run": "cli.command_run",
    "datasets.diffeomorphisms": "datasets.virtual_fields",
    "datasets.opening": "datasets.catalog",
    "datasets.segmentation_maps": "datasets.label_folder",
    "datasets.studies": "datasets.splits datasets.views",
    "datasets.tables": "datasets.label_tables",
    "demo": "cli.demo_images",
    "encoder": "features.encoder features.architectures",
    "evaluation_cli": "cli.evaluate cli.evaluated",
    "evaluation_report": "evaluation.report",
    "evaluation_summary": "evaluation.summary",
    "files": "images.atomic",
    "frozen_features": "features.frozen datasets.contrasts",
    "grid": "images.grid",
    "image_claims": "images.claims",
    "image_files": "images.nifti",
    "image_model": (
        "models.image_model images.preprocessing features.encoder segmentation.segmenter"
    ),
    "inference": "features.inference features.pretrained",
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
    "registration_files": "registration.images registration.result registration.config",
    "registration_methods": "registration.methods",
    "registration_training": (
        "registration.training registration.network registration.config registration.loading "
        "registration.data"
    ),
    "run_report": "cli.run_report",
    "segmentation_cli": "cli.segment",
    "segmentation_training": (
        "segmentation.training segmentation.segmenter segmentation.data segmentation.config "
        "segmentation.loading segmentation.images"
    ),
    "similarity": "registration.similarity",
    "smooth_fields": "synthesis.smooth_fields",
    "syn": "registration.syn",
    "tissues.refinement": "segmentation.refinement tissues.segment",
    "training_folder": "training.folder training.claims models.fitting images.memory",
    "training_progress": "training.progress",
    "transforms": "registration.displacements",
    "volume_table": "cli.volume_table",
    "volumes": "images.volumes images.planes images.grid",
    "warps": "images.warps",
}
# The same of modules that are packages now.
FORMER_PACKAGES = {
    "augmentation": "augmentation.spatial augmentation.intensity",
    "datasets": "datasets.catalog",
    "figures": "figures.features figures.segmentation figures.registration",
    "registration": "registration.network registration.settings registration.dense",
    "segmentation": "segmentation.network segmentation.losses segmentation.data",
    "synthesis": "synthesis.pairs synthesis.shapes synthesis.appearance",
    "training": "features.training features.config",
}
# Names of functions and classes, after a module where the name alone would not do.
RENAMED = {
    "Look": "IntensityChange",
    "checked_ensemble": "checked_remappings",
    "encode_once": "cache_features",
    "intensity_augmentation": "make_intensity_augmentation",
    "neighbour_pairs": "neighbor_pairs",
    "open_cohort": "load_cohort",
    "optimisation_voxel_size": "optimization_voxel_size",
    "optimise_instance": "optimize_instance",
    "registration_files.Registration": "RegistrationResult",
    "start_from": "transfer_weights",
    "written_whole": "atomic_path",
}
PREFIX = "cifl_tf."


class FormerModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the names of a module of before, from where they are now."""

    def find_spec(self, fullname, path=None, target=None):
        """A spec for a former name; None for all other names."""
        former = fullname.removeprefix(PREFIX)
        if former not in FORMER or not fullname.startswith(PREFIX):
            return None
        return importlib.util.spec_from_loader(fullname, self)

    def create_module(self, spec):
        """An empty module."""
        return types.ModuleType(spec.name)

    def exec_module(self, module):
        """Fill the module."""
        former = module.__name__.removeprefix(PREFIX)
        first, *others = FORMER[former].split()
        places = f"{PREFIX}{first} now" + (f", and in {', '.join(others)}" if others else "")
        # 6: the import system has five frames in between.
        warnings.warn(f"{module.__name__} is {places}", DeprecationWarning, stacklevel=6)
        for name, value in _gathered(former, (first, *others)).items():
            setattr(module, name, value)


def _gathered(former, places):
    """Everything that a module of before held, under its names of then."""
    found: dict[str, Any] = {}
    for place in reversed(places):
        module = importlib.import_module(PREFIX + place)
        found |= {name: value for name, value in vars(module).items() if name[:2] != "__"}
    for name, present in RENAMED.items():
        owner, _, name = name.rpartition(".")
        if present in found and owner in ("", former):
            found[name] = found[present]
    return found


def with_former(package: str, present: Callable[[str], Any]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package that also knows names which it held as a module of before.

    Args:
        package: its name, such as "cifl_tf.training".
        present: its own ``__getattr__``.
    """
    former = package.removeprefix("cifl_tf").removeprefix(".")

    def get(name: str):
        try:
            return present(name)
        except AttributeError:
            # Not for modules of the package, which Python imports when this raises.
            if name.startswith("__") or importlib.util.find_spec(f"{package}.{name}"):
                raise
            if not former and name in RENAMED:
                value = present(RENAMED[name])
            else:
                found = _gathered(former, FORMER_PACKAGES.get(former, "").split())
                if name not in found:
                    raise
                value = found[name]
            warnings.warn(
                f"{package}.{name} is {value.__module__}.{value.__name__} now",
                DeprecationWarning,
                stacklevel=2,
            )
            return value

    return get


def install() -> None:
    """Let Python find former names, after all others."""
    if not any(isinstance(finder, FormerModules) for finder in sys.meta_path):
        sys.meta_path.append(FormerModules())
