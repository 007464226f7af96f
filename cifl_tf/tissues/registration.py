"""Registration of two scans that may show heads, by their brains and the tissues of these."""

import dataclasses
import functools

from cifl_tf._notes import note
from cifl_tf.images.contents import Content
from cifl_tf.images.grid import resized
from cifl_tf.images.nifti import name_of
from cifl_tf.images.volumes import read_volume
from cifl_tf.registration import stages as any_scans
from cifl_tf.registration.affine import Affine
from cifl_tf.registration.companions import labels_of, mask_of
from cifl_tf.registration.config import DEFORMABLE, STAGES, check_tissues_stage, checked_stages
from cifl_tf.registration.plausibility import matrix_doubts
from cifl_tf.registration.result import RegistrationResult
from cifl_tf.stripping.automatic import ADVICE, has_slices, head_in, plausible_brain
from cifl_tf.stripping.stripper import StrippedHead
from cifl_tf.tissues.segment import segment_tissues

ROLES = "moving", "fixed"
READ_FIRST = "initial", "voxel_size", "labels", "moving_mask", "fixed_mask"
WINDOWS = "moving_window", "fixed_window"
MATRIX_SIMILARITIES = "similarity before", "similarity after the matrix"  # in reports


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
            the options; if the features of both then agree less after the warp than before, the
            scans are registered by features after all.
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
    _refuse_early(moving, fixed, tissues, options)
    scans = [moving, fixed]
    indices = [options.get(f"{role}_volume_index") for role in ROLES]
    windows = [window and tuple(window) for window in map(options.get, WINDOWS)]
    brains, heads = _found_in(scans, stripped, indices, windows)
    for place, head in enumerate(heads):
        if head is not None:
            name = name_of(scans[place])
            note(f"{name} shows a head: its brain is registered; --stripped keeps all")
            scans[place] = head.brain
            indices[place] = options[f"{ROLES[place]}_volume_index"] = None
    certainties, channels = {}, {}
    if tissues or (tissues is None and _are_plain_brains(brains, options)):
        several = zip(scans, indices, windows, strict=True)
        known = dict(zip(ROLES, _each(_tissues_of, _tissues_of_last, several), strict=True))
        unsure = {role: one.uncertainty for role, one in known.items()}
        doubts = [f"{role} scan: {doubt}" for role, doubt in unsure.items() if doubt]
        if tissues or not doubts:
            channels = {f"{role}_channels": one.channels for role, one in known.items()}
            certainties = {
                f"certainty of the tissues, {role}": one.certainty for role, one in known.items()
            }
        else:
            note(f"the scans are registered by features; {doubts[0]}")
    found = any_scans.register(*scans, **options | channels)
    if certainties and not tissues and _agrees_less(found):
        # Seen with a template of many brains, whose tissues are not as sharp as those of one.
        note("tissues do not bring the features together: the scans are registered by features")
        certainties, found = {}, _deformed_by_features(scans, options, found)
    found = dataclasses.replace(found, report={**found.report, **certainties})
    if heads[0] is None:
        return found
    return dataclasses.replace(found, warped=found.displacement.apply(heads[0].image))


def _refuse_early(moving, fixed, tissues, options):
    """Refuse what ``register`` would refuse after minutes of other work; read files once."""
    check_tissues_stage(tissues, checked_stages(options.get("stages", STAGES)))
    if all(options.get(name) is None for name in READ_FIRST):
        return
    volumes = [
        read_volume(scan, options.get(f"{role}_volume_index"))
        for scan, role in zip((moving, fixed), ROLES, strict=True)
    ]
    initial, voxel_size = options.get("initial"), options.get("voxel_size")
    if initial is not None and not isinstance(initial, Affine):
        options["initial"] = Affine.from_file(initial, *(one.original for one in volumes))
    if voxel_size is not None:
        resized(volumes[1].affine, volumes[1].data.shape, voxel_size)
    options["labels"] = labels_of(options.get("labels"), *volumes)
    for role, volume in zip(ROLES, volumes, strict=True):
        options[f"{role}_mask"] = mask_of(options.get(f"{role}_mask"), volume, role)


def _agrees_less(found):
    """Whether the features of both scans agree less after the warp than before it."""
    before, after = (found.report[f"similarity {when} the warp"] for when in ("before", "after"))
    return after <= before


def _deformed_by_features(scans, options, by_tissues):
    """The scans deformed again after the matrix that was found for their tissues."""
    matrix = by_tissues.affine
    found = any_scans.register(*scans, **options | {"initial": matrix, "stages": (DEFORMABLE,)})
    report = {**by_tissues.report, **found.report}
    known = [report[name] for name in MATRIX_SIMILARITIES if name in report]
    doubts = [*matrix_doubts(matrix, *known)] if known else []
    return dataclasses.replace(found, report=report, warnings=(*doubts, *found.warnings))


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
    brains = _each(_brain_in, _brain_in_last, several)
    if None in brains:  # a head beside something else stays a head
        pairs = zip(scans, brains, strict=True)
        others = [name_of(scan) for scan, one in pairs if one is None and has_slices(scan)]
        if others:
            names = " and ".join(map(str, others))
            note(f"no whole head in {names}: both scans are registered as they are; {ADVICE}")
        return brains, [None, None]
    return brains, [None if one is None or one.was_stripped else one for one in brains]


def _each(function, remembering, several):
    """What functions give for the moving scan and, remembered, for the fixed one, with options."""
    moving, (fixed, *options) = several
    return [function(*moving), remembering(Content(fixed), *options)]


def _brain_in(scan, volume_index, window):
    return plausible_brain(scan, None, volume_index, window)


def _tissues_of(brain, volume_index, window):
    return segment_tissues(brain, stripped=True, volume_index=volume_index, window=window)


# Many scans may be registered to one.
@functools.lru_cache(maxsize=1)
def _brain_in_last(content, *options):
    return _brain_in(content.scan, *options)


@functools.lru_cache(maxsize=1)
def _tissues_of_last(content, *options):
    return _tissues_of(content.scan, *options)
