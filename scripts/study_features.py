"""What short trainings are worth: how features match, and how slices register and segment on them.

For every variant of `study_variants.py` an encoder is trained and kept after several steps on the
way; each of these is scored beside untrained encoders, MIND-SSC, intensities and the encoders that
ship:

    python scripts/study_features.py --data /data/nichart --out study
    python scripts/study_features.py --data /data/nichart --out study --only untrained small-60
    python scripts/study_features.py --data /data/nichart --out study --segmentation-steps 600

The validation subjects of `reproduce_table1.py` choose; its test subjects, a quarter, are never
read. Every encoder's scores are kept once they are there; the same command goes on after an
interruption. `study.md` and `study.json` are written anew after each and hold all that are done.
"""

import argparse
import dataclasses
import json
import shlex
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import get_args

import cifl_tf  # noqa: F401  isort: skip  (first: it selects Keras 2 for TensorFlow)
from tensorflow import keras  # isort: skip
import pandas as pd

from cifl_tf.datasets import Cohort, View, load_cohort, split_study, study_contrasts, study_view
from cifl_tf.evaluation.report import write_study
from cifl_tf.evaluation.scores import feature_scores, registration_scores, segmentation_scores
from cifl_tf.evaluation.summary import summary, to_markdown
from cifl_tf.features.callbacks import SnapshotEncoder
from cifl_tf.features.config import Precision
from cifl_tf.features.frozen import FrozenFeatures
from cifl_tf.features.mind import build_mind_ssc
from cifl_tf.features.pretrained import load_encoder
from cifl_tf.features.training import train, untrained_encoder
from cifl_tf.images.atomic import atomic_path
from cifl_tf.models.files import load_network
from cifl_tf.registration.instance import InstanceSettings
from cifl_tf.registration.methods import InstanceMethod
from cifl_tf.segmentation.config import SegmentationConfig
from cifl_tf.segmentation.training import train_segmenter
from cifl_tf.training.claims import claim_folder
from study_variants import BASE, Variant, at_two_scales, variants

SNAPSHOTS = (30, 60, 120, 250)  # steps at which an encoder is scored, beside its last
REMAPPINGS = ("inverted",)
FEATURE_SCORES = ("correlation", "unrelated", "matching", "match distance", "effective rank")
COPIES = 8  # augmented, of each training slice, which a segmenter sees
RANDOM_CONTRAST = 0.25  # share of these copies


