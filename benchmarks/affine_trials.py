"""Affine registration of turned scans: how often it is right, and how long it takes.

One of two scans of a NiChart brain, FLAIR or T1w with inverted intensities, is turned about each
axis, moved and scaled at random, by SimpleITK, onto a grid that holds all of it, and registered to
the T1w scan. The error is the largest distance at the corners of the box around the brain:

    python benchmarks/affine_trials.py --data nichart --out trials.csv
    python benchmarks/affine_trials.py --data nichart --out trials.csv --methods features

The default is 40 trials of each contrast and move, by features and by mutual information: ANTs'
affine where ANTsPy is installed, else SimpleITK's. Each trial is a row of the CSV file as soon as
it is done; the same command goes on where it was ended. Prints a Markdown table of the rows.
Processor seconds are those of this process; other work on the machine changes them little.
"""

import argparse
import importlib.util
import itertools
import tempfile
import time
from pathlib import Path

import cifl_tf as cifl  # first: it selects Keras 2 for TensorFlow

import nibabel  # isort: skip
import numpy as np
import pandas as pd
import SimpleITK
from nibabel.affines import apply_affine, from_matvec
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from cifl_tf.registration import Affine, register_affine
from results_table import add_json_option, show_table

RANGES = {"large": (30, 30, (0.85, 1.15)), "small": (15, 20, (1.0, 1.0))}
CONTRASTS = ("FLAIR", "inverted T1w")
RIGHT = 2.0  # mm
MARGIN = 4.0  # mm around what was turned
TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
KEYS = ["move", "contrast", "method", "trial"]
BINS, SAMPLED, SEED = 32, 0.25, 1  # of SimpleITK's mutual information


def scan(data, subject, contrast):
    """A scan of NiChart as a nibabel image."""
    name = "T1w" if contrast == "inverted T1w" else contrast
    image = nibabel.load(next(Path(data).glob(f"sub-{subject:02d}/anat/*desc-brain_{name}.nii.gz")))
    array = np.asarray(image.dataobj, np.float32)
    if contrast == "inverted T1w":
        array = np.where(array > 0, array.max() + 1 - array, 0).astype(np.float32)
    return nibabel.Nifti1Image(array, image.affine)


def corners_of(image):
    """Corners of the box around what is not 0, in mm, (8, 3)."""
    voxels = np.argwhere(np.asarray(image.dataobj) > 0)
    choices = np.indices((2, 2, 2)).reshape(3, -1).T
    return apply_affine(image.affine, np.where(choices, voxels.max(0), voxels.min(0)))


def random_matrix(rng, move, center):
    """A random turn about a center, scaling and shift, (4, 4)."""
    degrees, shift, scales = RANGES[move]
    turn = Rotation.from_euler("xyz", rng.uniform(-degrees, degrees, 3), degrees=True).as_matrix()
    linear = turn * rng.uniform(*scales)
    return from_matvec(linear, center + rng.uniform(-shift, shift, 3) - linear @ center)


def in_itk(array, affine):
    """An array (x, y, z) as an image of ITK."""
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.T))
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    axes = TO_LPS @ affine
    image.SetSpacing(sizes.tolist())
    image.SetDirection((axes[:3, :3] / sizes).ravel().tolist())
    image.SetOrigin(axes[:3, 3].tolist())
    return image


def turned(image, matrix, size=2.0):
    """The image after its points went by a matrix, on a grid around all of it."""
    reached = apply_affine(matrix, corners_of(image))
    first = reached.min(0) - MARGIN
    shape = np.ceil((reached.max(0) + MARGIN - first) / size).astype(int)
    affine = from_matvec(size * np.eye(3), first)
    back = TO_LPS @ np.linalg.inv(matrix) @ TO_LPS
    transform = SimpleITK.AffineTransform(3)
    transform.SetMatrix(back[:3, :3].ravel().tolist())
    transform.SetTranslation(back[:3, 3].tolist())
    source = in_itk(np.asarray(image.dataobj), image.affine)
    grid = in_itk(np.zeros(shape, np.float32), affine)
    found = SimpleITK.Resample(source, grid, transform, SimpleITK.sitkLinear, 0.0)
    return nibabel.Nifti1Image(SimpleITK.GetArrayFromImage(found).T, affine)


def by_features(model):
    """Registers by the features of an encoder."""
    encoder = cifl.load_encoder(model)

    def run(moving, fixed):
        return register_affine(moving, fixed, encoder).affine

    return run


