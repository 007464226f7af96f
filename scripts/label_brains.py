"""Label white matter, gray matter, fluid, deep gray matter and thalamus of T1w brains.

    python scripts/label_brains.py --brains brains.csv --deep ch2bet.nii.gz aal.nii.gz --out labels

Training data of scripts/train_tissues.py. The table has the columns name, image (of a whole head)
and brain (without its skull), with paths from its own folder. The MNI152 brain of nilearn is
registered to each brain, and its tissue maps with it; a Gaussian for each tissue and the maps
together then say what a voxel is (as SPM does: Ashburner & Friston, NeuroImage 26, 2005). Deep gray
matter comes from a brain with AAL labels that is registered likewise. Writes NAME.nii.gz.
"""

import argparse
from pathlib import Path

import cifl_tf as cifl  # first: it selects Keras 2 for TensorFlow

import nibabel  # isort: skip
import numpy as np
import pandas as pd
from nilearn import datasets
from nilearn.image import resample_to_img
from scipy.ndimage import gaussian_filter

from cifl_tf.datasets import virtual_cohort
from cifl_tf.images.volumes import save_image

DEEP = range(71, 77)  # caudate, putamen and pallidum of AAL, left and right
THALAMUS = (77, 78)
WHITE, GRAY, FLUID, DEEP_LABEL, THALAMUS_LABEL = range(1, 6)
LEAST_PRIOR = 0.02  # so that a map that is wrong somewhere can be overruled
SMOOTH = 0.5  # voxels, of the posterior
ROUNDS = 12


def tissue_priors(brain):
    """Maps (white, gray, fluid) of the MNI152 brain, registered to a brain; and the registration.

    Returns:
        float32 (3, x, y, z) on the grid of the brain.
    """
    found = cifl.register(datasets.load_mni152_template(resolution=1), brain, fast=True)
    gray = found.displacement.apply(datasets.load_mni152_gm_template(resolution=1))
    white = found.displacement.apply(datasets.load_mni152_wm_template(resolution=1))
    white, gray = (np.asarray(one.dataobj).clip(0, 1) for one in (white, gray))
    return np.stack([white, gray, (1 - white - gray).clip(0, 1)]).astype(np.float32)


def posterior(values: np.ndarray, priors: np.ndarray) -> np.ndarray:
    """Probabilities (3, n) of tissues, by a Gaussian of each and by their priors (3, n)."""
    priors = np.maximum(priors, LEAST_PRIOR)
    priors = priors / priors.sum(0)
    found = priors
    for _ in range(ROUNDS):
        total = found.sum(1)
        means = (found @ values) / total
        variances = np.einsum("kn,kn->k", found, (values - means[:, None]) ** 2) / total
        distance = (values - means[:, None]) ** 2 / variances[:, None]
        likelihood = np.exp(-distance / 2) / np.sqrt(variances)[:, None]
        found = priors * likelihood + 1e-12
        found = found / found.sum(0)
    return found


def label_brain(brain, deep_brain, deep_labels) -> nibabel.Nifti1Image:
    """Label map of a brain without skull."""
    image = np.asarray(brain.dataobj, np.float32)
    inside = image > 0
    found = np.zeros((3, *image.shape), np.float32)
    found[:, inside] = posterior(image[inside], tissue_priors(brain)[:, inside])
    found = np.stack([gaussian_filter(one, SMOOTH) for one in found])
    labels = np.where(inside, 1 + found.argmax(0), 0).astype(np.uint8)
    carried = cifl.register(deep_brain, brain, labels=deep_labels, fast=True).labels
    structure = np.asarray(carried.dataobj)
    solid = inside & (labels != FLUID)
    labels[solid & np.isin(structure, DEEP)] = DEEP_LABEL
    labels[solid & np.isin(structure, THALAMUS)] = THALAMUS_LABEL
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
    deep_labels = resample_to_img(
        deep_labels, deep_brain, "nearest", force_resample=True, copy_header=True
    )
    rows = pd.read_csv(args.brains).to_dict("records")
    rows = [{**row, "brain": args.brains.parent / row["brain"]} for row in rows]
    rows += write_virtual(args.virtual, args.out) if args.virtual else []
    for row in rows:
        brain = nibabel.load(row["brain"])
        brain = nibabel.Nifti1Image(np.asarray(brain.dataobj, np.float32), brain.affine)
        labels = label_brain(brain, deep_brain, deep_labels)
        save_image(labels, args.out / f"{row['name']}.nii.gz")
        counts = np.bincount(np.asarray(labels.dataobj).ravel(), minlength=6)[1:]
        voxel = abs(np.linalg.det(labels.affine[:3, :3])) / 1000
        print(row["name"], *(f"{count * voxel:.0f} ml" for count in counts), flush=True)


if __name__ == "__main__":
    main()