class Study:
    """The subjects that choose, and the folder of the results.

    Args:
        data: see ``load_cohort``.
        out: folder; ``encoders`` in it holds the trainings, ``scores`` a file per encoder.
        precision: of the trainings.
        num_slices: per subject.
        segmentation_steps: of a U-Net on each encoder; 0 for none.
    """

    def __init__(
        self, data: str, out: Path, precision: Precision, num_slices: int, segmentation_steps: int
    ):
        self.out, self.precision, self.segmentation_steps = out, precision, segmentation_steps
        cohort = load_cohort(data)
        self.train, self.validation, _ = split_study(cohort, seed=0)
        self.contrasts = study_contrasts(cohort)
        self.view = study_view(cohort, num_slices)

    def run(self, variant: Variant, seed: int) -> None:
        """Score the encoders of a variant whose scores are not there yet."""
        for steps, load in self._encoders(variant, seed):
            file = self.out / "scores" / f"{variant.name}-seed-{seed}-steps-{steps}.json"
            if file.exists():
                continue
            print(f"{time.strftime('%H:%M')} {file.stem}", flush=True)
            keras.backend.clear_session()  # or many encoders fill the memory
            encoder = at_two_scales(load()) if variant.two_scales else load()
            scores = encoder_scores(
                encoder, self.validation, self.contrasts, self.view, variant.settings
            )
            if self.segmentation_steps:
                scores["segmentation"] = self._segmentation(encoder, file.stem, seed)
            about = {"group": variant.group, "variant": variant.name, "seed": seed, "steps": steps}
            with atomic_path(file) as temporary:
                temporary.write_text(json.dumps({**about, **scores}, indent=1) + "\n")

    def _encoders(self, variant: Variant, seed: int) -> Iterator[tuple]:
        """Steps of training, and a function that gives the encoder, of all to be scored."""
        if variant.config is None:
            yield 0, partial(reference_encoder, variant.name, seed)
            return
        config = dataclasses.replace(variant.config, seed=seed, precision=self.precision)
        folder = self.out / "encoders" / f"{variant.training or variant.name}-seed-{seed}"
        if variant.label_maps is not None:
            label_maps = self.out / "label_maps" / variant.name
            if not label_maps.is_dir():
                with atomic_path(label_maps) as temporary:
                    temporary.mkdir()
                    variant.label_maps(self.train, temporary)
            config = dataclasses.replace(config, labels=str(label_maps))
        kept = SnapshotEncoder(folder / "snapshots", self.snapshots(config.steps))
        train(folder, config, callbacks=[kept], build=variant.build)
        for step in kept.steps:
            yield step, partial(load_network, kept.path(step))
        yield config.steps, partial(load_encoder, str(folder))

    def _segmentation(self, encoder: keras.Model | None, name: str, seed: int) -> dict:
        """Dice in every contrast of a U-Net that saw the features of T1w, without averaging."""
        folder = self.out / "segmenters"
        model = "intensity" if encoder is None else str(folder / f"{name}.keras")
        if encoder is not None:
            with atomic_path(model) as temporary:
                encoder.save(temporary)
        config = SegmentationConfig(
            model,
            steps=self.segmentation_steps,
            seed=seed,
            random_contrast=RANDOM_CONTRAST,
            cached_copies=COPIES,
            flip_axis=0,
            remappings=REMAPPINGS,
            **self.view,
        )
        segmenter = train_segmenter(folder / name, config, self.train, self.validation)
        found = summary(
            segmentation_scores(
                segmenter.predict_on_batch, self.validation, self.contrasts, **self.view
            )
        )
        return {contrast: {"dice": found[contrast]["dice"]["mean"]} for contrast in self.contrasts}

    @staticmethod
    def snapshots(steps: int) -> list[int]:
        """Steps at which a training is scored before its end; short ones only at their end."""
        return [step for step in SNAPSHOTS if 2 * step <= steps and steps > SNAPSHOTS[-1]]

    def results(self) -> list[dict]:
        """The scores that are there, in the order of ``variants``, then of seeds and steps."""
        order = [variant.name for variant in variants()]
        found = [json.loads(file.read_text()) for file in (self.out / "scores").glob("*.json")]
        return sorted(found, key=lambda s: (order.index(s["variant"]), s["seed"], s["steps"]))

    def write(self, about: dict) -> str:
        """Write ``study.md`` and ``study.json``, and return the text of the former."""
        results = self.results()
        short = [contrast.removeprefix("T1w:") for contrast in self.contrasts]
        headings = [
            *("group", "variant", "seed", "steps"),
            *(f"segmentation, {contrast}" for contrast in short if self.segmentation_steps),
            *(f"Dice, {contrast}" for contrast in short),
            *("mean Dice", "log J SD"),
            *(f"{score}, {c}" for c in short[1:] for score in ("corr.", "matching", "distance")),
            *("unrelated", "rank"),
        ]
        rows = pd.DataFrame([self._row(scores) for scores in results], columns=headings)
        lines = [
            f"Subjects that choose: {', '.join(self.validation.names)}; the test subjects "
            f"were not read. {self.view.num_slices} coronal slices of each around the "
            f"{self.view.center_label or 'middle'}. Dice: mean over the labels, of both "
            "ordered pairs registered from T1w by instance optimization. The features of an "
            "encoder are the mean over the image and its inversion, as registration gets "
            "them. Correlation: of each channel with itself in T1w; matching: share of the "
            "voxels whose best match within 6 voxels is right to 1 voxel; distance: mean of "
            "that of the match in voxels, all T1w to the contrast in the same subject; "
            "unrelated: T1w with itself upside down; rank: the effective rank of the "
            "channels. Log J SD: of the Jacobian determinant, mean over the contrasts."
            + self._about_segmentation(),
            "",
            to_markdown(rows).rstrip(),
        ]
        return write_study(self.out, "study", lines, about, {"encoders": results})

    def _about_segmentation(self) -> str:
        if not self.segmentation_steps:
            return ""
        return (
            f" Segmentation: mean Dice over the labels of a U-Net of {self.segmentation_steps} "
            f"steps on the features of T1w, {COPIES} varied copies of each slice of which a share "
            f"of {RANDOM_CONTRAST:g} has a random contrast, mean over the image and its mirror "
            "image."
        )

    def _row(self, scores: dict) -> list[str]:
        registration, features = scores["registration"], scores["features"]
        dice = [registration[contrast]["dice"] for contrast in self.contrasts]
        spread = [registration[contrast]["log jacobian sd"] for contrast in self.contrasts]
        others = [features[contrast] for contrast in self.contrasts[1:]]
        of_contrasts = [
            f"{one[score]:.2f}"
            for one in others
            for score in ("correlation", "matching", "match distance")
        ]
        segmented = [
            scores["segmentation"][contrast]["dice"]
            for contrast in self.contrasts
            if self.segmentation_steps
        ]
        return [
            *(str(scores[name]) for name in ("group", "variant", "seed", "steps")),
            *(f"{value:.3f}" for value in segmented),
            *(f"{value:.3f}" for value in (*dice, sum(dice) / len(dice))),
            f"{sum(spread) / len(spread):.3f}",
            *of_contrasts,
            f"{others[0]['unrelated']:.2f}",
            f"{others[0]['effective rank']:.1f}",
        ]


