"""Tissues of brains whose labels are known: Dice of `cifl segment`, of clustering, and of an atlas.

    python benchmarks/tissues.py --data nichart
    python benchmarks/tissues.py --data nichart --subjects sub-11,sub-12 --methods "cifl segment"

Whole volumes of NiChart subjects, T1w, inverted T1w, and FLAIR. Clustering is a mixture of three
Gaussians of the intensities in the brain (scikit-learn), whose tissues are named with the help of
the true labels, so that no other naming is better. The atlas has the tissue maps of the MNI152
brain in nilearn, registered to each image by `cifl register`, and by SyN where ANTsPy is installed.
Deep gray matter counts as gray matter, as the labels have it. Prints a Markdown table.
"""

import argparse
import itertools

import cifl_tf as cifl  # first: it selects Keras 2 for TensorFlow

import nibabel  # isort: skip
import numpy as np
import pandas as pd
from nilearn import datasets
from nilearn.image import resample_to_img
from sklearn.mixture import GaussianMixture

from cifl_tf.datasets.catalog import load_cohort
from cifl_tf.metrics import dice
from cifl_tf.registration.syn import has_ants, register_syn
from results_table import add_json_option, show_table

CONTRASTS = {"T1w": "T1w", "inverted T1w": "T1w:inverted", "FLAIR": "FLAIR"}
NAMES = {1: "WM", 2: "GM", 3: "CSF", 4: "thalamus"}  # values of the label maps of NiChart
AS_NICHART = np.array([0, 1, 2, 3, 2, 4])  # of the values of `cifl segment`


def by_network(model):
    """Labels by the tissue network."""
    segmenter = cifl.Segmenter.from_pretrained(model)

    def label(image, truth):
        found = cifl.segment_tissues(image, segmenter, stripped=True)
        return AS_NICHART[np.asarray(found.segmentation.labels.dataobj)]

    return label


def by_clusters(model):
    """Labels by three Gaussians, named as agrees best with the truth."""

    def label(image, truth):
        values = np.asarray(image.dataobj)
        brain = values > 0
        mixture = GaussianMixture(3, random_state=0, n_init=3)
        found = 1 + mixture.fit_predict(values[brain][:, None])
        namings = []
        for naming in itertools.permutations((1, 2, 3)):
            labels = np.zeros(values.shape, int)
            labels[brain] = np.array([0, *naming])[found]
            namings.append((dice(labels, truth, [1, 2, 3]).mean(), naming, labels))
        return max(namings)[2]

    return label


def tissue_maps(image) -> list:
    """White matter, gray matter and fluid of the MNI152 brain on the grid of an image."""
    white, gray = (
        resample_to_img(one, image, force_resample=True, copy_header=True)
        for one in (datasets.load_mni152_wm_template(1), datasets.load_mni152_gm_template(1))
    )
    brain = resample_to_img(
        datasets.load_mni152_brain_mask(1), image, "nearest", force_resample=True, copy_header=True
    )
    white, gray, brain = (np.asarray(one.dataobj, np.float32) for one in (white, gray, brain))
    return [white, gray, (brain - white - gray).clip(0)]


def likeliest(maps):
    """Labels 1, 2, 3 of the likeliest of three maps, 0 where all are low."""
    maps = np.stack(maps)
    return np.where(maps.max(0) > 0.1, 1 + maps.argmax(0), 0)


def by_atlas(model):
    """Labels of the MNI152 brain, registered by this package."""

    def label(image, truth):
        found = cifl.register(datasets.load_mni152_template(2), image)
        maps = [
            np.asarray(found.displacement.apply(nibabel.Nifti1Image(one, image.affine)).dataobj)
            for one in tissue_maps(image)
        ]
        return likeliest(maps)

    return label


def by_syn(model):
    """Labels of the MNI152 brain, registered by SyN; NiChart lies in its space already."""

    def label(image, truth):
        template = resample_to_img(
            datasets.load_mni152_template(2), image, force_resample=True, copy_header=True
        )
        pair = (cifl.rescale_intensity(np.asarray(one.dataobj)) for one in (template, image))
        field = register_syn(*pair, iterations=(100, 70, 50))
        return likeliest([cifl.warp(one, field) for one in tissue_maps(image)])

    return label


METHODS = {
    "cifl segment": by_network,
    "clusters": by_clusters,
    "atlas": by_atlas,
    "atlas by SyN": by_syn,
}


def main(argv=None):
    """Label the images and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of NiChart")
    parser.add_argument("--subjects", default="sub-13,sub-14,sub-15,sub-16")
    parser.add_argument("--model", default="tissues", help="as of `cifl segment`")
    parser.add_argument("--methods", default=",".join(METHODS), help="with commas between")
    add_json_option(parser)
    args = parser.parse_args(argv)
    cohort = load_cohort(args.data, 3, needed=["T1w", "FLAIR"])
    rows = []
    for method in args.methods.split(","):
        if method == "atlas by SyN" and not has_ants():
            print("ANTsPy is not installed: no row of SyN.")
            continue
        label = METHODS[method](args.model)
        for name, contrast in CONTRASTS.items():
            scores = []
            for subject in cohort.select(args.subjects.split(",")).subjects:
                image = nibabel.Nifti1Image(subject.image(contrast), subject.affine)
                truth = subject.labels()
                found = label(image, truth)
                scores.append(dice(found, truth, [*NAMES]))
                print(method, contrast, subject.name, np.round(scores[-1], 3), flush=True)
            means = dict(zip(NAMES.values(), np.mean(scores, axis=0), strict=True))
            three = np.mean([means[key] for key in ("WM", "GM", "CSF")])
            numbers = {"mean of WM, GM, CSF": three, **means}
            rows.append(
                {
                    "method": method,
                    "contrast": name,
                    **{key: f"{value:.3f}" if value else "" for key, value in numbers.items()},
                }
            )
    table = pd.DataFrame(rows)
    show_table(table, args.json)


if __name__ == "__main__":
    main()
