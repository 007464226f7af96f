"""The IXI dataset: T1, T2 and PD heads of nearly 600 subjects, without labels."""

import dataclasses
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from cifl_tf._notes import note_left_out
from cifl_tf.datasets.cohorts import Cohort, make_cohort
from cifl_tf.datasets.subjects import ImageSource, Subject
from cifl_tf.images.atomic import expanded
from cifl_tf.images.file_names import missing_content
from cifl_tf.images.grid import resample
from cifl_tf.images.volumes import Volume, read_volume

SUFFIXES = {"T1w": "T1", "T2w": "T2", "PDw": "PD"}
NAME = re.compile(r"(IXI\d+-\w+-\d+)-(T1|T2|PD)\.nii(?:\.gz)?")


def read_ixi(
    folder, contrasts: Sequence[str] = ("T1w", "T2w", "PDw"), skip_incomplete: bool = False
) -> Cohort:
    """Find the subjects of the IXI dataset, as published.

    Files are named as ``IXI002-Guys-0828-T1.nii.gz``, -T2 and -PD, in the folder itself or in its
    subfolders IXI-T1, IXI-T2 and IXI-PD. The images of one subject lie on different grids: they
    are brought to the grid of the first contrast by their affines, with cubic interpolation and
    zeros where nothing was acquired. They are heads, not brains, and have no labels:
    ``Subject.labels`` raises ValueError, and the mask is where the image is not zero.

    Args:
        folder: the dataset, unpacked.
        contrasts: of "T1w", "T2w" and "PDw"; the first gives the grid.
        skip_incomplete: leave out subjects that lack a contrast, of which there are a few as
            published, or have an empty file or a link to nothing in its place, instead of raising
            an error. A ``Note`` says which and why.

    Returns:
        Cohort of subjects named as "IXI002-Guys-0828", sorted, without labels.

    Raises:
        FileNotFoundError: the folder holds no subjects, or one lacks a contrast.
        ValueError: there is no such contrast.

    Source: https://brain-development.org/ixi-dataset (CC BY-SA 3.0).
    """
    folder = expanded(folder)
    unknown = [contrast for contrast in contrasts if contrast not in SUFFIXES]
    if unknown or not contrasts:
        raise ValueError(f"contrasts are {contrasts!r}: choose from {list(SUFFIXES)}")
    files: dict[str, dict[str, Path]] = {}
    for path in sorted([*folder.glob("IXI*.nii*"), *folder.glob("IXI-*/IXI*.nii*")]):
        found = NAME.fullmatch(path.name)
        if found:
            files.setdefault(found[1], {}).setdefault(found[2], path)
    subjects = []
    left_out: dict[str, str] = {}
    for name, present in files.items():
        paths = [
            present.get(suffix, folder / f"{name}-{suffix}.nii.gz")
            for suffix in (SUFFIXES[contrast] for contrast in contrasts)
        ]
        lacking = next(filter(None, map(missing_content, paths)), None)
        if lacking and skip_incomplete:
            left_out[name] = lacking
            continue
        if lacking:
            raise FileNotFoundError(
                f"subject {name}: {lacking}, there or in a subfolder; copy it, or pass "
                "skip_incomplete=True"
            )
        images: dict[str, ImageSource] = {contrasts[0]: paths[0]}
        for contrast, path in zip(contrasts[1:], paths[1:], strict=True):
            images[contrast] = partial(read_on_grid, path, paths[0])
        subjects.append(Subject(name, images, brain="image"))
    if not subjects:
        raise FileNotFoundError(
            f"{folder} holds no IXI subject with {list(contrasts)}: give the folder with files as "
            "IXI002-Guys-0828-T1.nii.gz, or with IXI-T1, IXI-T2 and IXI-PD"
        )
    note_left_out(folder, left_out, len(files))
    return make_cohort(subjects)


def read_on_grid(path, reference) -> Volume:
    """Read an image and bring it to the canonical grid of another, cubic, zero outside.

    It is smoothed first where it becomes coarser.

    Raises:
        FileNotFoundError, ValueError: as ``volumes.read_volume``.
    """
    image, target = read_volume(path), read_volume(reference)
    grids = image.affine, target.affine, target.data.shape
    return dataclasses.replace(target, data=resample(image.data, *grids, "continuous", outside=0.0))
