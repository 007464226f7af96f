"""The methods of Table 1: what each trains on, its scores, and how much there is of everything."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import cifl_tf as cifl  # first: it selects Keras 2 for TensorFlow

import numpy as np  # isort: skip
import pandas as pd  # isort: skip

from cifl_tf.datasets import View, load_cohort, split_study, study_contrasts, study_view
from cifl_tf.evaluation.report import JSON_FILE, read_report, write_report
from cifl_tf.evaluation.scores import registration_scores, segmentation_scores
from cifl_tf.features.config import Precision, TrainingConfig
from cifl_tf.features.mind import build_mind_ssc
from cifl_tf.features.training import train, untrained_encoder
from cifl_tf.images.atomic import atomic_path
from cifl_tf.registration.config import RegistrationConfig
from cifl_tf.registration.methods import DeformableMethod, NetworkMethod
from cifl_tf.registration.syn import MISSING, has_ants, register_syn
from cifl_tf.registration.training import train_registration
from cifl_tf.segmentation.config import SegmentationConfig
from cifl_tf.segmentation.training import train_segmenter

SHIPPED = "shapes-2d"  # the encoder in the package, of the default temperature
SHIPPED_TAU = TrainingConfig().tau_gamma
# Sizes in voxels: features of coarse shapes, trained briefly, register better.
COARSE = (16, 32, 64)
COARSE_NAME = "CIFL coarse shapes"
REMAPPED_NAME = "random contrasts"
UNTRAINED_NAME = "untrained encoder"
SYNTHETIC_NAME = "synthetic images (SynthMorph style)"
DEFORMABLE_ENCODER = "shapes-2d-wide"  # of the deformable stage of `cifl register`
SEGMENTATION, REGISTRATION = "segmentation", "registration"
# Of the encoders that ship: a short training on shapes of all sizes.
RECIPE = {"num_features": 32, "scales": (2.0, 4.0, 8.0, 16.0), "unsigned": True}
# Share of the training images that get a random contrast. With half of them, segmentation of the
# NiChart subjects that choose gained 0.017 in Dice on FLAIR, but lost 0.014 on T1w; registration
# lost 0.004 on T1w and 0.003 on inverted T1w against a quarter, and gained 0.001 on FLAIR.
REMAPPED = 0.25
ZERO = "unregistered"


@dataclass(frozen=True)
class Plan:
    """How much is trained and compared.

    Attributes:
        temperatures: τγ of the encoders.
        main: the one of them that takes part in what the paper does not compare.
        encoder_steps: optimization steps of each encoder; 0 takes the one that ships with the
            package, for the temperature ``SHIPPED_TAU``.
        coarse_steps: of one more encoder for registration, of ``COARSE`` shapes; 0 leaves it out.
        segmentation_steps: of each segmenter, at most.
        registration_steps: of each registration network.
        remapped_steps: of networks for registration that see training images of random contrasts
            too; 0 leaves them out, here and in segmentation.
        num_slices: coronal slices per subject, around the thalamus where it is labelled.
        num_test: test subjects, at most; registration takes all their ordered pairs. None for all.
        instance: how each pair's own warp is optimized; None for the defaults.
        others: also what the paper does not have: MIND-SSC and SyN.
        untrained: also the random weights from which the encoders start.
        synthetic_steps: of a registration network on images that are synthesized from the label
            maps; 0 leaves it out.
        ndim: 2 for slices; 3 for volumes, whose pairs `cifl register` registers in place of the
            optimization of their warp.
        recipe: what all encoders share, fields of ``TrainingConfig``.
        segmentation: what all segmenters share, fields of ``SegmentationConfig``.
    """

    temperatures: tuple[float, ...] = (1.0, SHIPPED_TAU, 0.1, 0.01)
    main: float = SHIPPED_TAU
    encoder_steps: int = 100
    coarse_steps: int = 100
    segmentation_steps: int = 1500
    registration_steps: int = 1000
    remapped_steps: int = 2000
    num_slices: int = 9
    num_test: int | None = None
    instance: cifl.InstanceSettings | None = None
    others: bool = True
    untrained: bool = True
    synthetic_steps: int = 2000
    ndim: int = 2
    recipe: Mapping[str, Any] = field(default_factory=partial(dict, RECIPE, window=40))
    segmentation: Mapping[str, Any] = field(default_factory=dict)


FULL = Plan()
VOLUMES = Plan(
    temperatures=(SHIPPED_TAU,),
    main=SHIPPED_TAU,
    encoder_steps=100,
    coarse_steps=0,
    segmentation_steps=1500,
    registration_steps=400,
    remapped_steps=1500,
    synthetic_steps=400,
    ndim=3,
    recipe={**RECIPE, "ndim": 3, "shape": (48, 48, 48), "batch_size": 2},
    segmentation={"patch": 64, "batch_size": 1, "cached_copies": 6, "flip_axis": 0},
)
QUICK = Plan(
    temperatures=(SHIPPED_TAU,),
    main=SHIPPED_TAU,
    encoder_steps=0,
    coarse_steps=0,
    segmentation_steps=180,
    registration_steps=120,
    remapped_steps=0,
    num_slices=3,
    num_test=3,
    instance=cifl.InstanceSettings(scales=(4, 2, 1), steps=(20, 20, 20)),
    others=False,
    untrained=False,
    synthetic_steps=0,
)


class Study:
    """The subjects, what is trained on them, and the folder of the results.

    Args:
        data: see ``load_cohort``.
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
        cohort = load_cohort(data)
        self.train, self.validation, test = split_study(cohort, seed)
        self.test = test.select(test.names[: plan.num_test])
        self.contrasts = study_contrasts(cohort)
        self.view = View(3) if plan.ndim == 3 else study_view(cohort, plan.num_slices)
        configure = partial(TrainingConfig, seed=seed, precision=precision, **plan.recipe)
        self.random_weights = str(out / "training" / "untrained.keras")
        self.main_name = encoder_name(plan.main)
        self.encoders, self.untrained = {}, {}
        for tau in plan.temperatures:
            name, folder = encoder_name(tau), f"tau_{tau}"
            if encoders is not None and (encoders / folder).is_dir():
                self.encoders[name] = str(encoders / folder)
            elif plan.encoder_steps:
                self.encoders[name] = str(out / "training" / folder)
                config = configure(steps=plan.encoder_steps, tau_gamma=tau)
                self.untrained[self.encoders[name]] = config
            elif tau == SHIPPED_TAU:
                self.encoders[name] = SHIPPED
        self.coarse = str(out / "training" / "coarse")
        if plan.coarse_steps:
            config = configure(steps=plan.coarse_steps, scales=COARSE, tau_gamma=plan.main)
            self.untrained[self.coarse] = config
        self.mind = str(out / "training" / "mind_ssc.keras")

    @cached_property
    def main(self):
        """The encoder of the comparisons that the paper does not have."""
        return cifl.load_encoder(self.trained_encoder(self.encoders[self.main_name]))

    def trained_encoder(self, model: str) -> str:
        """The same encoder, trained or made unless it is there."""
        if model in (self.mind, self.random_weights) and not Path(model).exists():
            with atomic_path(model) as temporary:
                self._made(model).save(temporary)
        if model in self.untrained:
            say(f"encoder, {Path(model).name}")
            train(model, self.untrained.pop(model))
        return model

    def _made(self, model):
        if model == self.mind:
            return build_mind_ssc(self.plan.ndim)
        return untrained_encoder(TrainingConfig(seed=self.seed, **self.plan.recipe))

    def segmenters(self) -> dict[str, Callable]:
        """For each method, what trains or loads its segmenter."""
        steps = self.plan.segmentation_steps
        configure = partial(
            SegmentationConfig, steps=steps, seed=self.seed, **self.view, **self.plan.segmentation
        )
        configs = {"intensity": configure("intensity")}
        configs |= {name: configure(model) for name, model in self.encoders.items()}
        configs["synthetic images (SynthSeg style)"] = configure("intensity", synthetic=True)
        if self.plan.others:
            configs["MIND-SSC"] = configure(self.mind, remappings=())
        if self.plan.untrained:
            configs[UNTRAINED_NAME] = configure(self.random_weights)
        if self.plan.remapped_steps:
            random_contrast = partial(configure, random_contrast=REMAPPED)
            configs[f"intensity, {REMAPPED_NAME}"] = random_contrast("intensity")
            main = random_contrast(self.encoders[self.main_name])
            configs[f"{self.main_name}, {REMAPPED_NAME}"] = main
            if self.plan.untrained:
                name = f"{UNTRAINED_NAME}, {REMAPPED_NAME}"
                configs[name] = random_contrast(self.random_weights)

        def trained(name, config):
            self.trained_encoder(config.encoder)
            folder = self.out / "training" / SEGMENTATION / slug(name)
            return train_segmenter(folder, config, self.train, self.validation)

        return {name: partial(trained, name, config) for name, config in configs.items()}

    def registrations(self) -> dict[str, Callable]:
        """For each method, what gives its function of moving and fixed images."""
        steps = self.plan.registration_steps
        configure = partial(RegistrationConfig, steps=steps, seed=self.seed, **self.view)
        configs = {"intensity": configure("intensity")}
        configs |= {name: configure(model) for name, model in self.encoders.items()}
        best = self.main_name
        if self.plan.coarse_steps:
            configs[COARSE_NAME] = configure(self.coarse)
            # The paper trains without labels; with those of the training subjects:
            supervised, added = partial(configure, label_weight=1.0, smoothness=0.01), "with labels"
            if self.plan.remapped_steps:
                steps, added = self.plan.remapped_steps, f"{added}, {REMAPPED_NAME}"
                supervised = partial(supervised, random_contrast=REMAPPED, steps=steps)
            best = f"{COARSE_NAME}, {added}"
            configs[f"intensity, {added}"] = supervised("intensity")
            configs[best] = supervised(self.coarse)
        if self.plan.others:
            configs["MIND-SSC"] = configure(self.mind, remappings=())
        if self.plan.untrained:
            configs[UNTRAINED_NAME] = configure(self.random_weights)
        if self.plan.synthetic_steps:
            synthetic = partial(configure, steps=self.plan.synthetic_steps, synthetic="subjects")
            configs[SYNTHETIC_NAME] = synthetic("intensity")

        def trained(name, config, refine=None):
            self.trained_encoder(config.encoder)
            folder = self.out / "training" / REGISTRATION / slug(name)
            network = train_registration(folder, config, self.train, self.validation)
            return NetworkMethod(network, refine=refine).displace

        optimize = partial(cifl.optimize_instance, settings=self.plan.instance)
        methods: dict[str, Callable] = {ZERO: lambda: stay}
        methods |= {name: partial(trained, name, config) for name, config in configs.items()}
        if self.plan.others and has_ants():
            methods["SyN, mutual information"] = lambda: partial(register_syn, seed=self.seed)
        elif self.plan.others:
            say(f"left out: {MISSING}")
        if self.plan.ndim == 3:
            name = f"`cifl register`, {DEFORMABLE_ENCODER}"
            return {**methods, name: _deformable}
        optimized = {self.main_name: self.encoders[self.main_name]}
        if self.plan.coarse_steps:
            optimized[COARSE_NAME] = self.coarse
            settings = self.plan.instance or cifl.InstanceSettings()
            methods[f"{best}, refined"] = partial(trained, best, configs[best], settings)

        def optimized_with(model):
            return partial(optimize, encoder=cifl.load_encoder(self.trained_encoder(model)))

        methods |= {
            f"optimized, {name}": partial(optimized_with, model)
            for name, model in optimized.items()
        }
        if self.plan.others:
            methods["optimized, intensity"] = lambda: partial(optimize, encoder=None)
        return methods

    def scores(self, task: str, name: str) -> pd.DataFrame | None:
        """Rows of one method on the test subjects, of this run or an earlier one; None before."""
        folder = self.score_folder(task, name)
        return read_report(folder)["rows"] if (folder / JSON_FILE).exists() else None

    def results(self, methods: Mapping[str, Mapping]) -> dict[str, dict[str, pd.DataFrame]]:
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
        print(write_report(folder, rows, {**about, "minutes": minutes, "view": {**self.view}}))


def _deformable():
    """The displacements of the deformable stage of `cifl register`, of pairs that are aligned."""
    method = DeformableMethod(cifl.load_encoder(DEFORMABLE_ENCODER))
    return lambda moving, fixed: method.displacements(moving, fixed)[0]


def encoder_name(tau_gamma: float) -> str:
    """The method that is on features of the encoder of a temperature."""
    return f"CIFL τγ={tau_gamma}"


def stay(moving, fixed):
    """The displacement of pairs that are not registered."""
    return np.zeros((*moving.shape[:-1], moving.ndim - 2), np.float32)


def slug(name: str) -> str:
    """A method's name as a folder's."""
    return "".join(c if c.isalnum() or c == "." else "_" for c in name.replace("τγ", "tau"))


def say(text: str) -> None:
    """A line on where the work stands."""
    print(f"{time.strftime('%H:%M')} {text}", flush=True)
