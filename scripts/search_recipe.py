"""What each choice of the training recipe is worth, one change at a time.

For every variant of the recipe an encoder is trained, and on its features of T1w slices a U-Net,
which is scored in T1w, its inversion, and the other contrasts of the dataset:

    python scripts/search_recipe.py --data virtual --out recipe
    python scripts/search_recipe.py --data /data/nichart --out recipe --only base window-10

The validation subjects of `reproduce_table1.py` choose; its test subjects, a quarter, are never
read, given the same seed. `recipe.md` and `recipe.json` are written anew after every variant and
hold all that are done; the same command goes on after an interruption.
"""

import argparse
import dataclasses
import json
import shlex
import sys
import time
from functools import partial
from pathlib import Path
from typing import get_args

import cifl_tf  # noqa: F401  isort: skip  (first: it selects Keras 2 for TensorFlow)
import pandas as pd  # isort: skip
from tensorflow import keras  # isort: skip

from cifl_tf.datasets import (
    Cohort,
    load_cohort,
    split_study,
    study_contrasts,
    study_view,
)
from cifl_tf.evaluation.report import (
    JSON_FILE,
    read_report,
    write_report,
    write_study,
)
from cifl_tf.evaluation.scores import feature_scores, segmentation_scores
from cifl_tf.evaluation.summary import summary, to_markdown
from cifl_tf.features.config import Precision, TrainingConfig
from cifl_tf.features.pretrained import ENCODER_FILE
from cifl_tf.features.training import train
from cifl_tf.images.atomic import atomic_path
from cifl_tf.models.files import ENCODER
from cifl_tf.segmentation.config import SegmentationConfig
from cifl_tf.segmentation.training import train_segmenter
from cifl_tf.training.claims import claim_folder
from cifl_tf.training.progress import Goal, read_progress

BASE = "base"
NUM_SLICES = 9
COPIES = 8  # augmented, of each training slice; encoded once, or that is most of the work
REMAPPINGS = ("inverted",)


@dataclasses.dataclass(frozen=True)
class Variant:
    """One recipe.

    Attributes:
        group: what it varies.
        name: of its line, and of its folders.
        config: of the encoder.
        remappings: of the features that the U-Net gets.
    """

    group: str
    name: str
    config: TrainingConfig
    remappings: tuple[str, ...] = REMAPPINGS

    @property
    def encoder(self) -> str:
        """Name of the encoder's folder."""
        return BASE if self.remappings != REMAPPINGS else self.name


def variants(base: TrainingConfig) -> list[Variant]:
    """All recipes, the base first."""
    lengths = {"quarter": 0.25, "half": 0.5, "twice": 2, "four-times": 4}
    scales = ((2, 4, 8, 16), (4, 8, 16), (8, 16, 32), (16, 32, 64))
    choices: dict[str, dict[str, dict]] = {
        "base": {BASE: {}},
        "seed": {f"seed-plus-{number}": {"seed": base.seed + number} for number in (1, 2)},
        "window": {f"window-{size or 'image'}": {"window": size} for size in (10, 40, 0)},
        "crop": {f"crop-{size}": {"crop": size} for size in (0, 4)},
        "channels": {f"channels-{count}": {"num_features": count} for count in (8, 32)},
        "temperatures": {
            "tau-1-1-0.3": {"tau_alpha": 1.0, "tau_beta": 1.0},
            "tau-0.1-0.1-0.3": {"tau_alpha": 0.1, "tau_beta": 0.1},
            "tau-0.3-0.3-1": {"tau_gamma": 1.0},
            "tau-0.3-0.3-0.1": {"tau_gamma": 0.1},
            "tau-0.3-0.3-0.01": {"tau_gamma": 0.01},
        },
        "architecture": {"unet": {"architecture": "unet", "shape": (128, 128)}},
        "shapes": {f"shapes-{'-'.join(map(str, each))}": {"scales": each} for each in scales},
        "noise": {f"noise-0-{high}": {"noise_std": (0, high)} for high in (0, 10)},
        "blur": {f"blur-0-{high}": {"blur_std": (0, high)} for high in (0, 3)},
        "thickness": {f"thickness-{high}": {"thickness_std": high} for high in (0, 1.5)},
        "bias": {f"bias-0-{high}": {"bias_std": (0, high)} for high in (0, 0.6)},
        "orders": {"both-orders": {"both_orders": True}},
        "training length": {
            f"steps-{name}": {"steps": max(1, round(factor * base.steps))}
            for name, factor in lengths.items()
        },
    }
    remappings = ((), ("inverted", "gamma"), ("inverted", "gamma", "folded"))
    return [
        *(
            Variant(group, name, dataclasses.replace(base, **changes))
            for group, members in choices.items()
            for name, changes in members.items()
        ),
        *(
            Variant("remappings", f"remappings-{'-'.join(names) or 'none'}", base, names)
            for names in remappings
        ),
    ]


