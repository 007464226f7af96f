"""The pictures of the page "What the features know".

    python scripts/show_features.py --data /data/nichart --study study/study.json \
        --encoders study/encoders --segmenter segmenter --out docs/features

Images are of a subject that chooses; those that test are not read. `--study` is of
`study_features.py`, `--encoders` the folder of its trainings, and `--segmenter` a folder of `cifl
segment train --ndim 3` on features.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import cifl_tf as cifl  # first: it selects Keras 2 for TensorFlow

import numpy as np  # isort: skip
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from cifl_tf.datasets import View, load_cohort, split_study, study_view
from cifl_tf.features.frozen import FrozenFeatures
from cifl_tf.features.mind import build_mind_ssc
from cifl_tf.features.training import untrained_encoder
from cifl_tf.figures.panels import _grid, _panel, save_figure
from cifl_tf.metrics import effective_rank, match_voxels
from cifl_tf.metrics.matching import _unit
from cifl_tf.segmentation.refinement import refine
from study_variants import BASE

CONTRASTS = {"T1w": "T1w", "T1w:inverted": "inverted T1w", "FLAIR": "FLAIR"}
NEGATIVE = -0.9  # correlation of a channel with its negative, about
RADIUS = 6  # voxels around the right place where a match is looked for
DPI = 110
LABELS = {"cmap": ListedColormap(["k", "0.92", "0.55", "#3c6ec8", "#e67828"]), "vmin": 0, "vmax": 4}
SEGMENTED, REGISTERED = "segmentation", "registration"
COLORS = {"T1w": "C0", "T1w:inverted": "C1", "FLAIR": "C2"}

Features = Callable[[np.ndarray], np.ndarray]


def features_by_name(encoders: Path) -> dict[str, Features]:
    """What gives the features (x, y, C) of a slice (x, y), by the name of the encoder."""
    models = {
        "MIND-SSC": build_mind_ssc(ndim=2),
        "untrained": untrained_encoder(BASE),
        "100 steps": cifl.load_encoder(str(encoders / "short-seed-0")),
        "100, unsigned": cifl.load_encoder(str(encoders / "unsigned-seed-0")),
        "3000 steps": cifl.load_encoder("shapes-2d-wide"),
    }

    def of(model):
        extract = FrozenFeatures(model, ("inverted",))
        return lambda image: extract(image[None, ..., None])[0].numpy()

    return {"intensities": lambda image: image[..., None], **{n: of(m) for n, m in models.items()}}


def main(argv=None):
    """Draw all pictures whose input was given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of NiChart")
    parser.add_argument("--study", type=Path, required=True, help="study.json")
    parser.add_argument("--encoders", type=Path, required=True, help="folder of the trainings")
    parser.add_argument("--segmenter", help="folder of a segmenter of volumes; none: two fewer")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    args = parser.parse_args(argv)
    cohort = load_cohort(args.data, needed=["T1w", "FLAIR"])
    _, validation, _ = split_study(cohort, seed=0)
    subject = validation.select(validation.names[:1])
    view = study_view(cohort, 1)
    slices = {c: view.stack(subject, c)[0][0, ..., 0] for c in CONTRASTS}
    labels = view.stack(subject, "T1w")[1][0, ..., 0]
    named = features_by_name(args.encoders)
    found = {name: {c: of(image) for c, image in slices.items()} for name, of in named.items()}
    results = json.loads(args.study.read_text())["encoders"]
    figures = {
        "colors": colors_figure(found, labels > 0),
        "similarity": similarity_figure(found, slices, labels),
        "distance": distance_figure(found, labels > 0),
        "channels": channels_figure(found, labels > 0),
        "steps": steps_figure(results),
        "choices": choices_figure(results),
        "yardstick": yardstick_figure(results),
    }
    if args.segmenter:
        volumes = View(3)
        images = {c: volumes.stack(subject, c)[0] for c in CONTRASTS}
        truth = volumes.stack(subject, "T1w")[1][0, ..., 0]
        segment = cifl.Segmenter.from_pretrained(args.segmenter).predict_on_batch
        figures["masks"] = masks_figure(segment, images, truth)
        figures["borders"] = borders_figure(segment, images["FLAIR"], truth)
    for name, figure in figures.items():
        save_figure(figure, args.out / f"{name}.png", DPI)


def panels(rows: list[str], columns: list[str], aspect: float = 1.0):
    """A figure of images with names of rows and columns, and its axes."""
    figure, axes = _grid(len(rows), len(columns), aspect)
    for row, name in zip(axes, rows, strict=True):
        row[0].set_ylabel(name, fontsize="small")
    for panel, name in zip(axes[0], columns, strict=True):
        panel.set_title(name, fontsize="small")
    return figure, axes


