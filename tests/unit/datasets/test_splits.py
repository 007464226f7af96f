import dataclasses

import pytest

from cifl_tf.datasets import View, split_study, study_contrasts, study_view, virtual_cohort
from cifl_tf.datasets.splits import training_claim


@pytest.mark.parametrize(("count", "expected"), [(8, (4, 2, 2)), (13, (8, 2, 3)), (16, (10, 2, 4))])
def test_every_subject_is_in_one_part(count, expected):
    cohort = virtual_cohort(count)
    parts = split_study(cohort, seed=0)
    assert tuple(map(len, parts)) == expected
    assert sum((part.names for part in parts), ()) == cohort.names


def test_large_datasets_are_divided_as_in_the_paper():
    cohort = virtual_cohort(391)
    parts = split_study(cohort, seed=1)
    assert tuple(map(len, parts)) == (232, 58, 100)
    assert len({name for part in parts for name in part.names}) == 390
    assert parts[2].names == split_study(cohort, seed=1)[2].names
    assert parts[2].names != split_study(cohort, seed=2)[2].names


def test_too_few_subjects_or_no_labels():
    with pytest.raises(ValueError, match="there are 7 subjects and 4 labels"):
        split_study(virtual_cohort(7), seed=0)
    bare = dataclasses.replace(virtual_cohort(8), label_names={}, label_values=(0,))
    with pytest.raises(ValueError, match="there are 8 subjects and 0 labels"):
        split_study(bare, seed=0)


def test_slices_lie_around_the_thalamus_where_there_is_one():
    cohort = virtual_cohort(1)
    assert study_view(cohort, 5) == View(2, "coronal", 5, "THA")
    names = {1: "WM", 2: "left-thalamus"}
    renamed = dataclasses.replace(cohort, label_names=names)
    assert study_view(renamed, 5) == View(2, "coronal", 5, None)


def test_contrasts_are_that_of_training_its_inversion_and_the_others():
    assert study_contrasts(virtual_cohort(1)) == ["T1w", "T1w:inverted", "T2w", "FLAIR", "PDw"]


def test_a_training_remembers_which_segmentation():
    cohort = dataclasses.replace(virtual_cohort(3), segmentation="seg35")
    claim = training_claim(View(), cohort, cohort)
    assert claim["segmentation"] == "seg35"
