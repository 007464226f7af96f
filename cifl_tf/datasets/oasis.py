"""The neurite-OASIS release: 414 subjects of OASIS-1 with labels, in 3D and as one slice each."""

from cifl_tf._notes import note_left_out
from cifl_tf.datasets.cohorts import Cohort, make_cohort
from cifl_tf.datasets.label_tables import occurring_rows, read_freesurfer_table
from cifl_tf.datasets.subjects import Subject
from cifl_tf.images.atomic import expanded
from cifl_tf.images.file_names import missing_content

# The release's own seg4_labels.txt and seg35_labels.txt go before these.
SEG4 = {1: "Cortex", 2: "Subcortical-Gray-Matter", 3: "White-Matter", 4: "CSF"}
_LEFT_OR_MIDLINE = (
    *("Left-Cerebral-White-Matter", "Left-Cerebral-Cortex", "Left-Lateral-Ventricle"),
    *("Left-Inf-Lat-Ventricle", "Left-Cerebellum-White-Matter", "Left-Cerebellum-Cortex"),
    *("Left-Thalamus", "Left-Caudate", "Left-Putamen", "Left-Pallidum"),
    *("3rd-Ventricle", "4th-Ventricle", "Brain-Stem"),
    *("Left-Hippocampus", "Left-Amygdala", "Left-Accumbens", "Left-VentralDC", "Left-Vessel"),
    "Left-Choroid-Plexus",
)
_RIGHT = [name.replace("Left", "Right") for name in _LEFT_OR_MIDLINE if name.startswith("Left")]
SEG35 = dict(enumerate((*_LEFT_OR_MIDLINE, *_RIGHT), start=1))
TABLES = {"seg4": SEG4, "seg35": SEG35}
SEGMENTATIONS = {2: ("seg4", "seg24"), 3: ("seg4", "seg35")}
PREFIX = {2: "slice", 3: "aligned"}


def read_oasis(
    folder, ndim: int = 2, segmentation: str = "seg4", skip_incomplete: bool = False
) -> Cohort:
    """Find the subjects of the neurite-OASIS release, as published.

    ``subjects.txt`` in the folder names the subjects; each has a folder with
    ``slice_norm.nii.gz`` and ``slice_seg4.nii.gz`` (2D, 160 x 192 at 1 mm, mid-coronal) or
    ``aligned_norm.nii.gz`` and ``aligned_seg35.nii.gz`` or ``aligned_seg4.nii.gz`` (3D,
    160 x 192 x 224 at 1 mm). Images are T1-weighted, skull-stripped and affinely aligned. The
    brain mask is where the image is not zero: the labels leave out fluid around the brain.

    Names come from ``seg4_labels.txt``, ``seg24_labels.txt`` or ``seg35_labels.txt`` in the
    folder, as far as they occur in any subject. Without the file, seg4 is cortex, subcortical gray
    matter, white matter and CSF, and seg35 the 35 FreeSurfer structures in FreeSurfer's order.

    Args:
        folder: the release, unpacked.
        ndim: 2 for the slices, 3 for the volumes.
        segmentation: "seg4" or "seg24" in 2D, "seg4" or "seg35" in 3D.
        skip_incomplete: leave out subjects that lack a file, or have an empty one or a link to
            nothing in its place, instead of raising an error. A ``Note`` says which and why.

    Returns:
        Cohort with the contrast "T1w"; subjects as in ``subjects.txt``.

    Raises:
        FileNotFoundError: ``subjects.txt``, a table, or a file of a subject is missing.
        ValueError: there is no such segmentation, or ``subjects.txt`` is empty.

    Source: https://github.com/adalca/medical-datasets/blob/master/neurite-oasis.md; Hoopes et al.,
    HyperMorph, IPMI 2021; Marcus et al., OASIS, J. Cognitive Neuroscience 2007.
    """
    folder = expanded(folder)
    if ndim not in SEGMENTATIONS:
        raise ValueError(f"ndim is {ndim!r}: give 2 for the slices or 3 for the volumes")
    if segmentation not in SEGMENTATIONS[ndim]:
        raise ValueError(
            f"segmentation is {segmentation!r}: in {ndim}D choose from {SEGMENTATIONS[ndim]}"
        )
    listing = folder / "subjects.txt"
    if not listing.is_file():
        raise FileNotFoundError(
            f"{listing} does not exist: give the folder of the unpacked neurite-OASIS release"
        )
    names = listing.read_text().split()
    if not names:
        raise ValueError(f"{listing} names no subjects: unpack the release again")
    table_file = folder / f"{segmentation}_labels.txt"
    if not table_file.is_file() and segmentation not in TABLES:
        raise FileNotFoundError(f"{table_file} does not exist: copy it from the release")
    prefix = PREFIX[ndim]
    files = {
        name: [folder / name / f"{prefix}_{kind}.nii.gz" for kind in ("norm", segmentation)]
        for name in names
    }
    left_out: dict[str, str] = {}
    for name, paths in files.items():
        lacking = next(filter(None, map(missing_content, paths)), None)
        if lacking and not skip_incomplete:
            raise FileNotFoundError(
                f"subject {name}: {lacking}; unpack it again, or pass skip_incomplete=True"
            )
        if lacking:
            left_out[name] = lacking
    complete = {name: paths for name, paths in files.items() if name not in left_out}
    if not complete:
        raise FileNotFoundError(f"{folder} has no complete subject: {left_out[names[0]]}")
    note_left_out(folder, left_out, len(files))
    if table_file.is_file():
        segmentations = [labels for _, labels in complete.values()]
        table = occurring_rows(read_freesurfer_table(table_file), segmentations, table_file)
    else:
        table = TABLES[segmentation]
    subjects = [
        Subject(name, {"T1w": image}, labels, (0, *table), brain="image")
        for name, (image, labels) in complete.items()
    ]
    return make_cohort(subjects, table)
