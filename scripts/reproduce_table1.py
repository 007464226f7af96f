"""Reproduce Table 1 of the CIFL paper: segmentation and registration on unseen contrasts.

Networks see one contrast in training, T1w, and are tested on it, on its inversion, and on the other
contrasts of the dataset. Beside the paper's baseline on intensities stand training on images
synthesised from the label maps (SynthSeg style), MIND-SSC features in place of CIFL features, and,
where ANTsPy is installed, SyN with mutual information.

    python scripts/reproduce_table1.py --data virtual --out table1
    python scripts/reproduce_table1.py --data /data/neurite-oasis --out table1

Subjects are split in the order of the dataset: a quarter tests, an eighth before it chooses the
best epoch, the rest trains; of 390 or more, 232, 58 and 100 at random, as in the paper. The same
command goes on after an interruption, and `--only` splits a long run: the table shows the methods
that are there so far. `--quick` shows the effect in about ten minutes on two cores, with the
encoder that ships with the package.
"""

import argparse
import dataclasses
import importlib.util
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import get_args

import cifl_tf as cifl  # first: it selects Keras 2 for TensorFlow

import numpy as np  # isort: skip

from cifl_tf.datasets import open_cohort, split_study, stack_cohort, study_contrasts, study_view
from cifl_tf.demo import example_pairs
from cifl_tf.evaluation import compare, registration_scores, segmentation_scores, summary
from cifl_tf.evaluation_report import (
    JSON_FILE,
    read_report,
    write_report,
    write_study,
)
from cifl_tf.figures import (
    RegisteredSlice,
    feature_figure,
    registration_figure,
    save_figure,
    segmentation_figure,
    synthesis_figure,
)
from cifl_tf.files import written_whole
from cifl_tf.metrics import format_mean_sd
from cifl_tf.mind import build_mind_ssc
from cifl_tf.registration_methods import NetworkMethod
from cifl_tf.registration_training import RegistrationConfig, train_registration
from cifl_tf.segmentation_training import SegmentationConfig, train_segmenter
from cifl_tf.syn import register_syn
from cifl_tf.training import Precision, TrainingConfig, train
from cifl_tf.training_folder import claim_folder

