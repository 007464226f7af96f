"""Reproduce Table 1 of the CIFL paper: segmentation and registration on unseen contrasts.

Networks see one contrast in training, T1w, and are tested on it, on its inversion, and on the other
contrasts of the dataset. Beside the paper's baseline on intensities stand training on images
synthesized from the label maps (SynthSeg style), MIND-SSC features in place of CIFL features, and,
where ANTsPy is installed, SyN with mutual information.

    python scripts/reproduce_table1.py --data virtual --out table1
    python scripts/reproduce_table1.py --data /data/neurite-oasis --out table1

Subjects are split in the order of the dataset: a quarter tests, an eighth before it chooses the
best epoch, the rest trains; of 390 or more, 232, 58 and 100 at random, as in the paper. The same
command goes on after an interruption, and `--only` splits a long run: the table shows the methods
that are there so far. `--quick` shows the effect in less than ten minutes on two cores, with the
encoder that ships with the package. `--volumes` is the table of whole volumes.
"""

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args

import cifl_tf as cifl  # first: it selects Keras 2 for TensorFlow

import pandas as pd  # isort: skip

from cifl_tf.cli.demo_images import example_pairs
from cifl_tf.evaluation.report import write_study
from cifl_tf.evaluation.summary import compare, mean_sd_text, summary, to_markdown
from cifl_tf.features.config import Precision
from cifl_tf.figures.features import feature_figure, synthesis_figure
from cifl_tf.figures.panels import save_figure
from cifl_tf.figures.registration import RegisteredSlice, registration_figure
from cifl_tf.figures.segmentation import segmentation_figure
from cifl_tf.training.claims import claim_folder
from table1_study import FULL, QUICK, REGISTRATION, SEGMENTATION, VOLUMES, Study, say

# Chua & Dalca, Table 1: mean and SD of the Dice, by what the network sees.
PAPER = {
    "segmentation, T1w:inverted": {
        "intensity": "0.18 ± 0.01",
        "CIFL τγ=1.0": "0.84 ± 0.04",
        "CIFL τγ=0.1": "0.83 ± 0.04",
        "CIFL τγ=0.01": "0.79 ± 0.04",
    },
    "registration, T1w to T1w:inverted": {
        "intensity": "0.45 ± 0.02",
        "CIFL τγ=1.0": "0.69 ± 0.05",
        "CIFL τγ=0.1": "0.69 ± 0.05",
        "CIFL τγ=0.01": "0.66 ± 0.06",
    },
    "registration, T1w to T2w": {
        "intensity": "0.36 ± 0.03",
        "CIFL τγ=1.0": "0.59 ± 0.13",
        "CIFL τγ=0.1": "0.59 ± 0.12",
        "CIFL τγ=0.01": "0.61 ± 0.13",
    },
}


def table(task: str, summaries: Mapping[str, dict]) -> str:
    """A Markdown table: a line per method, a column per contrast, and the paper's numbers."""
    contrasts = list(next(iter(summaries.values())))
    paper = {c: PAPER[f"{task}, {c}"] for c in contrasts if f"{task}, {c}" in PAPER}
    lines = []
    for name, found in summaries.items():
        line = {task: name, **{c: mean_sd_text(found[c]["dice"]) for c in contrasts}}
        if task == REGISTRATION:
            folded = 100 * max(found[c]["folded"]["mean"] for c in contrasts)
            line["folded (%)"] = f"{folded:.2f}"
        line |= {f"paper, {c}": numbers.get(name, "") for c, numbers in paper.items()}
        lines.append(line)
    return to_markdown(pd.DataFrame(lines))


def tests(results: Mapping[str, pd.DataFrame], first: str, second: str) -> list[str]:
    """How two methods differ, if both were tested: mean difference and paired Wilcoxon test."""
    if first not in results or second not in results:
        return []
    return [
        f"- {first} against {second}, {contrast}: {found.mean_difference:+.3f}, p = "
        f"{found.p_value:.2g} ({found.num_pairs} subjects)"
        for contrast, found in compare(results[first], results[second]).items()
    ]