def reference_encoder(name: str, seed: int) -> keras.Model | None:
    """Features that are not trained here; None for intensities.

    Args:
        name: of a variant whose name starts with one of ``REFERENCES``.
        seed: of the weights of an untrained encoder, the same as a training starts from.
    """
    if name.startswith("untrained"):
        return untrained_encoder(dataclasses.replace(BASE, seed=seed))
    if name.startswith("intensities"):
        return None
    return build_mind_ssc(ndim=2) if name == "mind-ssc" else load_encoder(name)


def encoder_scores(
    encoder: keras.Model | None,
    cohort: Cohort,
    contrasts: list[str],
    view: View,
    settings: InstanceSettings,
) -> dict[str, dict]:
    """Means over subjects of the scores of features, and over pairs of those of registration.

    Args:
        encoder: None for intensities.
        cohort: two or more subjects with labels.
        contrasts: the first is that of the moving images.
        view: of every subject.
        settings: of the registration.
    """
    encode = FrozenFeatures(encoder, REMAPPINGS)
    method = InstanceMethod(encoder, ndim=2, remappings=REMAPPINGS, settings=settings)
    first, *others = contrasts
    features = summary(feature_scores(encode, cohort, contrasts, **view))
    pairs = summary(
        registration_scores(method.displace, cohort, first, contrasts, **view, hd95=False)
    )
    kept = ("dice", "dice before", "folded", "log jacobian sd")
    return {
        "features": _means(features, first, others, FEATURE_SCORES),
        "registration": _means(pairs, first, contrasts, kept),
    }


def _means(spread: dict, first: str, contrasts: list[str], kept: tuple[str, ...]) -> dict:
    return {
        contrast: {score: spread[f"{first} to {contrast}"][score]["mean"] for score in kept}
        for contrast in contrasts
    }


def main(argv=None):
    """Train and score the variants; write ``study.md`` and ``study.json``."""
    names = [variant.name for variant in variants()]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="virtual", help="a dataset with T1w images and labels")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--num-slices", type=int, default=9, help="of each subject")
    parser.add_argument(
        "--segmentation-steps", type=int, default=0, help="of a U-Net on each encoder; 0: none"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="each is a row")
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names)
    )
    parser.add_argument(
        "--precision", choices=get_args(Precision), default="float32", help="as in `cifl train`"
    )
    args = parser.parse_args(argv)

    named = ("data", "num_slices", "precision", "segmentation_steps")
    settings = {name: getattr(args, name) for name in named}
    study = Study(out=args.out, **settings)
    claim_folder(args.out, settings)
    arguments = sys.argv[1:] if argv is None else argv
    command = shlex.join(["python", "scripts/study_features.py", *arguments])
    about = {"command": command, "seed": ", ".join(map(str, args.seeds)), **settings}
    chosen = {variant.name: variant for variant in variants()}
    for seed in args.seeds:
        for name in args.only:
            study.run(chosen[name], seed)
            text = study.write(about)
    print(text)


if __name__ == "__main__":
    main()
