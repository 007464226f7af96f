"""How well encoders, segmenters and registrations do on the subjects of a cohort."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd
from nibabel.affines import voxel_sizes
from tqdm import tqdm

from cifl_tf._former_names import accepts_former
from cifl_tf.datasets import Cohort, Subject, View
from cifl_tf.images.volumes import slice_axis
from cifl_tf.metrics import (
    dice,
    effective_rank,
    folding_fraction,
    hausdorff95,
    log_jacobian_std,
    match_voxels,
    mean_and_sd,
    same_channel_correlation,
)
from cifl_tf.registration.displacements import warp
from cifl_tf.segmentation.refinement import refine


@accepts_former()
def feature_scores(
    encode: Callable[[np.ndarray], np.ndarray],
    cohort: Cohort,
    contrasts: Sequence[str],
    *,
    ndim: int = 2,
    plane: str = "coronal",
    num_slices: int | None = 9,
    center_label: str | None = None,
) -> pd.DataFrame:
    """Correlate features of every subject in several contrasts, inside the subject's labels.

    Args:
        encode: from images, float32 (n, *spatial, 1) in [0, 1], to features (n, *spatial, C), such
            as ``predict_on_batch`` of an encoder.
        cohort: subjects with labels.
        contrasts: as for ``Subject.image``; the others are compared with the first.
        ndim: 2 for slices, 3 for volumes.
        plane: see ``segmentation_scores``, also for the next two.
        num_slices: per subject.
        center_label: name of the label on which they are centered.

    Returns:
        A row per subject and contrast but the first: "subject", "contrast" (such as "T1w to
        FLAIR"), "correlation" (of each channel with itself, mean over channels), "unrelated"
        (of the first contrast with itself upside down, mean absolute value): where the former is
        high, the latter is low unless the features have collapsed; "matching" and "match distance",
        see ``metrics.match_voxels``, mean over slices; and "effective rank" of the channels of the
        first contrast.

    Raises:
        ValueError: no second contrast, features of another shape, or as ``datasets.slices``.
    """
    view = View(ndim, plane, num_slices, center_label)
    if len(contrasts) < 2:
        raise ValueError(
            f"the contrasts are {list(contrasts)}; give one, and others to compare with it"
        )
    first, *others = contrasts
    _label_names(cohort, others)
    rows = []
    for subject in tqdm(cohort, desc="evaluation", unit="subject", disable=None, leave=False):
        images, labels, _ = _cut(view, cohort, subject, first)
        reference, inside = np.asarray(encode(images)), labels > 0
        _check_shape("features", reference[..., 0], labels.shape)
        turned = np.asarray(encode(images[:, :, ::-1]))
        both = inside & inside[:, :, ::-1]
        unrelated = np.nan  # where labels do not meet their own mirror image
        if np.count_nonzero(both) > 1:
            unrelated = np.abs(same_channel_correlation(reference, turned, both)).mean()
        rank = effective_rank(reference, inside)
        for contrast in others:
            features = np.asarray(encode(_cut(view, cohort, subject, contrast)[0]))
            row = {
                "subject": subject.name,
                "contrast": f"{first} to {contrast}",
                "correlation": float(same_channel_correlation(reference, features, inside).mean()),
                "unrelated": float(unrelated),
                **_matching(reference, features, inside),
                "effective rank": rank,
            }
            rows.append(row)
    return pd.DataFrame(rows)


@accepts_former()
def segmentation_scores(
    segment: Callable[[np.ndarray], np.ndarray],
    cohort: Cohort,
    contrasts: Sequence[str],
    *,
    ndim: int = 2,
    plane: str = "coronal",
    num_slices: int | None = 9,
    center_label: str | None = None,
    refined: bool = False,
) -> pd.DataFrame:
    """Compare segmentations of every subject in every contrast with the subject's labels.

    In 2D the number of a label is the mean over the subject's slices, in 3D that of the volume.
    Slices on which a label is neither there nor predicted are left out; on no slice, the number is
    NaN. A label that is only there or only predicted on a slice has a Dice of 0 and an infinite
    distance there, and so an infinite mean; see ``metrics.dice`` and ``metrics.hausdorff95``.

    Args:
        segment: from images, float32 (n, *spatial, 1) in [0, 1], to probabilities
            (n, *spatial, labels), such as ``predict_on_batch`` of a segmenter.
        cohort: subjects with labels.
        contrasts: as for ``Subject.image``, so "T1w:inverted" too.
        ndim: 2 for slices, 3 for volumes.
        plane: of the slices; see ``datasets.slices``, also for the next two.
        num_slices: per subject.
        center_label: name of the label on which they are centered.
        refined: place the borders by the intensities, see ``refine``; of slices, all of a subject
            together.

    Returns:
        A row per subject and contrast: "subject", "contrast", "dice" (mean over labels), "dice X"
        of the label X, "hd95" (mean over labels) and "hd95 X", in mm of the slice.

    Raises:
        ValueError: nothing to evaluate, probabilities of another shape, or as ``datasets.slices``.
    """
    view = View(ndim, plane, num_slices, center_label)
    names = _label_names(cohort, contrasts)
    rows = []
    for subject in tqdm(cohort, desc="evaluation", unit="subject", disable=None, leave=False):
        for contrast in contrasts:
            images, labels, voxel_size = _cut(view, cohort, subject, contrast)
            probabilities = np.asarray(segment(images))
            _check_shape("probabilities", probabilities, (*labels.shape, cohort.num_labels))
            if refined:
                probabilities = _refined(images[..., 0], probabilities, voxel_size)
            predicted = probabilities.argmax(axis=-1)
            scores = _overlap(predicted, labels, names, voxel_size)
            rows.append({"subject": subject.name, "contrast": contrast, **scores})
    return pd.DataFrame(rows)


@accepts_former()
def registration_scores(
    displace: Callable[[np.ndarray, np.ndarray], np.ndarray],
    cohort: Cohort,
    moving_contrast: str,
    fixed_contrasts: Sequence[str],
    *,
    ndim: int = 2,
    plane: str = "coronal",
    num_slices: int | None = 9,
    center_label: str | None = None,
    hd95: bool = True,
) -> pd.DataFrame:
    """Register every subject to every other, warp its labels and compare them.

    In 2D the first slice of one subject goes with the first of the other and so on, and all numbers
    are means over slices. Labels are warped by the nearest neighbor. What is said of missing
    labels in ``segmentation_scores`` holds here too.

    Args:
        displace: from moving and fixed images, float32 (n, *spatial, 1) in [0, 1] each, to
            displacements (n, *spatial, ndim) in voxels: ``warped(x) = moving(x + u(x))``.
        cohort: two or more subjects of one shape, with labels.
        moving_contrast: of the moving images.
        fixed_contrasts: of the fixed images, each in turn.
        ndim: 2 for slices, 3 for volumes.
        plane: see ``segmentation_scores``, also for the next two.
        num_slices: per subject.
        center_label: name of the label on which they are centered.
        hd95: False leaves out the distances, which take the longest in 3D.

    Returns:
        A row per ordered pair and fixed contrast: "moving", "fixed", "contrast" (such as "T1w to
        FLAIR"), "dice" (mean over labels), "dice X" of the label X, "hd95" and "hd95 X" in mm,
        "dice before" (mean over labels, without the warp), "folded" (share of voxels), and
        "log jacobian sd"; see ``metrics``.

    Raises:
        ValueError: nothing to evaluate, shapes that differ, displacements of another shape, or as
            ``datasets.slices``.
    """
    view = View(ndim, plane, num_slices, center_label)
    names = _label_names(cohort, fixed_contrasts)
    if len(cohort) < 2:
        raise ValueError(f"there is one subject, {cohort.names[0]}; give two at least, for a pair")
    moving_views = {s.name: _cut(view, cohort, s, moving_contrast)[:2] for s in cohort}
    shapes = {name: labels.shape[1:] for name, (_, labels) in moving_views.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(
            f"the subjects have different shapes, {shapes}; bring all to one grid first, or choose "
            "subjects that share one"
        )
    rows = []
    turns = list(itertools.product(cohort, fixed_contrasts))
    for fixed, contrast in tqdm(turns, desc="evaluation", disable=None, leave=False):
        fixed_images, fixed_labels, voxel_size = _cut(view, cohort, fixed, contrast)
        for moving, (images, labels) in moving_views.items():
            if moving == fixed.name:
                continue
            displacements = np.asarray(displace(images, fixed_images))
            _check_shape("displacements", displacements, (*labels.shape, ndim))
            warped = warp(labels[..., None], displacements, "nearest")[..., 0]
            before = _overlap(labels, fixed_labels, names, voxel_size, hd95=False)
            row = {
                "moving": moving,
                "fixed": fixed.name,
                "contrast": f"{moving_contrast} to {contrast}",
                **_overlap(warped, fixed_labels, names, voxel_size, hd95),
                "dice before": before["dice"],
                "folded": _mean([folding_fraction(field) for field in displacements]),
                "log jacobian sd": _mean([log_jacobian_std(field) for field in displacements]),
            }
            rows.append(row)
    return pd.DataFrame(rows)


def _matching(features_1, features_2, inside):
    """Scores of ``match_voxels`` of stacks (n, *spatial, C), means over those with labels."""
    found = [
        match_voxels(one, other, mask)
        for one, other, mask in zip(features_1, features_2, inside, strict=True)
        if mask.any()
    ]
    return {
        "matching": _mean([each.accuracy for each in found]),
        "match distance": _mean([each.distance for each in found]),
    }


def _cut(view: View, cohort: Cohort, subject: Subject, contrast: str):
    """Images (n, *spatial, 1), labels (n, *spatial) and voxel size in mm of a subject."""
    images, labels, _ = view.stack(cohort.select([subject.name]), contrast)
    sizes = voxel_sizes(subject.affine)
    if view.ndim == 2:
        sizes = np.delete(sizes, slice_axis(subject.labels().shape, view.plane))
    return images, labels[..., 0], sizes


def _refined(images, probabilities, voxel_size):
    """Probabilities (n, *spatial, labels) with the borders of the intensities."""
    if images.ndim == 4:
        pairs = zip(images, probabilities, strict=True)
        return np.stack([refine(*pair, voxel_size) for pair in pairs])
    return refine(images, probabilities, (max(voxel_size), *voxel_size))


def _label_names(cohort, contrasts):
    names = list(cohort.label_names.values())
    if not len(cohort) or not names or not contrasts:
        raise ValueError(
            f"there are {len(cohort)} subjects, {len(names)} labels and {len(contrasts)} contrasts "
            "to evaluate; give one of each at least"
        )
    if len(set(names)) < len(names):
        raise ValueError(f"the labels {names} are not all different; give each a name of its own")
    return names


def _check_shape(what, array, expected):
    if array.shape != expected:
        raise ValueError(
            f"the {what} have shape {array.shape}, but {expected} was expected; evaluate a model "
            "that was trained for these labels and dimensions"
        )


def _overlap(stack_1, stack_2, names, voxel_size, hd95=True):
    """Scores of two stacks (n, *spatial) of label maps, means over the n."""
    measures: dict[str, Callable] = {"dice": dice}
    if hd95:
        measures["hd95"] = partial(hausdorff95, voxel_size=voxel_size)
    values = range(1, len(names) + 1)
    scores = {}
    for measure, function in measures.items():
        table = np.array(
            [function(*label_maps, values) for label_maps in zip(stack_1, stack_2, strict=True)]
        )
        of_labels = [_mean(column) for column in table.T]
        scores[measure] = _mean(of_labels)
        scores |= {f"{measure} {name}": x for name, x in zip(names, of_labels, strict=True)}
    return scores


def _mean(values):
    return mean_and_sd(values)[0]