MAIN = 0.1  # the temperature of what is compared beyond the paper's table
MAIN_NAME = f"CIFL τγ={MAIN}"
SHIPPED = "shapes-2d"  # the encoder in the package, of that temperature
# Sizes in voxels: features of coarse shapes, trained briefly, register better.
COARSE = (16, 32, 64)
COARSE_NAME = "CIFL coarse shapes"
REMAPPED = 0.5  # share of the training images that get a random contrast
REMAPPED_NAME = "random contrasts"
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
SEGMENTATION, REGISTRATION = "segmentation", "registration"
ZERO = "unregistered"


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much is trained and compared.

    Attributes:
        temperatures: τγ of the encoders.
        encoder_steps: optimisation steps of each encoder; 0 takes the one that ships with the
            package, of the temperature ``MAIN``.
        coarse_steps: of one more encoder for registration, of ``COARSE`` shapes; 0 leaves it out.
        segmentation_steps: of each segmenter, at most.
        registration_steps: of each registration network.
        remapped_steps: of networks for registration that see training images of random contrasts
            too; 0 leaves them out, here and in segmentation.
        num_slices: coronal slices per subject, around the thalamus where it is labelled.
        instance: how each pair's own warp is optimised; None for the defaults.
        others: also what the paper does not have: MIND-SSC and SyN.
    """

    temperatures: tuple[float, ...] = (1.0, 0.1, 0.01)
    encoder_steps: int = 3000
    coarse_steps: int = 400
    segmentation_steps: int = 3000
    registration_steps: int = 1200
    remapped_steps: int = 3000
    num_slices: int = 9
    instance: cifl.InstanceSettings | None = None
    others: bool = True


FULL = Plan()
QUICK = Plan(
    temperatures=(MAIN,),
    encoder_steps=0,
    coarse_steps=0,
    segmentation_steps=300,
    registration_steps=200,
    remapped_steps=0,
    num_slices=3,
    instance=cifl.InstanceSettings(scales=(4, 2, 1), steps=(20, 20, 20)),
    others=False,
)


class Study:
    """The subjects, what is trained on them, and the folder of the results.

    Args:
        data: see ``open_cohort``.
        out: folder; ``training`` in it holds the networks, ``scores`` those of every subject.
        plan: how much to do.
        encoders: folder with trained encoders ``tau_1.0`` and so on, or None; those that are not
            there are trained when the first method needs them.
        seed: of everything random.
        precision: of the training of encoders.
    """

    def __init__(
        self,
        data: str,
        out: Path,
        plan: Plan,
        encoders: Path | None,
        seed: int,
        precision: Precision = "float32",
    ):
        self.out, self.plan, self.seed = out, plan, seed
        cohort = open_cohort(data)
        self.train, self.validation, self.test = split_study(cohort, seed)
        self.contrasts = study_contrasts(cohort)
        self.view = study_view(cohort, plan.num_slices)
        configure = partial(TrainingConfig, seed=seed, precision=precision)
        self.encoders, self.untrained = {}, {}
        for tau in plan.temperatures:
            name, folder = f"CIFL τγ={tau}", f"tau_{tau}"
            if encoders is not None and (encoders / folder).is_dir():
                self.encoders[name] = str(encoders / folder)
            elif plan.encoder_steps:
                self.encoders[name] = str(out / "training" / folder)
                config = configure(steps=plan.encoder_steps, tau_gamma=tau)
                self.untrained[self.encoders[name]] = config
            elif tau == MAIN:
                self.encoders[name] = SHIPPED
        self.coarse = str(out / "training" / "coarse")
        if plan.coarse_steps:
            config = configure(steps=plan.coarse_steps, scales=COARSE, tau_gamma=MAIN)
            self.untrained[self.coarse] = config
        self.mind = out / "training" / "mind_ssc.keras"
        with written_whole(self.mind) as temporary:
            build_mind_ssc().save(temporary)

    @cached_property
    def main(self):
        """The encoder of the comparisons that the paper does not have."""
        return cifl.load_encoder(self.trained_encoder(self.encoders[MAIN_NAME]))

    def trained_encoder(self, model: str) -> str:
        """The same encoder, trained unless it is there."""
        if model in self.untrained:
            say(f"encoder, {Path(model).name}")
            train(model, self.untrained.pop(model))
        return model

    def segmenters(self) -> dict[str, Callable]:
        """For each method, what trains or loads its segmenter."""
        steps = self.plan.segmentation_steps
        configure = partial(SegmentationConfig, steps=steps, seed=self.seed, **self.view)
        configs = {"intensity": configure("intensity")}
        configs |= {name: configure(model) for name, model in self.encoders.items()}
        configs["synthetic images (SynthSeg style)"] = configure("intensity", synthetic=True)
        if self.plan.others:
            configs["MIND-SSC"] = configure(str(self.mind), ensemble=())
        if self.plan.remapped_steps:
            remapped = partial(configure, remapped=REMAPPED)
            configs[f"intensity, {REMAPPED_NAME}"] = remapped("intensity")
            configs[f"{MAIN_NAME}, {REMAPPED_NAME}"] = remapped(self.encoders[MAIN_NAME])

        def trained(name, config):
            self.trained_encoder(config.model)
            folder = self.out / "training" / SEGMENTATION / slug(name)
            return train_segmenter(folder, config, self.train, self.validation)

        return {name: partial(trained, name, config) for name, config in configs.items()}

    def registrations(self) -> dict[str, Callable]:
        """For each method, what gives its function of moving and fixed images."""
        steps = self.plan.registration_steps
        configure = partial(RegistrationConfig, steps=steps, seed=self.seed, **self.view)
        configs = {"intensity": configure("intensity")}
        configs |= {name: configure(model) for name, model in self.encoders.items()}
        best = MAIN_NAME
        if self.plan.coarse_steps:
            best = f"{COARSE_NAME}, with labels"
            configs[COARSE_NAME] = configure(self.coarse)
            # The paper trains without labels; with those of the training subjects:
            supervised = partial(configure, label_weight=1.0, smoothness=0.01)
            configs["intensity, with labels"] = supervised("intensity")
            configs[best] = supervised(self.coarse)
            if self.plan.remapped_steps:
                steps = self.plan.remapped_steps
                remapped = partial(supervised, remapped=REMAPPED, steps=steps)
                configs[f"intensity, with labels, {REMAPPED_NAME}"] = remapped("intensity")
                best = f"{best}, {REMAPPED_NAME}"
                configs[best] = remapped(self.coarse)
        if self.plan.others:
            configs["MIND-SSC"] = configure(str(self.mind), ensemble=())

        def trained(name, config, refine=None):
            self.trained_encoder(config.model)
            folder = self.out / "training" / REGISTRATION / slug(name)
            network = train_registration(folder, config, self.train, self.validation)
            return NetworkMethod(network, refine=refine).displace

        optimise = partial(cifl.optimise_instance, settings=self.plan.instance)
        methods: dict[str, Callable] = {ZERO: lambda: stay}
        methods |= {name: partial(trained, name, config) for name, config in configs.items()}
        if self.plan.others and importlib.util.find_spec("ants"):
            methods["SyN, mutual information"] = lambda: partial(register_syn, seed=self.seed)
        elif self.plan.others:
            say("SyN is left out: ANTsPy is not installed (pip install antspyx)")
        name, model = MAIN_NAME, self.encoders[MAIN_NAME]
        if self.plan.coarse_steps:
            name, model = COARSE_NAME, self.coarse
            settings = self.plan.instance or cifl.InstanceSettings()
            methods[f"{best}, refined"] = partial(trained, best, configs[best], settings)
        methods[f"optimised, {name}"] = lambda: partial(
            optimise, encoder=cifl.load_encoder(self.trained_encoder(model))
        )
        if self.plan.others:
            methods["optimised, intensity"] = lambda: partial(optimise, encoder=None)
        return methods

    def scores(self, task: str, name: str) -> list[dict] | None:
        """Rows of one method on the test subjects, of this run or an earlier one; None before."""
        folder = self.score_folder(task, name)
        return read_report(folder)["rows"] if (folder / JSON_FILE).exists() else None

    def results(self, methods: Mapping[str, Mapping]) -> dict[str, dict[str, list[dict]]]:
        """By task and method, the rows of those tested so far."""
        found = {
            task: {name: self.scores(task, name) for name in methods[task]} for task in methods
        }
        return {
            task: {name: rows for name, rows in scores.items() if rows is not None}
            for task, scores in found.items()
        }

    def score_folder(self, task: str, name: str) -> Path:
        """Where the scores of a method are."""
        return self.out / "scores" / task / slug(name)

    def test_method(self, task: str, name: str, prepare: Callable) -> None:
        """Train a method, and write its scores on the test subjects."""
        say(f"{task}, {name}")
        start, function = time.monotonic(), prepare()
        if task == SEGMENTATION:
            predict = partial(function.predict, verbose=0)
            rows = segmentation_scores(predict, self.test, self.contrasts, **self.view)
        else:
            rows = registration_scores(function, self.test, "T1w", self.contrasts, **self.view)
        about = {"task": task, "method": name, "seed": self.seed, "test": self.test.names}
        minutes = round((time.monotonic() - start) / 60, 1)
        folder = self.score_folder(task, name)
        print(write_report(folder, rows, {**about, "minutes": minutes, "view": self.view}))


def stay(moving, fixed):
    """The displacement of pairs that are not registered."""
    return np.zeros((*moving.shape[:-1], moving.ndim - 2), np.float32)


def slug(name: str) -> str:
    """A method's name as a folder's."""
    return "".join(c if c.isalnum() or c == "." else "_" for c in name.replace("τγ", "tau"))


def say(text: str) -> None:
    """A line on where the work stands."""
    print(f"{time.strftime('%H:%M')} {text}", flush=True)


def table(task: str, summaries: Mapping[str, dict]) -> str:
    """A Markdown table: a line per method, a column per contrast, and the paper's numbers."""
    contrasts = list(next(iter(summaries.values())))
    paper = {c: PAPER[f"{task}, {c}"] for c in contrasts if f"{task}, {c}" in PAPER}
    headings = [task, *contrasts]
    headings += [] if task == SEGMENTATION else ["folded (%)"]
    headings += [f"paper, {contrast}" for contrast in paper]
    lines = [headings, ["---"] * len(headings)]
    for name, found in summaries.items():
        cells = [name]
        for contrast in contrasts:
            cells.append(format_mean_sd(*(found[contrast]["dice"][k] for k in ("mean", "sd")), 3))
        if task == REGISTRATION:
            cells.append(f"{100 * max(found[c]['folded']['mean'] for c in contrasts):.2f}")
        lines.append(cells + [numbers.get(name, "") for numbers in paper.values()])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tests(results: Mapping[str, list[dict]], first: str, second: str) -> list[str]:
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
        images, labels, _ = stack_cohort(cohort, contrast, *study.view.values())
        return images[len(images) // 2, ..., 0], labels[len(images) // 2, ..., 0]

    images = {contrast: middle(first, contrast)[0] for contrast in study.contrasts}
    features = {c: cifl.features_of(image, study.main) for c, image in images.items()}
    save_figure(feature_figure(images, features), study.out / "figure2_features.png")
    predictions, registered = {}, {}
    moving, fixed = middle(second, "T1w")[0], images["T1w:inverted"]
    for name in ("intensity", MAIN_NAME):
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
    """Write ``table1.md`` and ``table1.json`` of the methods that were tested so far."""
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
        *(table(task, found) + "\n" for task, found in summaries.items()),
        "Differences in Dice, two-sided paired Wilcoxon test over (fixed) subjects:",
        "",
        *tests(results[SEGMENTATION], MAIN_NAME, "intensity"),
        *tests(results[SEGMENTATION], MAIN_NAME, "synthetic images (SynthSeg style)"),
        *tests(results[REGISTRATION], MAIN_NAME, "intensity"),
    ]
    return write_study(study.out, "table1", lines, about, {"results": summaries})


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
    parser.add_argument("--quick", action="store_true", help="the effect, in about ten minutes")
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

    plan = QUICK if args.quick else FULL
    settings = {
        "plan": dataclasses.asdict(plan),
        "seed": args.seed,
        "data": args.data,
        "precision": args.precision,
        "encoders": args.encoders and str(args.encoders),
    }
    claim_folder(args.out, settings)
    study = Study(args.data, args.out, plan, args.encoders, args.seed, args.precision)
    methods = {SEGMENTATION: study.segmenters(), REGISTRATION: study.registrations()}
    wanted = wanted_methods(methods, args.only)
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
    elif not args.no_figures:
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
    except ValueError as error:  # what the user can mend
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
