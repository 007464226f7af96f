"""Subjects that a script must not read, as it tests on them only."""

import dataclasses
from collections.abc import Collection

from cifl_tf.datasets import Cohort


def unreadable():
    raise AssertionError("a test subject was read")


def with_unreadable(cohort: Cohort, names: Collection[str]) -> Cohort:
    """The cohort, in which reading the subjects of these names fails."""
    subjects = tuple(
        dataclasses.replace(
            subject, images=dict.fromkeys(subject.images, unreadable), segmentation=unreadable
        )
        if subject.name in names
        else subject
        for subject in cohort
    )
    return dataclasses.replace(cohort, subjects=subjects)