class Search:
    """The subjects that train and choose, and the folder of the results.

    Args:
        data: see ``load_cohort``.
        out: folder; ``encoders``, ``segmenters`` and ``scores`` in it hold one folder per variant.
        base: the recipe that is varied.
        segmentation_steps: of each U-Net, at most.
    """

    def __init__(self, data: str, out: Path, base: TrainingConfig, segmentation_steps: int):
        self.out, self.variants = out, variants(base)
        cohort = load_cohort(data)
        self.train, self.validation, test = split_study(cohort, base.seed)
        self.num_kept = len(test)
        self.contrasts = study_contrasts(cohort)
        self.view = study_view(cohort, NUM_SLICES)
        self.segmentation = {
            "steps": segmentation_steps,
            "cached_copies": COPIES,
            "seed": base.seed,
            **self.view,
        }

    def encoder(self, variant: Variant):
        """The trained encoder, and minutes of its training."""
        folder, steps = self.out / "encoders" / variant.encoder, variant.config.steps
        done = read_progress(folder, Goal(ENCODER_FILE, ENCODER, steps)).steps
        start = time.monotonic()
        encoder = train(folder, variant.config)
        file = folder / "minutes.json"
        if not file.exists():
            # After an interruption, those of the steps that were left, for all steps.
            share = (steps - done) / steps
            minutes = (time.monotonic() - start) / 60 / share if share > 0 else None
            with atomic_path(file) as temporary:
                temporary.write_text(json.dumps(minutes))
        return encoder, json.loads(file.read_text())

    def run(self, variant: Variant) -> None:
        """Train a variant and write its scores, unless they are there from an earlier run."""
        folder = self.out / "scores" / variant.name
        if (folder / JSON_FILE).exists():
            return
        print(f"{time.strftime('%H:%M')} {variant.name}", flush=True)
        keras.backend.clear_session()  # or some thirty variants fill the memory
        encoder, minutes = self.encoder(variant)
        model = str(self.out / "encoders" / variant.encoder)
        config = SegmentationConfig(model, remappings=variant.remappings, **self.segmentation)
        segmenter = train_segmenter(
            self.out / "segmenters" / variant.name, config, self.train, self.validation
        )
        rows = segmentation_scores(
            partial(segmenter.predict, verbose=0), self.validation, self.contrasts, **self.view
        )
        about = {
            "group": variant.group,
            "variant": variant.name,
            "encoder": dataclasses.asdict(variant.config),
            "segmenter": dataclasses.asdict(config),
            "minutes": minutes,
            "correlation": correlations(encoder, self.validation, self.contrasts, self.view),
        }
        write_report(folder, rows, about)

    def results(self) -> list[dict]:
        """What is known of every variant that is done, in the order of ``variants``."""
        found = []
        for variant in self.variants:
            folder = self.out / "scores" / variant.name
            if (folder / JSON_FILE).exists():
                report = read_report(folder)
                spread = summary(report["rows"])
                dice = {contrast: spread[contrast]["dice"]["mean"] for contrast in self.contrasts}
                scores = report["rows"].to_dict("split", index=False)
                found.append({**report["about"], "dice": dice, "scores": scores})
        return found

    def write(self, about: dict) -> str:
        """Write ``recipe.md`` and ``recipe.json``, and return the text of the former."""
        results, labels = self.results(), ", ".join(self.validation.label_names.values())
        others = self.contrasts[1:]
        rows = [
            {
                "group": found["group"],
                "variant": found["variant"],
                **{f"Dice, {c}": f"{found['dice'][c]:.3f}" for c in self.contrasts},
                **{f"corr., {c}": f"{found['correlation'][c]:.2f}" for c in others},
                "minutes": "" if found["minutes"] is None else f"{found['minutes']:.1f}",
            }
            for found in results
        ]
        lines = [
            f"{len(self.train)} subjects train ({', '.join(self.train.names)}), "
            f"{len(self.validation)} choose ({', '.join(self.validation.names)}); the "
            f"{self.num_kept} that test were not read. Dice: of {labels}, mean over the choosing "
            "subjects, by a U-Net on features of T1w. The same subjects choose its epoch, by their "
            "T1w: the numbers compare recipes, and say little of new subjects. Correlation: of "
            "each channel with itself in T1w, inside the labels, of the encoder alone; mean over "
            "channels and choosing subjects. Minutes: of the encoder's training. The base has "
            f"{about['encoder_steps']} steps, and its features are the mean over the image and a "
            f"copy of it ({', '.join(REMAPPINGS)}); a variant changes what it names. Those of "
            "group seed change nothing but the seed of the encoder: what chance alone moves.",
            "",
            to_markdown(pd.DataFrame(rows)).rstrip(),
        ]
        return write_study(self.out, "recipe", lines, about, {"variants": results})


def correlations(encoder, cohort: Cohort, contrasts: list[str], view: dict) -> dict[str, float]:
    """By contrast, the mean correlation of its features with those of the first contrast."""
    encode = partial(encoder.predict, batch_size=8, verbose=0)
    found = summary(feature_scores(encode, cohort, contrasts, **view))
    means = (numbers["correlation"]["mean"] for numbers in found.values())
    return dict(zip(contrasts[1:], means, strict=True))


def main(argv=None):
    """Train and score the variants; write ``recipe.md`` and ``recipe.json``."""
    names = [variant.name for variant in variants(TrainingConfig())]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="virtual", help="a dataset with T1w images and labels")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--encoder-steps", type=int, default=1000, help="of the base")
    parser.add_argument("--segmentation-steps", type=int, default=800, help="of each U-Net")
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names)
    )
    parser.add_argument(
        "--precision", choices=get_args(Precision), default="float32", help="as in `cifl train`"
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything random")
    args = parser.parse_args(argv)

    base = TrainingConfig(steps=args.encoder_steps, precision=args.precision, seed=args.seed)
    search = Search(args.data, args.out, base, args.segmentation_steps)
    settings = {
        name: getattr(args, name)
        for name in ("data", "encoder_steps", "segmentation_steps", "precision", "seed")
    }
    claim_folder(args.out, settings)
    arguments = sys.argv[1:] if argv is None else argv
    command = shlex.join(["python", "scripts/search_recipe.py", *arguments])
    for variant in search.variants:
        if variant.name in args.only:
            search.run(variant)
            text = search.write({"command": command, **settings})
    print(text)


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:  # what the user can mend
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
