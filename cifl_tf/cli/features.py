"""``cifl features`` and ``cifl export``: apply an encoder, or write it for other programs."""

from functools import partial
from typing import Annotated

import typer

from cifl_tf.cli.command_run import CommandRun, record_export
from cifl_tf.cli.config_options import command
from cifl_tf.cli.options import (
    EncoderModel,
    FeatureType,
    Images,
    Memory,
    OutFolder,
    Overwrite,
    Remappings,
    Stripped,
    VolumeIndex,
    Window,
    resampling,
)
from cifl_tf.cli.output_folder import image_entries
from cifl_tf.cli.parsing import parse_memory, parse_remappings, parse_window
from cifl_tf.cli.scan_work import write_features
from cifl_tf.features.pretrained import absolute_model, load_encoder
from cifl_tf.images.planes import PlaneName

DEFAULT_MODEL = "shapes-2d"


@command
def features_command(
    ctx: typer.Context,
    images: Images,
    out: OutFolder,
    model: EncoderModel = DEFAULT_MODEL,
    plane: Annotated[
        PlaneName | None,
        typer.Option(
            help="Slices for a 2D encoder.", show_default="coronal; of thick slices theirs"
        ),
    ] = None,
    voxel_size: Annotated[float | None, resampling()] = None,
    volume_index: VolumeIndex = None,
    stripped: Stripped = None,
    remappings: Remappings = "none",
    window: Window = None,
    dtype: FeatureType = "float32",
    memory: Memory = None,
    overwrite: Overwrite = False,
):
    """Write the features of images as 4D NIfTI files.

    Features lie on the images' own grids. Where an image does not fit into memory, they are found
    part by part, and are the same. Of a head, the skull is taken away before. report.html shows the
    features, and run.json tells what became of every image.
    """
    names, limits, most = parse_remappings(remappings), parse_window(window), parse_memory(memory)
    entries = image_entries(images, out, ["_features.nii.gz"], "_features.png")
    encoder = load_encoder(model)

    def write(entry):
        paths = (out / name for name in entry.planned)
        write_features(
            entry.input["image"],
            encoder,
            dict(zip(("features", "picture"), paths, strict=True)),
            entry,
            stripped,
            volume_index,
            limits,
            dtype,
            plane=plane,
            voxel_size=voxel_size,
            remappings=names,
            memory=most,
        )

    with CommandRun(ctx, out, entries, model=absolute_model(model)) as run:
        run.each(write)


def export_command(ctx: typer.Context, out: OutFolder, model: EncoderModel = DEFAULT_MODEL):
    """Write an encoder as a SavedModel to a new folder.

    The SavedModel needs TensorFlow only.
    """
    from cifl_tf.export import export_saved_model

    encoder = load_encoder(model)
    record_export(ctx, out, partial(export_saved_model, encoder), absolute_model(model))