def by_ants(moving, fixed):
    """Registers by ANTs: affine, mutual information, from the centers of mass."""
    import ants

    with tempfile.TemporaryDirectory() as folder:
        images = []
        for name, image in (("fixed", fixed), ("moving", moving)):
            nibabel.save(image, f"{folder}/{name}.nii")
            images.append(ants.image_read(f"{folder}/{name}.nii"))
        found = ants.registration(
            *images, type_of_transform="Affine", outprefix=f"{folder}/", random_seed=1
        )
        return Affine.from_file(found["fwdtransforms"][0])


def by_simpleitk(moving, fixed):
    """Registers by SimpleITK: affine, mutual information, from the centers of mass."""
    images = [in_itk(np.asarray(image.dataobj), image.affine) for image in (fixed, moving)]
    start = SimpleITK.CenteredTransformInitializer(
        *images,
        SimpleITK.AffineTransform(3),
        SimpleITK.CenteredTransformInitializerFilter.MOMENTS,
    )
    method = SimpleITK.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(SAMPLED, SEED)
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-4, 300, 0.5, 1e-8)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([4, 2, 0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(*images)
    with tempfile.TemporaryDirectory() as folder:
        SimpleITK.WriteTransform(SimpleITK.AffineTransform(start), f"{folder}/affine.tfm")
        return Affine.from_file(f"{folder}/affine.tfm")


def trial_row(data, subjects, trial, move, contrast, method):
    """Error in mm, seconds and processor seconds of a random trial, by name."""
    # Every method and contrast meets the same turns.
    rng = np.random.default_rng([trial, [*RANGES].index(move)])
    subject = subjects[trial % len(subjects)]
    fixed = scan(data, subject, "T1w")
    corners = corners_of(fixed)
    truth = random_matrix(rng, move, corners.mean(0))
    moving = turned(scan(data, subject, contrast), truth)
    start = time.perf_counter(), time.process_time()
    affine = method(moving, fixed)
    seconds = time.perf_counter() - start[0], time.process_time() - start[1]
    apart = np.linalg.norm(affine.map(corners) - apply_affine(truth, corners), axis=1)
    return {"mm": apart.max(), "s": seconds[0], "cpu s": seconds[1]}


def table_of(rows):
    """How often each method was right, and how far off it was."""
    groups = rows.groupby(KEYS[:-1], sort=False)
    table = groups["mm"].agg(
        trials="size",
        right=lambda errors: f"{np.mean(errors < RIGHT):.0%}",
        median="median",
        most=lambda errors: errors.quantile(0.95),
        worst="max",
    )
    table = table.join(groups[["s", "cpu s"]].median()).round(2)
    names = {"median": "median mm", "most": "95 % mm", "worst": "worst mm"}
    return table.rename(columns=names).reset_index().astype(str)


def main(argv=None):
    """Run the trials that are not in the file yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of NiChart")
    parser.add_argument("--out", type=Path, required=True, help="CSV file of the trials")
    parser.add_argument("--trials", type=int, default=40, help="of each contrast and move")
    parser.add_argument("--subjects", default="1-10", help="first and last")
    parser.add_argument("--move", choices=RANGES, action="append", help="all, if not given")
    parser.add_argument("--model", default="shapes-3d", help="encoder for volumes")
    parser.add_argument(
        "--methods", default="features,information", help="one or both, with a comma between"
    )
    add_json_option(parser)
    options = parser.parse_args(argv)
    first, last = (int(number) for number in options.subjects.split("-"))
    subjects = range(first, last + 1)
    has_ants = importlib.util.find_spec("ants") is not None
    known = {
        "features": (options.model, by_features),
        "information": (
            f"{'ANTs' if has_ants else 'SimpleITK'}, mutual information",
            lambda _: by_ants if has_ants else by_simpleitk,
        ),
    }
    methods = {
        name: make(options.model)
        for name, make in (known[method] for method in options.methods.split(","))
    }
    done = set()
    if options.out.exists():
        done = set(pd.read_csv(options.out)[KEYS].itertuples(index=False, name=None))
    moves = options.move or RANGES
    todo = [
        key
        for key in itertools.product(moves, CONTRASTS, methods, range(options.trials))
        if key not in done
    ]
    for move, contrast, name, trial in tqdm(todo):
        found = trial_row(options.data, subjects, trial, move, contrast, methods[name])
        row = pd.DataFrame([dict(zip(KEYS, (move, contrast, name, trial), strict=True)) | found])
        row.to_csv(options.out, mode="a", header=not options.out.exists(), index=False)
    table = table_of(pd.read_csv(options.out))
    show_table(table, options.json)


if __name__ == "__main__":
    main()
