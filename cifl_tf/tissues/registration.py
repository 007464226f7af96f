"""Registration of two scans that may show heads, by their brains and the tissues of these."""

import dataclasses

from cifl_tf._notes import note
from cifl_tf.images.nifti import name_of
from cifl_tf.registration import stages as any_scans
from cifl_tf.registration.affine import Affine
from cifl_tf.registration.config import DEFORMABLE, STAGES
from cifl_tf.registration.result import RegistrationResult
from cifl_tf.stripping.automatic import head_in, plausible_brain
from cifl_tf.stripping.stripper import StrippedHead
from cifl_tf.tissues.segment import segment_tissues

ROLES = "moving", "fixed"


def register_brains(
    moving, fixed, stripped: bool | None = None, tissues: bool | None = None, **options
) -> RegistrationResult:
    """Register two scans by their brains, and deform by tissues; warp the whole scan.

    Skulls and scalps of two contrasts have little in common, and necks and jaws move. The
    deformable stage compares the probabilities of ``segment_tissues``, and the intensities.

    Args:
        moving, fixed: NIfTI or MGZ files, or nibabel images.
        stripped: whether both scans are registered as they are; None to find out for each, which
            leaves pairs alone that show a head beside something else than a brain.
        tissues: whether tissues are compared in place of features. None: where both scans show a
            brain whose tissues are not in doubt, and there are no ``encoder`` and no channels in
            the options.
        options: of ``register``.

    Raises:
        ValueError, FileNotFoundError: as ``register`` and ``segment_tissues``.

    Example:
        >>> import cifl_tf as cifl, nibabel
        >>> from cifl_tf.datasets import virtual_cohort
        >>> subjects = virtual_cohort(2, resolution=8).subjects
        >>> fixed, moving = (
        ...     nibabel.Nifti1Image(subject.image(contrast), subject.affine)
        ...     for subject, contrast in zip(subjects, ("T1w", "FLAIR"))
        ... )
        >>> found = cifl.register_brains(moving, fixed, stages=["rigid"])
        >>> found.warped.shape == fixed.shape
        True
    """
    initial = options.get("initial")
    if initial is not None and not isinstance(initial, Affine):  # refused before all work
        options["initial"] = Affine.from_file(initial)
    scans = [moving, fixed]
    indices = [options.get(f"{role}_volume_index") for role in ROLES]
    windows = [options.get(f"{role}_window") for role in ROLES]
    brains, heads = _found_in(scans, stripped, indices, windows)
    for place, head in enumerate(heads):
        if head is not None:
            name = name_of(scans[place])
            note(f"{name} shows a head: its brain is registered; --stripped keeps all")
            scans[place] = head.brain
            indices[place] = options[f"{ROLES[place]}_volume_index"] = None
    certainties = {}
    if tissues or (tissues is None and _are_plain_brains(brains, options)):
        known = {
            role: segment_tissues(scan, stripped=True, volume_index=index, window=window)
            for role, scan, index, window in zip(ROLES, scans, indices, windows, strict=True)
        }
        doubts = [f"{role} scan: {doubt}" for role, one in known.items() for doubt in one.doubts]
        if tissues or not doubts:
            options |= {f"{role}_channels": one.channels for role, one in known.items()}
            certainties = {
                f"certainty of the tissues, {role}": one.certainty for role, one in known.items()
            }
        else:
            note(f"the scans are registered by features; {doubts[0]}")
    found = any_scans.register(*scans, **options)
    found = dataclasses.replace(found, report={**found.report, **certainties})
    if heads[0] is None:
        return found
    return dataclasses.replace(found, warped=found.displacement.apply(heads[0].image))


def _are_plain_brains(brains, options):
    """Whether both scans show a brain, and the options ask for no other comparison."""
    given = ("encoder", "moving_channels", "fixed_channels")
    free = all(options.get(name) is None for name in given)
    return free and None not in brains and DEFORMABLE in options.get("stages", STAGES)


def _found_in(
    scans, stripped, indices, windows
) -> tuple[list[StrippedHead | None], list[StrippedHead | None]]:
    """The brain in each scan, if looked for and found, and the heads that lose their skulls."""
    several = [*zip(scans, indices, windows, strict=True)]
    if stripped is not None:
        heads = [head_in(scan, stripped, None, *options) for scan, *options in several]
        return heads, heads
    brains = [plausible_brain(scan, None, *options) for scan, *options in several]
    if None in brains:  # a head beside something else stays a head
        return brains, [None, None]
    return brains, [None if one is None or one.was_stripped else one for one in brains]
