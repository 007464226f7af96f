"""``cifl strip``: brain masks of whole heads."""

from typing import Annotated

import typer

from cifl_tf._checks import BORDER_MM
from cifl_tf.cli.command_run import CommandRun
from cifl_tf.cli.config_options import command
from cifl_tf.cli.options import Images, OutFolder, Overwrite, VolumeIndex, Window
from cifl_tf.cli.output_folder import image_entries
from cifl_tf.cli.parsing import parse_window, with_home
from cifl_tf.cli.scan_work import write_brain
from cifl_tf.images.atomic import absolute_path
from cifl_tf.models.shipped import STRIPPER

ENDINGS = ("_brain.nii.gz", "_brain_mask.nii.gz")


@command
def strip_command(
    ctx: typer.Context,
    images: Images,
    out: OutFolder,
    border: Annotated[
        float,
        typer.Option(
            help="Millimeters by which the mask is wider than the brain; or narrower, below 0."
        ),
    ] = 0.0,
    model: Annotated[
        str,
        typer.Option(
            callback=with_home,
            help="'strip', which ships, or a folder or file of scripts/train_stripper.py.",
        ),
    ] = STRIPPER,
    volume_index: VolumeIndex = None,
    window: Window = None,
    overwrite: Overwrite = False,
):
    """Take the skull away from heads of any contrast: write brains and their masks.

    Both lie on the images' own grids. report.html shows the outlines: look at each of them.
    run.json tells what became of every image.
    """
    BORDER_MM.check("--border", border)
    limits = parse_window(window)
    entries = image_entries(images, out, ENDINGS, "_strip.png")
    from cifl_tf.stripping.stripper import Stripper

    stripper = Stripper.from_pretrained(model)

    def write(entry):
        paths = (out / name for name in entry.planned)
        files = dict(zip(("brain", "mask", "picture"), paths, strict=True))
        write_brain(entry.input["image"], stripper, files, entry, border, volume_index, limits)

    resolved = model if model == STRIPPER else absolute_path(model)
    with CommandRun(ctx, out, entries, model=resolved) as run:
        run.each(write)