def colors_figure(found, mask):
    """The first three principal components of T1w as red, green and blue, in all contrasts."""
    figure, axes = panels([*found], [*CONTRASTS.values()], mask.shape[1] / mask.shape[0])
    for row, features in zip(axes, found.values(), strict=True):
        sample = features["T1w"][mask]
        mean = sample.mean(axis=0)
        _, _, components = np.linalg.svd(sample - mean, full_matrices=False)
        projected = {c: (one - mean) @ components[:3].T for c, one in features.items()}
        low, high = np.percentile(projected["T1w"][mask], (2, 98), axis=0)
        for panel, image in zip(row, projected.values(), strict=True):
            shown = np.clip((image - low) / (high - low), 0, 1) * mask[..., None]
            # Of intensities there is one component, which is gray.
            _panel(panel, np.repeat(shown, 3, axis=-1) if shown.shape[-1] == 1 else shown)
    return figure


def similarity_figure(found, slices, labels):
    """How alike all voxels of every contrast are to one voxel of T1w."""
    thalamus = np.argwhere(labels == labels.max())
    place = thalamus[np.argmax(thalamus[:, 0])]  # at its border
    figure, axes = panels(
        ["scan", *found], [*CONTRASTS.values()], labels.shape[1] / labels.shape[0]
    )
    for panel, image in zip(axes[0], slices.values(), strict=True):
        _panel(panel, image, cmap="gray")
    for row, features in zip(axes[1:], found.values(), strict=True):
        units = {c: _unit(one, labels > 0) for c, one in features.items()}
        voxel = units["T1w"][tuple(place)]
        for panel, one in zip(row, units.values(), strict=True):
            _panel(panel, np.where(labels > 0, one @ voxel, np.nan), cmap="viridis", vmin=0, vmax=1)
    for panel in axes.ravel():
        panel.plot(*place, "r+", markersize=7)
    return figure


def match_distance(first, second, mask):
    """Distance in voxels from each voxel of a mask to its best match within ``RADIUS``."""
    found = match_voxels(first, second, mask, RADIUS, most_voxels=mask.size)
    distance = np.full(mask.shape, np.nan)
    distance[tuple(found.places.T)] = found.distances
    return distance


def distance_figure(found, mask):
    """Where the best match of a voxel of T1w lies in the other contrasts."""
    others = list(CONTRASTS)[1:]
    columns = [f"T1w to {CONTRASTS[c]}" for c in others]
    figure, axes = panels([*found], columns, mask.shape[1] / mask.shape[0])
    for row, features in zip(axes, found.values(), strict=True):
        for panel, contrast in zip(row, others, strict=True):
            distance = match_distance(features["T1w"], features[contrast], mask)
            _panel(panel, distance, cmap="magma", vmin=0, vmax=RADIUS)
            panel.set_xlabel(f"right to one voxel: {np.mean(distance[mask] < 1.5):.2f}", size=7)
    return figure


def channels_figure(found, mask):
    """Absolute correlation of the channels of T1w with each other."""
    chosen = {name: one["T1w"] for name, one in found.items() if one["T1w"].shape[-1] > 1}
    figure, axes = panels([""], [*chosen])
    for panel, features in zip(axes[0], chosen.values(), strict=True):
        correlation = np.nan_to_num(np.corrcoef(features[mask].T))
        _panel(panel, np.abs(correlation), cmap="viridis", vmin=0, vmax=1)
        negatives, rank = np.sum(correlation.min(axis=0) < NEGATIVE), effective_rank(features, mask)
        panel.set_xlabel(f"{negatives} with a negative, rank {rank:.1f}", fontsize="x-small")
    return figure


