"""``cifl warp``: apply transforms to images, label maps and points."""

import os
from pathlib import Path
from typing import Annotated

import typer

from cifl_tf._notes import note
from cifl_tf.cli.command_run import CommandRun
from cifl_tf.cli.config_options import command
from cifl_tf.cli.options import OutFolder, Overwrite, VolumeIndex
from cifl_tf.cli.output_folder import image_entries
from cifl_tf.cli.parsing import with_home

POINTS = ".csv"
WARPED = "_warped"
TRANSFORMS = (".mat", ".tfm", ".txt", ".lta", ".h5", ".hdf5")  # that are no images


@command
def warp_command(
    ctx: typer.Context,
    images: Annotated[
        list[Path],
        typer.Argument(
            callback=with_home,
            help="NIfTI or MGZ files, or CSV files of points with columns x, y, z in mm.",
            show_default=False,
        ),
    ],
    out: OutFolder,
    transform: Annotated[
        list[Path],
        typer.Option(
            callback=with_home,
            help="A displacement field in NIfTI, a composite transform of ITK or ANTs (.h5), or a "
            "matrix: .mat, .tfm, .txt or .lta. Give the option again for more, in the order of "
            "antsApplyTransforms.",
            show_default=False,
        ),
    ],
    inverse: Annotated[
        bool, typer.Option(help="Apply the inverse of all transforms together.")
    ] = False,
    like: Annotated[
        Path | None,
        typer.Option(
            callback=with_home,
            help="Image on whose grid the results lie.",
            show_default="the grid of the displacement field",
        ),
    ] = None,
    labels: Annotated[
        bool, typer.Option(help="The images are label maps, which keep their values.")
    ] = False,
    lps: Annotated[
        bool,
        typer.Option(help="Axes of points lead to left, posterior, superior, as in ITK."),
    ] = False,
    volume_index: VolumeIndex = None,
    overwrite: Overwrite = False,
):
    """Apply transforms to images, label maps or points, interpolated once.

    As in ITK, images go from the moving to the fixed image, and points from the fixed to the moving
    image; --inverse turns both around. Writes NAME_warped.nii.gz or NAME_warped.csv. Coordinates of
    points are along right, anterior, superior (RAS), as nibabel's, if not --lps.
    """
    tables = [image for image in images if image.suffix.lower() == POINTS]
    for image in images:
        if image.suffix.lower() in TRANSFORMS:
            raise ValueError(
                f"{image} is a transform, not an image; each transform needs its own --transform"
            )
    if labels and len(tables) == len(images):
        raise ValueError("--labels is for label maps, but there are points alone; leave it out")
    entries = image_entries(images, out, [f"{WARPED}.nii.gz"])
    from cifl_tf.images.atomic import atomic_path
    from cifl_tf.images.label_maps import looks_like_labels
    from cifl_tf.images.volumes import read_grid, save_image
    from cifl_tf.registration.chain import TransformChain, read_table, warp_points

    for entry, image in zip(entries, images, strict=True):
        if image in tables:
            entry.planned = [f"{image.stem}{WARPED}{POINTS}"]
    chain = TransformChain(transform, inverse)
    grid = chain.grid if like is None else read_grid(like)
    if like is None and len(tables) < len(images):
        if grid is None:
            raise ValueError("a matrix has no grid; give an image with --like")
        if inverse:
            raise ValueError("the inverse has no grid; give the moving image with --like")

    def write(entry):
        image = entry.input["image"]
        (file,) = (out / name for name in entry.planned)
        if file.suffix == POINTS:
            table = warp_points(read_table(image), chain, lps)
            with atomic_path(file) as temporary:
                table.to_csv(temporary, index=False)
        elif grid is not None:
            if not labels and looks_like_labels(image):
                note(f"{image} looks like a label map; --labels keeps its values")
            order = "nearest" if labels else "linear"
            save_image(chain.apply(image, grid, order, volume_index), file)

    given = [os.path.abspath(path) for path in transform]
    with CommandRun(ctx, out, entries, transform=given) as run:
        run.each(write)
