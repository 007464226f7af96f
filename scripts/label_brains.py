"""Label white matter, gray matter, fluid, deep gray matter and thalamus of T1w brains.

    python scripts/label_brains.py --brains brains.csv --deep ch2bet.nii.gz aal.nii.gz --out labels

The table has the columns name, image (of a whole head)
and brain (without its skull), with paths from its own folder. The MNI152 brain of nilearn is
registered to each brain, and its tissue maps with it; a Gaussian for each tissue and the maps
together then say what a voxel is (as SPM does: Ashburner & Friston, NeuroImage 26, 2005). Deep gray
matter and the brain stem, which is white matter here, come from a brain in MNI space with AAL
labels that is registered likewise. Dark voxels close around a brain are fluid. Writes NAME.nii.gz
and brains.csv, the table that scripts/train_tissues.py takes.
"""

import argparse
from pathlib import Path

import cifl_tf as cifl  # first: it selects Keras 2 for TensorFlow

import nibabel  # isort: skip
import numpy as np
import pandas as pd
from nibabel.affines import apply_affine, voxel_sizes
from nilearn import datasets
from nilearn.image import resample_img, resample_to_img
from scipy.ndimage import (
    binary_closing,
    binary_fill_holes,
    binary_opening,
    distance_transform_edt,
    gaussian_filter,
)

from cifl_tf.datasets import virtual_cohort
from cifl_tf.images.volumes import save_image
from cifl_tf.segmentation.refinement import posterior

DEEP = [*range(71, 77)]  # caudate, putamen and pallidum of AAL, left and right
THALAMUS = (77, 78)
STEM_BOX = (-20, 20), (-48, -10), (-60, -4)  # mm of MNI space, with the brain stem
WHITE, GRAY, FLUID, DEEP_LABEL, THALAMUS_LABEL = range(1, 6)
SMOOTH = 0.5  # voxels, of the posterior
ROUNDS = 12
REGISTERED_AT = 2.0  # mm
RIM = 2.5  # mm around a brain, where fluid is


def carried(moving, brain, maps) -> np.ndarray:
    """Maps of another brain, on the grid of a brain to which that one is registered.

    Args:
        moving: nibabel image of the other brain.
        brain: nibabel image.
        maps: nibabel images of the space of ``moving``, in [0, 1].

    Returns:
        float32 (maps, x, y, z).
    """
    sizes = np.diag([REGISTERED_AT] * 3)
    displacement = cifl.register(moving, resample_img(brain, sizes), fast=True).displacement
    moved = (displacement.apply(one) for one in maps)
    fitted = (resample_to_img(one, brain, "linear") for one in moved)
    return np.stack([np.asarray(one.dataobj, np.float32).clip(0, 1) for one in fitted])


def deep_maps(brain, labels) -> list:
    """Where deep gray matter, the thalamus and the brain stem are in a brain with AAL labels."""
    values = np.asarray(labels.dataobj)
    places = np.moveaxis(
        apply_affine(labels.affine, np.moveaxis(np.indices(values.shape), 0, -1)), -1, 0
    )
    box = np.all(
        [(low < x) & (x < high) for x, (low, high) in zip(places, STEM_BOX, strict=True)], 0
    )
    shown = resample_to_img(brain, labels, "nearest", force_resample=True, copy_header=True)
    stem = box & (values == 0) & (np.asarray(shown.dataobj) > 0)
    parts = np.isin(values, DEEP), np.isin(values, THALAMUS), binary_opening(stem, iterations=2)
    return [nibabel.Nifti1Image(part.astype(np.float32), labels.affine) for part in parts]


def label_brain(brain, deep_brain, maps, head=None) -> nibabel.Nifti1Image:
    """Label map of a brain without skull.

    Args:
        brain: nibabel image.
        deep_brain: that of ``deep_maps``.
        maps: of ``deep_maps``.
        head: the scan with skull, where fluid around the brain is looked for.
    """
    image = np.asarray(brain.dataobj, np.float32)
    inside = image > 0
    templates = [datasets.load_mni152_wm_template(1), datasets.load_mni152_gm_template(1)]
    white, gray = carried(datasets.load_mni152_template(1), brain, templates)
    priors = np.stack([white, gray, (1 - white - gray).clip(0, 1)])
    found = np.zeros_like(priors)
    found[:, inside] = posterior(
        image[inside] / image.max(), priors[:, inside], ROUNDS, common_variance=False
    )
    found = np.stack([gaussian_filter(one, SMOOTH) for one in found])
    labels = np.where(inside, 1 + found.argmax(0), 0).astype(np.uint8)
    deep, thalamus, stem = (one > 0.5 for one in carried(deep_brain, brain, maps))
    labels[(labels == GRAY) & stem] = WHITE
    solid = inside & (labels != FLUID)
    labels[solid & deep] = DEEP_LABEL
    labels[solid & thalamus] = THALAMUS_LABEL
    if head is not None:
        whole = binary_fill_holes(binary_closing(inside, iterations=3))
        near = distance_transform_edt(~whole, voxel_sizes(brain.affine)) < RIM
        dark = np.asarray(head.dataobj) < np.mean(
            [image[labels == one].mean() for one in (GRAY, FLUID)]
        )
        labels[(labels == 0) & near & dark] = FLUID
    return nibabel.Nifti1Image(labels, brain.affine)


def write_virtual(count: int, out) -> list[dict]:
    """T1w images of virtual subjects at 1 mm, as files; their names and files."""
    rows = []
    for subject in virtual_cohort(count, resolution=1).subjects:
        file = out / f"{subject.name}_T1w.nii.gz"
        save_image(nibabel.Nifti1Image(subject.image("T1w"), subject.affine), file)
        rows.append({"name": subject.name, "brain": file})
    return rows


def main(argv=None):
    """Label each brain of a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--brains", type=Path, required=True, help="CSV file: name, image, brain")
    parser.add_argument(
        "--deep", nargs=2, required=True, metavar=("BRAIN", "LABELS"), help="with labels of AAL"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument(
        "--virtual", type=int, default=0, help="how many virtual subjects to make and label too"
    )
    args = parser.parse_args(argv)
    deep_brain, deep_labels = map(nibabel.load, args.deep)
    maps = deep_maps(deep_brain, deep_labels)
    rows = pd.read_csv(args.brains).to_dict("records")
    files = ("image", "brain")
    rows = [row | {one: args.brains.parent / row[one] for one in files} for row in rows]
    rows += write_virtual(args.virtual, args.out) if args.virtual else []
    written = []
    for row in rows:
        brain = nibabel.squeeze_image(nibabel.load(row["brain"]))
        brain = nibabel.Nifti1Image(np.asarray(brain.dataobj, np.float32), brain.affine)
        head = nibabel.squeeze_image(nibabel.load(row["image"])) if "image" in row else None
        labels = label_brain(brain, deep_brain, maps, head)
        file = args.out / f"{row['name']}.nii.gz"
        save_image(labels, file)
        written.append(
            {"name": row["name"], "image": row.get("image", row["brain"]), "labels": file}
        )
        counts = np.bincount(np.asarray(labels.dataobj).ravel(), minlength=6)[1:]
        voxel = abs(np.linalg.det(labels.affine[:3, :3])) / 1000
        print(row["name"], *(f"{count * voxel:.0f} ml" for count in counts), flush=True)
    table = pd.DataFrame(written)
    for column in ("image", "labels"):
        table[column] = [path.absolute() for path in table[column]]
    table.to_csv(args.out / "brains.csv", index=False)


if __name__ == "__main__":
    main()
