"""What short trainings are worth: how features match, and how slices register on them.

For every variant of the recipe an encoder is trained and kept after several steps on the way; each
of these is scored beside untrained encoders, MIND-SSC, intensities and the encoders that ship:

    python scripts/study_features.py --data /data/nichart --out study
    python scripts/study_features.py --data /data/nichart --out study --only untrained small-60

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
from cifl_tf.evaluation.scores import feature_scores, registration_scores
from cifl_tf.evaluation.summary import summary, to_markdown
from cifl_tf.features.callbacks import SnapshotEncoder
from cifl_tf.features.config import Precision, TrainingConfig
from cifl_tf.features.frozen import FrozenFeatures
from cifl_tf.features.layers import CropTo
from cifl_tf.features.mind import build_mind_ssc
from cifl_tf.features.pretrained import load_encoder
from cifl_tf.features.training import build_model, train
from cifl_tf.images.atomic import atomic_path
from cifl_tf.models.files import load_network
from cifl_tf.registration.instance import InstanceSettings
from cifl_tf.registration.methods import InstanceMethod
from cifl_tf.training.folder import claim_folder

SNAPSHOTS = (30, 60, 120, 250)  # steps at which an encoder is scored, beside its last
REMAPPINGS = ("inverted",)
REFERENCES = ("untrained", "mind-ssc", "intensities", "shapes-2d", "shapes-2d-wide")
BASE = TrainingConfig(scales=(2, 4, 8, 16), window=40, num_features=32, steps=500)
DEFAULT_SETTINGS = InstanceSettings()
FEATURE_SCORES = ("correlation", "unrelated", "matching", "match distance", "effective rank")


@dataclasses.dataclass(frozen=True)
class Variant:
    """One kind of features.

    Attributes:
        group: what it varies.
        name: of its lines, and of its folders.
        config: of the encoder's training; None for features that are not trained here.
        settings: of the registration.
        training: name of the variant whose training it shares; None for its own.
        two_scales: see ``at_two_scales``.
    """

    group: str
    name: str
    config: TrainingConfig | None = None
    settings: InstanceSettings = DEFAULT_SETTINGS
    training: str | None = None
    two_scales: bool = False


def variants() -> list[Variant]:
    """All variants: what is trained elsewhere or not at all first, then the most promising."""
    choices: dict[str, dict[str, dict]] = {
        "length": {f"small-{steps}": {"steps": steps} for steps in (60, 30, 120, 500)},
        "learning rate": {f"rate-{rate:g}": {"learning_rate": rate} for rate in (3e-4, 3e-3)},
        "window": {f"window-{size or 'image'}": {"window": size} for size in (20, 80, 0)},
        "channels": {f"channels-{count}": {"num_features": count} for count in (16, 64)},
        "temperatures": {
            "tau-0.1": {"tau_alpha": 0.1, "tau_beta": 0.1, "tau_gamma": 0.1},
            "tau-1-1-0.1": {"tau_alpha": 1.0, "tau_beta": 1.0, "tau_gamma": 0.1},
        },
        "architecture": {"unet": {"architecture": "unet", "shape": (128, 128)}},
        "shapes": {"shapes-4-32": {"scales": (4, 8, 16, 32)}},
    }
    settings: dict[str, dict] = {
        **{f"smoothness-{value:g}": {"smoothness": value} for value in (0.05, 0.1, 0.4)},
        "spacing-4": {"spacing": 4},
        "steps-twice": {"steps": (80, 80, 80, 120)},
        "three-scales": {"scales": (4, 2, 1), "steps": (40, 40, 60)},
    }
    short = dataclasses.replace(BASE, steps=60)
    trained = [
        Variant(group, name, dataclasses.replace(short, **changes))
        for group, members in choices.items()
        for name, changes in members.items()
    ]
    registered = [
        Variant("registration", f"{name}-{changed}", config, InstanceSettings(**changes), name)
        for changed, changes in settings.items()
        for name, config in (("small-60", short), ("intensities", None), ("untrained", None))
    ]
    side_by_side = [
        Variant("two scales", f"{name}-two-scales", config, training=name, two_scales=True)
        for name, config in (("small-60", short), ("untrained", None))
    ]
    references = [Variant("reference", name) for name in REFERENCES]
    return [*references, *trained, *side_by_side, *registered]


class Study:
    """The subjects that choose, and the folder of the results.

    Args:
        data: see ``load_cohort``.
        out: folder; ``encoders`` in it holds the trainings, ``scores`` a file per encoder.
        precision: of the trainings.
        num_slices: per subject.
    """

    def __init__(self, data: str, out: Path, precision: Precision, num_slices: int):
        self.out, self.precision = out, precision
        cohort = load_cohort(data)
        _, self.validation, _ = split_study(cohort, seed=0)
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
        kept = SnapshotEncoder(folder / "snapshots", self.snapshots(config.steps))
        train(folder, config, callbacks=[kept])
        for step in kept.steps:
            yield step, partial(load_network, kept.path(step))
        yield config.steps, partial(load_encoder, str(folder))

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
            "channels. Log J SD: of the Jacobian determinant, mean over the contrasts.",
            "",
            to_markdown(rows).rstrip(),
        ]
        return write_study(self.out, "study", lines, about, {"encoders": results})

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
        return [
            *(str(scores[name]) for name in ("group", "variant", "seed", "steps")),
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
        keras.utils.set_random_seed(seed)
        return build_model(BASE, None).encoder
    if name.startswith("intensities"):
        return None
    return build_mind_ssc(ndim=2) if name == "mind-ssc" else load_encoder(name)


def at_two_scales(encoder: keras.Model) -> keras.Model:
    """Features of an image beside those of its average over blocks of 2 x 2 voxels.

    Args:
        encoder: for slices, from (batch, *spatial, 1) to (batch, *spatial, C).

    Returns:
        A model from (batch, *spatial, 1) to (batch, *spatial, 2 C).
    """
    image = keras.Input((None, None, 1))
    coarse = encoder(keras.layers.AveragePooling2D(2, padding="same")(image))
    fine = keras.layers.UpSampling2D(2, interpolation="bilinear")(coarse)
    features = keras.layers.Concatenate()([encoder(image), CropTo()([fine, image])])
    return keras.Model(image, features)


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
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="each is a row")
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names)
    )
    parser.add_argument(
        "--precision", choices=get_args(Precision), default="float32", help="as in `cifl train`"
    )
    args = parser.parse_args(argv)

    settings = {name: getattr(args, name) for name in ("data", "num_slices", "precision")}
    study = Study(args.data, args.out, args.precision, args.num_slices)
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
