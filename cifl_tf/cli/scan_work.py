"""What commands on images, and on cohorts, do with one scan."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cifl_tf._notes import note
from cifl_tf.cli.run_report import Entry
from cifl_tf.images.channel_types import ChannelType

if TYPE_CHECKING:
    from cifl_tf._compat import keras
    from cifl_tf.segmentation.result import Segmentation
    from cifl_tf.segmentation.segmenter import Segmenter
    from cifl_tf.stripping.stripper import Stripper
    from cifl_tf.tissues.segment import TissueResult

BRAIN, CERTAINTY = "brain", "certainty"  # of what is reported beside tissues


def note_labels(image) -> None:
    """Note an image that is hardly a scan."""
    from cifl_tf.images.label_maps import looks_like_labels

    if looks_like_labels(image):
        note(f"{image} looks like a label map or mask, not like a scan")


def write_brain(
    image,
    stripper: "Stripper",
    files: Mapping[str, Path],
    entry: Entry,
    border: float = 0.0,
    volume_index=None,
    window=None,
) -> None:
    """Take the skull away from a head, and write its brain.

    Args:
        image: file.
        stripper: finds the brain.
        files: to write, by what they are: brain, mask, picture.
        entry: gets the volume of the brain.
        border, volume_index, window: see ``Stripper.strip``.
    """
    from cifl_tf.figures.masks import save_mask_picture
    from cifl_tf.images.volumes import save_image

    note_labels(image)
    found = stripper.strip(image, border, volume_index, window)
    save_image(found.brain, files["brain"])
    save_image(found.mask, files["mask"])
    save_mask_picture(found.image, found.mask, files["picture"])
    entry.numbers = {f"{BRAIN} (ml)": round(found.volume_ml, 1)}
    if found.was_stripped:
        note(f"{image} seems to show a brain without skull already; look at its picture")
    if found.doubt:
        note(f"{image}: {found.doubt}; look at its picture")


def write_features(
    image,
    encoder: "keras.Model",
    files: Mapping[str, Path],
    entry: Entry,
    stripped=None,
    volume_index=None,
    window=None,
    dtype: ChannelType = "float32",
    **options,
) -> None:
    """Write the features of a scan; those of a head are of its brain.

    Args:
        image: file.
        encoder: see ``load_encoder``.
        files: to write, by what they are: features, picture.
        entry: gets the volume of the brain of a head.
        stripped: see ``head_in``.
        volume_index, window, options: see ``bounded_features``.
        dtype: see ``save_channels``.
    """
    from cifl_tf.features.bounded import bounded_features, slice_axis_of
    from cifl_tf.figures.features import save_feature_picture
    from cifl_tf.images.channels import save_channels
    from cifl_tf.stripping.automatic import head_in

    note_labels(image)
    shown = image
    head = head_in(image, stripped, None, volume_index, window, any_body_part=True)
    if head is not None:
        entry.numbers = {f"{BRAIN} (ml)": round(head.volume_ml, 1)}
        note(f"{image} shows a head: the features are of its brain; --stripped keeps all")
        shown, volume_index = head.brain, None
    file = files["features"]
    with bounded_features(
        shown, encoder, file, volume_index=volume_index, window=window, **options
    ) as (features, volume):
        save_channels(features, volume, file, dtype)
        axis = slice_axis_of(encoder, volume, options.get("plane"))
        save_feature_picture(volume, features, files["picture"], axis)


def write_labels(
    image, segmenter: "Segmenter", files: Mapping[str, Path], entry: Entry, **options
) -> "Segmentation":
    """Segment a scan, and write its labels.

    Args:
        image: file.
        segmenter: a trained one.
        files: to write, by what they are: labels, picture, and where wanted probabilities.
        entry: gets the volumes.
        options: see ``Segmenter.segment``.
    """
    from cifl_tf.figures.segmentation import save_overlay
    from cifl_tf.images.volumes import save_image

    note_labels(image)
    found = segmenter.segment(image, progress=True, **options)
    save_image(found.labels, files["labels"])
    if "probabilities" in files:
        save_image(found.probabilities, files["probabilities"])
    save_overlay(found.image, found.labels, files["picture"], segmenter.names_by_value)
    entry.numbers = {f"{name} (mm³)": volume for name, volume in found.volumes.items()}
    if found.slices_beyond:
        note(
            f"{found.slices_beyond} slices of {image} have labels, but show a part of the body of "
            "which training had no slices; look at these"
        )
    return found


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

    note_labels(image)
    found = segment_tissues(image, segmenter, stripped, None, volume_index, window, memory)
    segmented = found.segmentation
    save_image(segmented.labels, files["labels"])
    save_image(found.brain.mask_image, files["mask"])
    if "probabilities" in files:
        save_image(segmented.probabilities, files["probabilities"])
    shown = found.brain.head or found.brain
    save_overlay(shown.image, segmented.labels, files["picture"], segmenter.names_by_value)
    volumes = {**segmented.volumes, BRAIN: found.brain.volume}
    entry.numbers = {f"{name} (ml)": round(mm3 / 1000, 1) for name, mm3 in volumes.items()}
    entry.numbers[CERTAINTY] = round(found.certainty, 3)
    if found.brain.head is None and stripped is None:
        note(f"{image} shows a brain without skull; give --no-stripped if this is wrong")
    for doubt in found.doubts:
        note(f"{image}: {doubt}; look at its picture")
    return found
