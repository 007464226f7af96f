"""``cifl segment IMAGE``: tissues of heads and brains, with no training."""

from typing import Annotated

import typer

from cifl_tf.cli.command_run import CommandRun
from cifl_tf.cli.config_options import command
from cifl_tf.cli.options import (
    Images,
    Memory,
    OutFolder,
    Overwrite,
    Stripped,
    VolumeIndex,
    Window,
)
from cifl_tf.cli.output_folder import image_entries
from cifl_tf.cli.parsing import parse_memory, parse_window, with_home
from cifl_tf.cli.scan_work import BRAIN, CERTAINTY, write_tissues
from cifl_tf.cli.volume_table import VOLUMES_FILE, VolumeTable
from cifl_tf.images.atomic import absolute_path
from cifl_tf.models.shipped import TISSUES


@command
def tissues_command(
    ctx: typer.Context,
    images: Images,
    out: OutFolder,
    model: Annotated[
        str,
        typer.Option(
            callback=with_home,
            help="'tissues', which ships, or a folder or file of scripts/train_tissues.py.",
        ),
    ] = TISSUES,
    stripped: Stripped = None,
    volume_index: VolumeIndex = None,
    probabilities: Annotated[
        bool, typer.Option(help="Write probabilities too, as 4D NIfTI.")
    ] = False,
    window: Window = None,
    memory: Memory = None,
    overwrite: Overwrite = False,
):
    """Segment the tissues of heads or brains of any contrast, with no training.

    Writes label maps (1 white matter, 2 gray matter, 3 fluid, 4 deep gray matter, 5 thalamus) and
    brain masks on the images' own grids, and volumes.csv in mm³. report.html shows a picture of
    each label map: look at all of them. run.json tells what became of every image.
    """
    limits, most = parse_window(window), parse_memory(memory)
    entries = image_entries(images, out, endings(probabilities), "_dseg.png")
    from cifl_tf.segmentation.segmenter import Segmenter
    from cifl_tf.tissues.segment import check_tissues

    segmenter = Segmenter.from_pretrained(model)
    check_tissues(segmenter)
    columns = [*segmenter.label_names[1:], BRAIN, CERTAINTY]
    table = VolumeTable(out / VOLUMES_FILE, columns, overwrite)

    def write(entry):
        image = entry.input["image"]
        kinds = ["labels", "mask", *(["probabilities"] if probabilities else []), "picture"]
        files = {kind: out / name for kind, name in zip(kinds, entry.planned, strict=True)}
        found = write_tissues(image, segmenter, files, entry, stripped, volume_index, limits, most)
        volumes = {**found.segmentation.volumes, BRAIN: found.brain.volume}
        table.add(image, {**volumes, CERTAINTY: found.certainty})

    resolved = model if model == TISSUES else absolute_path(model)
    with CommandRun(ctx, out, entries, model=resolved) as run:
        run.each(write)


def endings(probabilities: bool) -> list[str]:
    """Of the files of an image, which begin as the image does."""
    rest = ["_probseg.nii.gz"] if probabilities else []
    return ["_dseg.nii.gz", "_brain_mask.nii.gz", *rest]
