"""Registration of pairs that may show heads: their brains tell where things are."""

import dataclasses
from typing import TYPE_CHECKING

from cifl_tf._notes import note

if TYPE_CHECKING:  # nibabel
    from cifl_tf.registration.result import RegistrationResult

ROLES = "moving", "fixed"


def register_pair(moving, fixed, stripped: bool | None = None, **options) -> "RegistrationResult":
    """Register two scans by their brains; the warped image is the whole scan.

    Skulls and scalps of two contrasts have little in common, and necks and jaws move.

    Args:
        moving, fixed: files.
        stripped: whether both scans are registered as they are; None to find out for each, which
            leaves pairs alone that show a head beside something else than a brain.
        options: of ``register``.
    """
    from cifl_tf.images.nifti import name_of
    from cifl_tf.registration.stages import register

    indices = [options.get(f"{role}_volume_index") for role in ROLES]
    windows = [options.get(f"{role}_window") for role in ROLES]
    heads = _heads([moving, fixed], stripped, indices, windows)
    if heads == [None, None]:
        return register(moving, fixed, **options)
    scans = [moving, fixed]
    for place, head in enumerate(heads):
        if head is not None:
            name = name_of(scans[place])
            note(f"{name} shows a head: its brain is registered; --stripped keeps all")
            scans[place] = head.brain
            options[f"{ROLES[place]}_volume_index"] = None
    found = register(*scans, **options)
    if heads[0] is None:
        return found
    return dataclasses.replace(found, warped=found.displacement.apply(heads[0].image))


def _heads(scans, stripped, indices, windows):
    """What brain extraction finds in each scan; None for a scan that is to stay as it is."""
    from cifl_tf.stripping.automatic import head_in, plausible_brain

    several = [*zip(scans, indices, windows, strict=True)]
    if stripped is not None:
        return [head_in(scan, stripped, None, *options) for scan, *options in several]
    looked = [plausible_brain(scan, None, *options) for scan, *options in several]
    found = [one for one in looked if one is not None]
    if len(found) < len(looked):  # a head beside something else
        return [None, None]
    return [None if one.was_stripped else one for one in found]