def plain_axes(columns: int, height: float = 2.6):
    """A figure of diagrams side by side, and its axes."""
    figure = Figure((2.5 * columns + 0.5, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for panel in axes:
        panel.tick_params(labelsize="x-small")
        panel.spines[["top", "right"]].set_visible(False)
    return figure, axes


def steps_figure(results):
    """What changes over the steps of one training, from random weights."""
    rows = [one for one in results if one["variant"] in ("untrained", "unsigned-500")]
    rows = sorted((one for one in rows if one["seed"] == 0), key=lambda one: one["steps"])
    steps = [one["steps"] for one in rows]
    figure, axes = plain_axes(4)
    for panel, (task, score, title) in zip(
        axes,
        (
            ("features", "correlation", "agreement with T1w"),
            ("features", "matching", "matching accuracy"),
            (SEGMENTED, "dice", "Dice of segmentation"),
            (REGISTERED, "dice", "Dice of registration"),
        ),
        strict=True,
    ):
        for contrast in CONTRASTS:
            if contrast in rows[0].get(task, {}):
                values = [one[task][contrast][score] for one in rows]
                panel.plot(steps, values, ".-", color=COLORS[contrast], label=CONTRASTS[contrast])
        panel.set_title(title, fontsize="small")
        panel.set_xlabel("steps", fontsize="x-small")
    axes[-1].legend(fontsize="x-small", frameon=False)
    return figure


def choices_figure(results):
    """Dice of every variant, its mean over the seeds, with a dot for each."""
    rows = pd.DataFrame(
        {"variant": one["variant"], "steps": one["steps"], "contrast": contrast, "task": task}
        | {"dice": one[task][contrast]["dice"]}
        for one in results
        for task in (SEGMENTED, REGISTERED)
        for contrast in CONTRASTS
        if task in one and one["steps"] in (0, 100, 3000)
    )
    names = list(dict.fromkeys(rows["variant"]))
    figure, axes = plain_axes(2, 0.9 + 0.2 * len(names))
    for panel, task in zip(axes, (SEGMENTED, REGISTERED), strict=True):
        for contrast in CONTRASTS:
            chosen = rows[(rows["task"] == task) & (rows["contrast"] == contrast)]
            places = [names.index(name) for name in chosen["variant"]]
            panel.plot(
                chosen["dice"], places, ".", color=COLORS[contrast], label=CONTRASTS[contrast]
            )
        panel.set_yticks(range(len(names)), names, fontsize="x-small")
        panel.invert_yaxis()
        panel.grid(axis="y", linewidth=0.3)
        panel.set_title(f"Dice of {task}", fontsize="small")
        panel.set_xlim(left=0.6)
    axes[1].set_yticklabels([])
    axes[0].legend(fontsize="x-small", frameon=False)
    return figure


def yardstick_figure(results):
    """Scores of seconds against the Dice that they should foretell, on FLAIR."""
    figure, axes = plain_axes(4)
    kinds = [
        (score, task) for task in (SEGMENTED, REGISTERED) for score in ("matching", "correlation")
    ]
    for panel, (score, task) in zip(axes, kinds, strict=True):
        rows = [one for one in results if task in one and one["variant"] != "intensities"]
        across = [one["features"]["FLAIR"][score] for one in rows]
        dice = [one[task]["FLAIR"]["dice"] for one in rows]
        panel.plot(across, dice, ".", color=COLORS["FLAIR"])
        panel.set_xlabel("agreement" if score == "correlation" else score, fontsize="x-small")
        panel.set_ylabel(f"Dice of {task}", fontsize="x-small")
        panel.set_title(f"r = {np.corrcoef(across, dice)[0, 1]:.2f}", fontsize="small")
    return figure


def mean_dice(predicted, truth):
    """Mean Dice over all labels but the background."""
    return np.nanmean(cifl.metrics.dice(truth, predicted, range(1, truth.max() + 1)))


def middle(volume, truth):
    """The coronal slice through the last label."""
    return volume[:, int(np.mean(np.argwhere(truth == truth.max())[:, 1]))]


def masks_figure(segment, images, truth):
    """A contrast, and what lies beyond the labels, changed apart from each other."""
    t1w, inside = images["T1w"], (truth > 0)[None, ..., None]
    shown = t1w > 1e-3
    cases = {
        "T1w": t1w,
        "inverted": np.where(shown, np.maximum(1 - t1w, 2e-3), 0),
        "T1w, no rim": np.where(inside, t1w, 0),
        "inverted, no rim": np.where(inside, np.maximum(1 - t1w, 2e-3), 0),
    }
    flat = middle(truth, truth)
    figure, axes = panels(["scan", "labels"], [*cases], flat.shape[1] / flat.shape[0])
    for column, image in zip(axes.T, cases.values(), strict=True):
        image = image.astype(np.float32)
        predicted = segment(image)[0].argmax(axis=-1)
        _panel(column[0], middle(image[0, ..., 0], truth), cmap="gray")
        _panel(column[1], middle(predicted, truth), **LABELS)
        column[1].set_xlabel(f"Dice {mean_dice(predicted, truth):.3f}", fontsize="x-small")
    return figure


def borders_figure(segment, image, truth):
    """Labels of a network, and with borders by the intensities of the scan."""
    known = segment(image)[0]
    better = refine(image[0, ..., 0], known, (2, 2, 2))
    cases = {"network": known.argmax(-1), "by intensities": better.argmax(-1), "truth": truth}
    flat = middle(truth, truth)
    figure, axes = panels([""], ["FLAIR", *cases], flat.shape[1] / flat.shape[0])
    _panel(axes[0, 0], middle(image[0, ..., 0], truth), cmap="gray")
    for panel, (name, labels) in zip(axes[0, 1:], cases.items(), strict=True):
        _panel(panel, middle(labels, truth), **LABELS)
        if name != "truth":
            panel.set_xlabel(f"Dice {mean_dice(labels, truth):.3f}", fontsize="x-small")
    return figure


if __name__ == "__main__":
    main()
