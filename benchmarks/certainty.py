"""Does the certainty of `cifl segment` fall where its labels get worse? On images that get worse.

    python benchmarks/certainty.py --data nichart

Images of NiChart subjects in three contrasts, with noise, thick slices, large voxels, a bias field,
or motion, in several strengths. Prints a Markdown table with the mean Dice of white matter, gray
matter and fluid beside the certainty, and their correlation over all images.
"""

import argparse
from functools import partial

import cifl_tf as cifl  # first: it selects Keras 2 for TensorFlow

import nibabel  # isort: skip
import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter, uniform_filter1d, zoom
from scipy.stats import pearsonr, spearmanr

from cifl_tf.datasets.catalog import load_cohort
from cifl_tf.evaluation.summary import to_markdown
from cifl_tf.metrics import dice

AS_NICHART = np.array([0, 1, 2, 3, 2, 4])  # of the values of `cifl segment`
CONTRASTS = ("T1w", "T1w:inverted", "FLAIR")


def noisy(image, strength, rng):
    """Gaussian noise of this SD, in the brain."""
    return np.where(image > 0, np.maximum(image + rng.normal(0, strength, image.shape), 1e-3), 0)


def thick(image, strength, rng):
    """Slices that are so many voxels thick, each shown as often."""
    mean = uniform_filter1d(image, strength, axis=2)
    places = np.arange(image.shape[2]) // strength * strength + strength // 2
    return mean[:, :, np.minimum(places, image.shape[2] - 1)]


def coarse(image, strength, rng):
    """Voxels so many times as large along every axis, interpolated again."""
    small = zoom(gaussian_filter(image, strength / 2.355), 1 / strength, order=1)
    factors = np.divide(image.shape, small.shape)
    return np.where(image > 0, np.maximum(zoom(small, factors, order=1), 0), 0)


def biased(image, strength, rng):
    """A smooth bias field, whose logarithm has this SD."""
    field = gaussian_filter(rng.normal(size=image.shape), 15)
    biased = image * np.exp(strength * field / field.std())
    return biased / biased.max()


def moved(image, strength, rng):
    """Motion: a third of the phase encodings see the head shifted by up to so many voxels."""
    spectrum = np.fft.fftn(image)
    frequency = np.fft.fftfreq(image.shape[1])[None, :, None]
    lines = rng.random(image.shape[1]) < 1 / 3
    shifts = np.where(lines, rng.uniform(-strength, strength, image.shape[1]), 0)[None, :, None]
    # The center, which holds most of the image, is seen once.
    shifts[:, np.abs(frequency[0, :, 0]) < 0.02] = 0
    along = np.fft.fftfreq(image.shape[0])[:, None, None]
    seen = np.fft.ifftn(spectrum * np.exp(-2j * np.pi * (frequency + along) * shifts))
    return np.where(image > 0, np.abs(seen), 0)


DEGRADATIONS = {
    "none": [(0, lambda image, strength, rng: image)],
    "noise": [(one, noisy) for one in (0.05, 0.1, 0.2, 0.4)],
    "thick slices": [(one, thick) for one in (2, 3, 5)],
    "large voxels": [(one, coarse) for one in (1.5, 2, 3)],
    "bias": [(one, biased) for one in (0.2, 0.4)],
    "motion": [(one, moved) for one in (2, 5, 10)],
}


def main(argv=None):
    """Degrade, segment, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of NiChart")
    parser.add_argument("--subjects", default="sub-11,sub-12")
    parser.add_argument("--model", default="tissues", help="as of `cifl segment`")
    args = parser.parse_args(argv)
    cohort = load_cohort(args.data, 3, needed=["T1w", "FLAIR"])
    segment = partial(
        cifl.segment_tissues, model=cifl.Segmenter.from_pretrained(args.model), stripped=True
    )
    rows = []
    for subject in cohort.select(args.subjects.split(",")).subjects:
        truth = subject.labels()
        for contrast in CONTRASTS:
            image = subject.image(contrast)
            for name, strengths in DEGRADATIONS.items():
                for strength, degrade in strengths:
                    worse = degrade(image, strength, np.random.default_rng(0))
                    scan = nibabel.Nifti1Image(worse.astype(np.float32), subject.affine)
                    found = segment(scan)
                    labels = AS_NICHART[np.asarray(found.segmentation.labels.dataobj)]
                    score = dice(labels, truth, [1, 2, 3]).mean()
                    rows.append((name, strength, contrast, score, found.certainty))
    table = pd.DataFrame(rows, columns=["change", "strength", "contrast", "Dice", "certainty"])
    means = table.groupby(["change", "strength", "contrast"], sort=False).mean()
    print(to_markdown(means.reset_index().round(3).astype(str)))
    for name, correlation in (("Pearson", pearsonr), ("Spearman", spearmanr)):
        print(f"{name}: {correlation(table['Dice'], table['certainty'])[0]:.3f}")
        for contrast, part in table.groupby("contrast"):
            print(f"  {contrast}: {correlation(part['Dice'], part['certainty'])[0]:.3f}")


if __name__ == "__main__":
    main()
