"""What ``cifl evaluate`` works on: a model, and people whom its training has not seen."""

import dataclasses
import reprlib
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cifl_tf._notes import listed, note
from cifl_tf.cli.parsing import parse_names
from cifl_tf.datasets import Cohort
from cifl_tf.datasets.catalog import same_people
from cifl_tf.evaluation.report import read_report
from cifl_tf.features.pretrained import INTENSITY, load_features, pretrained_encoders
from cifl_tf.images.intensity import IntensityScaling
from cifl_tf.images.preprocessing import Preprocessing
from cifl_tf.models.image_model import preprocessing_of
from cifl_tf.registration.instance import InstanceSettings
from cifl_tf.registration.loading import REGISTRATION_FILE, load_registration
from cifl_tf.registration.methods import InstanceMethod, NetworkMethod
from cifl_tf.registration.syn import MISSING, SYN, has_ants, register_syn
from cifl_tf.segmentation.loading import SEGMENTER_FILE, load_segmenter
from cifl_tf.training.claims import read_config

# What two runs must share to be compared.
SHARED = ("task", "data", "subjects", "contrasts", "ndim", "plane", "num_slices", "center_label")


def read_subjects(cohort: Cohort, contrasts: Collection[str]) -> None:
    """Read all that a registration needs of the subjects of a cohort."""
    for subject in cohort:
        subject.labels()
        for contrast in contrasts:
            subject.image(contrast)


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """A model, the task it does, and the configuration of its training, at least "ndim"."""

    task: str
    function: Callable[..., np.ndarray]
    training: dict
    preprocessing: Preprocessing


def open_model(model: str, optimize: bool, ndim: int | None) -> Evaluated:
    """Find out what a model is, and load it.

    Args:
        model: a folder of a training, what ``load_features`` takes, or "syn".
        optimize: register by optimizing each pair's own warp.
        ndim: of the images, for "intensity", "syn", and encoders for slices in three planes; None
            for 2.

    Raises:
        ValueError: there is no such model, or the options do not fit it.
    """
    if model == SYN:
        if optimize:
            raise ValueError(f"'{SYN}' optimizes each pair by itself; leave --optimize out")
        if not has_ants():
            raise ValueError(MISSING)
        return Evaluated("registration", register_syn, {"ndim": ndim or 2}, Preprocessing())
    shipped = pretrained_encoders()
    folder = shipped[model].folder if model in shipped else Path(model)
    task = "registration"
    if (folder / SEGMENTER_FILE).is_file():
        if optimize:
            raise ValueError(f"{model} holds a segmenter, but --optimize is for registrations")
        task = "segmentation"
        loaded: Any = load_segmenter(folder)
        function: Callable = partial(loaded.predict, batch_size=8, verbose=0)
        training = read_config(folder)
    elif (folder / REGISTRATION_FILE).is_file():
        refine = InstanceSettings() if optimize else None
        loaded = load_registration(folder)
        function = NetworkMethod(loaded, refine=refine).displace
        training = read_config(folder)
    else:
        loaded = encoder = load_features(model, ndim)
        training = {"ndim": (ndim or 2) if encoder is None else len(encoder.input_shape) - 2}
        if optimize:
            function = InstanceMethod(encoder, training["ndim"]).displace
        elif encoder is not None:
            task, function = "features", partial(encoder.predict, batch_size=8, verbose=0)
        else:
            raise ValueError(
                f"'{INTENSITY}' has no features to compare; add --optimize to register with it"
            )
    if ndim not in (None, training["ndim"]):
        raise ValueError(
            f"--ndim is {ndim}, but {model} is for {training['ndim']}D images; leave it out"
        )
    return Evaluated(task, function, training, preprocessing_of(loaded))


def tell_of_scaling(preprocessing: Preprocessing) -> None:
    """Tell where a model scales the intensities of files by another rule than datasets do."""
    if preprocessing.scaling != IntensityScaling():
        note(
            f"the model scales intensities by {preprocessing.scaling.to_config()}, but images of "
            "datasets are scaled by the rule of trainings; scores of files may be others"
        )


def with_labels_of(cohort: Cohort, training: dict, data: str) -> Cohort:
    """The cohort with the labels of the training, of which some may occur in no subject.

    Args:
        cohort: all subjects.
        training: configuration of the training.
        data: as given, for the error.

    Raises:
        ValueError: the data have other labels.
    """
    labels = list(cohort.label_names.values())
    _, *trained = training.get("label_names", ["background"])
    if not trained or trained == labels:  # a registration may be trained without labels
        return cohort
    if not labels or not set(labels) <= set(trained):
        raise ValueError(
            f"{data} has the labels {reprlib.repr(labels)}, but the model was trained with "
            f"{reprlib.repr(trained)}; give data with the same table of labels"
        )
    return cohort.with_labels(trained)


class People:
    """Who of a cohort may be tested.

    Another path, session or space may show the same people: names count, not where data are.

    Args:
        cohort: all subjects of the data.
        training: configuration of the training.
        other_people: the user says that those of the same names are others.

    Raises:
        ValueError: they cannot be others, as the data are those of the training.
    """

    def __init__(self, cohort: Cohort, training: dict, other_people: bool):
        self.cohort = cohort
        seen = {*training.get("train", ()), *training.get("validation", ())}
        same = same_people(training.get("data"), cohort.source)
        if other_people and same:
            raise ValueError(
                f"--other-people says that {cohort.source} shows other people than the training, "
                "but the model was trained on it; leave the option out"
            )
        self.seen = [name for name in cohort.names if name in seen and not other_people]
        self.advice = "" if same else "; if these are other people, add --other-people"

    def chosen(self, subjects: str | None) -> Cohort:
        """The subjects of these names, with commas between, or all that training has not seen."""
        if subjects is not None:
            return self.cohort.select(parse_names(subjects))
        names = [name for name in self.cohort.names if name not in self.seen]
        if not names:
            raise ValueError(
                f"all {len(self.cohort)} subjects of {self.cohort.source} were in training or "
                "validation; train with --test-subjects, give other data, or name --subjects to "
                f"test them all the same{self.advice}"
            )
        return self.cohort.select(names)

    def tell(self, chosen: Cohort) -> None:
        """Tell who is tested though training has seen them, and who is left out as it has."""
        tested = [name for name in self.seen if name in chosen.names]
        if tested:
            note(f"subjects {listed(tested)} were in training or validation{self.advice}")
        elif self.seen and len(chosen) + len(self.seen) == len(self.cohort):
            note(
                f"{len(self.seen)} subjects were in training or validation and are left out: "
                f"{listed(self.seen)}{self.advice}"
            )


def comparable_report(against: Path, about: dict) -> dict:
    """The report of an earlier run, after a check that it is of the same images.

    Args:
        against: folder of the earlier run.
        about: this run, see ``write_report``.

    Raises:
        ValueError: it is of other images, or of a single subject.
    """
    earlier = read_report(against)
    differing = [
        f"{name} {earlier['about'].get(name)!r} there, {about[name]!r} here"
        for name in SHARED
        if earlier["about"].get(name) != about[name]
    ]
    if differing or len(about["subjects"]) < 2:
        reason = ", ".join(differing) or "one subject only, where a test needs two"
        raise ValueError(
            f"the run cannot be compared with {against} ({reason}); evaluate both on the same "
            "subjects and contrasts"
        )
    return earlier