def write_figures(study: Study, methods: Mapping[str, Mapping[str, Callable]]) -> None:
    """Figures 1 and 2 of the paper, and what networks make of the first test subject."""
    pairs = (values[..., 0] for values in example_pairs((96, 96), count=6, seed=study.seed))
    save_figure(synthesis_figure(*pairs), study.out / "figure1_synthesis.png")
    first, second = (study.test.select([name]) for name in study.test.names[:2])

    def middle(cohort, contrast):
        images, labels, _ = study.view.stack(cohort, contrast)
        return images[len(images) // 2, ..., 0], labels[len(images) // 2, ..., 0]

    images = {contrast: middle(first, contrast)[0] for contrast in study.contrasts}
    features = {c: cifl.features_of(image, study.main) for c, image in images.items()}
    save_figure(feature_figure(images, features), study.out / "figure2_features.png")
    predictions, registered = {}, {}
    moving, fixed = middle(second, "T1w")[0], images["T1w:inverted"]
    for name in ("intensity", study.main_name):
        segmenter = methods[SEGMENTATION][name]()
        predictions[name] = {
            contrast: segmenter.predict(image[None, ..., None], verbose=0)[0].argmax(-1)
            for contrast, image in images.items()
        }
        pair = moving[None, ..., None], fixed[None, ..., None]
        warp = methods[REGISTRATION][name]()(*pair)[0]
        registered[name] = RegisteredSlice(fixed, moving, cifl.warp(moving, warp), warp)
    truth = middle(first, "T1w")[1]
    figure = segmentation_figure(images, truth, predictions)
    save_figure(figure, study.out / "segmentations.png")
    save_figure(registration_figure(registered), study.out / "registrations.png")


def write_tables(study: Study, results: Mapping, about: Mapping) -> str:
    """Write ``table1.md`` and ``table1.json`` of the methods that were tested so far.

    The latter holds "results", the summaries by task and method, and "scores" of every subject.
    """
    summaries = {
        task: {name: summary(rows) for name, rows in found.items()}
        for task, found in results.items()
        if found
    }
    lines = [
        f"{len(study.train)} subjects train, {len(study.validation)} choose, "
        f"{len(study.test)} test ({', '.join(study.test.names)}). Mean Dice of the labels "
        f"{', '.join(study.test.label_names.values())}, mean ± SD over test subjects or their "
        "ordered pairs. Networks are trained on T1w.",
        "",
        *(table(task, found) for task, found in summaries.items()),
        "Differences in Dice, two-sided paired Wilcoxon test over (fixed) subjects:",
        "",
        *tests(results[SEGMENTATION], study.main_name, "intensity"),
        *tests(results[SEGMENTATION], study.main_name, "synthetic images (SynthSeg style)"),
        *tests(results[REGISTRATION], study.main_name, "intensity"),
    ]
    scores = {
        task: {name: rows.to_dict("split", index=False) for name, rows in found.items()}
        for task, found in results.items()
        if found
    }
    return write_study(study.out, "table1", lines, about, {"results": summaries, "scores": scores})


def main(argv=None):
    """Train, test, and write ``table1.md``, ``table1.json`` and the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="virtual", help="a dataset with T1w images and labels")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument(
        "--encoders",
        type=Path,
        help="folder with trained encoders tau_1.0, tau_0.1, tau_0.01; missing ones are trained",
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="the effect, in less than ten minutes")
    size.add_argument("--volumes", action="store_true", help="whole volumes in place of slices")
    parser.add_argument(
        "--precision", choices=get_args(Precision), default="float32", help="as in `cifl train`"
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything random")
    parser.add_argument(
        "--only",
        metavar="METHOD",
        action="append",
        help="this method only, as in 'registration, CIFL τγ=0.1', or all of a task, as in "
        "'registration'; may be repeated, and the next call goes on with the others",
    )
    parser.add_argument("--no-figures", action="store_true", help="tables only")
    args = parser.parse_args(argv)

    plan = QUICK if args.quick else VOLUMES if args.volumes else FULL
    settings = {
        "plan": dataclasses.asdict(plan),
        "seed": args.seed,
        "data": args.data,
        "precision": args.precision,
        "encoders": args.encoders and str(args.encoders),
    }
    study = Study(args.data, args.out, plan, args.encoders, args.seed, args.precision)
    methods = {SEGMENTATION: study.segmenters(), REGISTRATION: study.registrations()}
    wanted = wanted_methods(methods, args.only)
    claim_folder(args.out, settings)
    about = {"command": command_line(parser, args), **settings}
    for task, name in wanted:
        if study.scores(task, name) is None:
            study.test_method(task, name, methods[task][name])
            write_tables(study, study.results(methods), about)
    results = study.results(methods)
    print(write_tables(study, results, about))
    missing = [
        f"{task}, {name}"
        for task, names in methods.items()
        for name in names
        if name not in results[task]
    ]
    if missing:
        say(f"not tested yet: {'; '.join(missing)}")
    elif plan.ndim == 2 and not args.no_figures:
        write_figures(study, methods)


def wanted_methods(methods: Mapping[str, Mapping], only: list[str] | None) -> list[tuple[str, str]]:
    """Task and name of the methods that were asked for.

    Raises:
        ValueError: there is no such method.
    """
    by_title = {f"{task}, {name}": (task, name) for task in methods for name in methods[task]}
    if only is None:
        return list(by_title.values())
    found = []
    for title in only:
        matching = [pair for name, pair in by_title.items() if title in (name, pair[0])]
        if not matching:
            raise ValueError(f"--only {title!r} is none of the methods: {'; '.join(by_title)}")
        found += matching
    return found


def command_line(parser: argparse.ArgumentParser, args: argparse.Namespace) -> str:
    """The command for the whole table, whatever part of it is done now."""
    words = ["python", "scripts/reproduce_table1.py"]
    for name, value in vars(args).items():
        if value != parser.get_default(name) and name != "only":
            words.append("--" + name.replace("_", "-"))
            words += [] if value is True else [str(value)]
    return shlex.join(words)


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:  # what the user can mend
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
