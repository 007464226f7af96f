"""What commands on images, and on cohorts, do with one scan."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cifl_tf._notes import note
from cifl_tf.cli.run_report import Entry

if TYPE_CHECKING:
    from cifl_tf.segmentation.segmenter import Segmenter
    from cifl_tf.tissues.segment import TissueResult

BRAIN, CERTAINTY = "brain", "certainty"  # of what is reported beside tissues


def brain_for_features(image, entry: Entry, stripped=None, volume_index=None, window=None):
    """The brain of a head, and the scan itself if it shows none.

    Args:
        image: file.
        entry: gets the volume of the brain.
        stripped, volume_index, window: see ``head_in``.

    Returns:
        What features are of: a file or a nibabel image, and which image of it.
    """
    from cifl_tf.stripping.automatic import head_in

    head = head_in(image, stripped, None, volume_index, window, any_body_part=True)
    if head is None:
        return image, volume_index
    entry.numbers = {f"{BRAIN} (ml)": round(head.volume_ml, 1)}
    note(f"{image} shows a head: the features are of its brain; --stripped keeps all")
    return head.brain, None


def write_tissues(
    image,
    segmenter: "Segmenter",
    files: Mapping[str, Path],
    entry: Entry,
    stripped=None,
    volume_index=None,
    window=None,
    memory=None,
) -> "TissueResult":
    """Segment the tissues of a scan, and write them.

    Args:
        image: file.
        segmenter: of tissues.
        files: to write, by what they are: labels, mask, picture, and where wanted probabilities.
        entry: gets volumes and certainty.
        stripped, volume_index, window, memory: see ``segment_tissues``.
    """
    from cifl_tf.figures.segmentation import save_overlay
    from cifl_tf.images.volumes import save_image
    from cifl_tf.tissues.segment import segment_tissues

    found = segment_tissues(image, segmenter, stripped, None, volume_index, window, memory)
    segmented = found.segmentation
    save_image(segmented.labels, files["labels"])
    save_image(found.brain.mask_image, files["mask"])
    if "probabilities" in files:
        save_image(segmented.probabilities, files["probabilities"])
    save_overlay(found.brain.image, segmented.labels, files["picture"], segmenter.names_by_value)
    volumes = {**segmented.volumes, BRAIN: found.brain.volume}
    entry.numbers = {f"{name} (ml)": round(mm3 / 1000, 1) for name, mm3 in volumes.items()}
    entry.numbers[CERTAINTY] = round(found.certainty, 3)
    if found.brain.head is None and stripped is None:
        note(f"{image} shows a brain without skull; give --no-stripped if this is wrong")
    for doubt in found.doubts:
        note(f"{image}: {doubt}; look at its picture")
    return found
