"""Subjects with contrasts and labels: readers of published datasets, and a virtual cohort."""

from cifl_tf.datasets.bids import read_bids
from cifl_tf.datasets.cohorts import Cohort, make_cohort, slice_coverage, slices, stack_cohort
from cifl_tf.datasets.contrasts import REMAPPINGS, remap_contrast, remapping
from cifl_tf.datasets.ixi import read_ixi
from cifl_tf.datasets.mni152 import mni152_slice, mni152_tissues
from cifl_tf.datasets.oasis import read_oasis
from cifl_tf.datasets.opening import open_cohort
from cifl_tf.datasets.segmentation_maps import segmentation_maps
from cifl_tf.datasets.studies import split_study, study_contrasts, study_view
from cifl_tf.datasets.subjects import Subject
from cifl_tf.datasets.virtual import Variation, virtual_cohort

__all__ = [
    "REMAPPINGS",
    "Cohort",
    "Subject",
    "Variation",
    "make_cohort",
    "mni152_slice",
    "mni152_tissues",
    "open_cohort",
    "read_bids",
    "read_ixi",
    "read_oasis",
    "remap_contrast",
    "remapping",
    "segmentation_maps",
    "slice_coverage",
    "slices",
    "split_study",
    "stack_cohort",
    "study_contrasts",
    "study_view",
    "virtual_cohort",
]
