"""The scans of a folder, whatever it is: a BIDS dataset, or files side by side."""

from collections.abc import Collection
from pathlib import Path

from cifl_tf.datasets.bids_names import images_in
from cifl_tf.images.file_names import READABLE, is_leftover, stem_of, suffix_of

NO_SCANS = ("mask", "dseg", "probseg", "seg", "labels")  # endings of names, as in BIDS


def scans_in(folder, only: Collection[str] = ()) -> tuple[list[Path], list[Path]]:
    """The scans of a folder.

    Of a BIDS dataset, raw or derivative, the images in ``sub-*/anat`` and ``sub-*/ses-*/anat``; of
    another folder, the NIfTI and MGH files that lie directly in it.

    Args:
        folder: see above.
        only: endings of the names of those that are wanted, such as "T1w"; none for all but masks
            and segmentations.

    Returns:
        Sorted paths of the scans, and of masks and segmentations, which are left out.
    """
    folder = Path(folder)
    places = sorted([*folder.glob("sub-*/anat"), *folder.glob("sub-*/ses-*/anat")])
    if places:
        files = [image.path for place in places for image in images_in(place)]
    else:
        files = [path for path in sorted(folder.iterdir()) if _is_image(path)]
    if only:
        return [path for path in files if _ends_in(path, only)], []
    left_out = [path for path in files if _ends_in(path, NO_SCANS)]
    return [path for path in files if path not in left_out], left_out


def _ends_in(path, words):
    """Whether a name ends in one of these words, after a sign or as a whole: IXI002-T1 in T1."""
    stem = stem_of(path)
    before = (stem.removesuffix(word) for word in words if stem.endswith(word))
    return any(not rest[-1:].isalnum() for rest in before)


def _is_image(path):
    suffix = suffix_of(path, READABLE)
    # An .img belongs to its .hdr. A link to nowhere is an image that was not downloaded.
    return not path.is_dir() and suffix not in (None, ".img") and not is_leftover(path)
