import dataclasses
import json
from functools import partial

import numpy as np
import pytest
from matplotlib.image import imread

import cifl_tf as cifl
import reproduce_table1
import table1_study
from cifl_tf import InstanceSettings
from cifl_tf.datasets import virtual_cohort
from cifl_tf.features.pretrained import WEIGHTS
from cifl_tf.training.claims import CONFIG_FILE

FIGURES = ["figure1_synthesis", "figure2_features", "segmentations", "registrations"]


# Networks for which the time of a step does not count.
TINY = {
    "TrainingConfig": {"shape": (32, 32), "num_features": 5, "num_filters": 2, "batch_size": 2},
    "SegmentationConfig": {"num_filters": 2, "batch_size": 2},
    "RegistrationConfig": {"num_filters": 2, "batch_size": 2, "int_steps": 1},
}


@pytest.fixture
def script(monkeypatch):
    """The script with a plan of a step or two, with tiny networks on small subjects."""
    plan = dataclasses.replace(
        reproduce_table1.QUICK,
        temperatures=(0.1,),
        main=0.1,
        encoder_steps=1,
        coarse_steps=0,
        segmentation_steps=1,
        registration_steps=1,
        num_slices=1,
        instance=InstanceSettings(scales=(2,), steps=(1,)),
    )
    for name, sizes in TINY.items():
        monkeypatch.setattr(table1_study, name, partial(getattr(table1_study, name), **sizes))
    monkeypatch.setattr(reproduce_table1, "QUICK", plan)
    monkeypatch.setattr(table1_study, "load_cohort", lambda data: virtual_cohort(8, resolution=8))
    contrasts = ["T1w", "T1w:inverted", "FLAIR"]
    monkeypatch.setattr(table1_study, "study_contrasts", lambda cohort: contrasts)
    return reproduce_table1


def test_the_table_grows_by_parts_to_its_figures_and_nothing_is_done_twice(
    script, tmp_path, capsys
):
    out = tmp_path / "out"
    arguments = ["--data", "virtual", "--out", str(out), "--quick"]
    part = [*arguments, "--no-figures"]
    only = ["segmentation, intensity", "registration, unregistered"]
    script.main([*part, "--only", only[0], "--only", only[1]])
    assert "not tested yet: segmentation, CIFL τγ=0.1; " in capsys.readouterr().out
    text = (out / "table1.md").read_text()
    assert "| intensity |" in text
    assert "| unregistered |" in text
    assert "τγ=0.1" not in text
    assert not (out / "training" / "tau_0.1").exists()  # trained when it is needed
    script.main([*part, "--only", "segmentation, CIFL τγ=0.1"])
    text = (out / "table1.md").read_text()
    assert "| CIFL τγ=0.1 |" in text
    assert "CIFL τγ=0.1 against intensity, FLAIR" in text
    assert f"--out {out} --quick --no-figures`" in text.splitlines()[0]  # of the whole table
    assert not list(out.glob("*.png"))

    capsys.readouterr()
    script.main(arguments)
    printed = capsys.readouterr().out
    assert "registration, intensity" in printed
    assert "segmentation, intensity" not in printed  # goes on
    text = (out / "table1.md").read_text()
    assert "4 subjects train, 2 choose, 2 test (virtual-007, virtual-008)" in text
    for row in ("| CIFL τγ=0.1 |", "| synthetic images (SynthSeg style) |", "| unregistered |"):
        assert row in text
    results = json.loads((out / "table1.json").read_text())["results"]
    zero = results["registration"]["unregistered"]["T1w to T1w:inverted"]
    assert zero["dice"]["mean"] == zero["dice before"]["mean"]
    for name in FIGURES:
        assert imread(out / f"{name}.png").std() > 0.01

    (out / "table1.md").unlink()
    script.main(part)
    again = (out / "table1.md").read_text()
    assert again == text.replace("--quick`", "--quick --no-figures`")  # the command
    assert "registration, intensity" not in capsys.readouterr().out  # nothing was done again


def test_without_steps_the_shipped_encoder_is_taken(script, tmp_path):
    tau = json.loads((WEIGHTS / table1_study.SHIPPED / CONFIG_FILE).read_text())["tau_gamma"]
    changes = {"temperatures": (tau,), "main": tau, "encoder_steps": 0, "coarse_steps": 0}
    plan = dataclasses.replace(script.QUICK, num_test=1, **changes)
    study = script.Study("virtual", tmp_path, plan, None, 0)
    assert study.test.names == ("virtual-007",)
    assert study.encoders == {f"CIFL τγ={tau}": "shapes-2d"}
    assert study.main.output_shape[-1] == 16


def test_methods_follow_from_the_plan(script, tmp_path):
    changes = {"coarse_steps": 1, "remapped_steps": 1, "others": True}
    study = script.Study("virtual", tmp_path, dataclasses.replace(script.QUICK, **changes), None, 0)
    assert {"MIND-SSC", "intensity, random contrasts"} <= {*study.segmenters()}
    coarse = table1_study.COARSE_NAME
    with_labels = f"{coarse}, with labels, random contrasts"
    assert {coarse, with_labels, f"{with_labels}, refined"} <= {*study.registrations()}
    assert not [*tmp_path.iterdir()]  # nothing is trained before it is asked for


def test_volumes_are_registered_as_the_command_does_and_untrained_encoders_made_once(tmp_path):
    encoder = {"num_features": 3, "num_filters": 2}
    plan = dataclasses.replace(
        table1_study.VOLUMES, recipe={**table1_study.VOLUMES.recipe, **encoder}
    )
    study = table1_study.Study("virtual", tmp_path, plan, None, 0)
    names = {*study.registrations()}
    assert "`cifl register`, shapes-2d-wide" in names
    assert not [name for name in names if name.startswith("optimized")]
    assert {"MIND-SSC", table1_study.UNTRAINED_NAME, table1_study.SYNTHETIC_NAME} <= names
    file = study.trained_encoder(study.random_weights)
    first = cifl.load_encoder(file)
    assert first.output_shape == (None, None, None, None, 3)
    assert study.trained_encoder(study.random_weights) == file
    other = table1_study.Study("virtual", tmp_path / "other", plan, None, seed=1)
    second = cifl.load_encoder(other.trained_encoder(other.random_weights))
    assert not np.allclose(first.get_weights()[0], second.get_weights()[0])
    assert cifl.load_encoder(study.trained_encoder(study.mind)).output_shape[-1] == 12


def test_methods_are_chosen_by_name_or_task():
    methods = {"segmentation": {"CIFL": 0, "intensity": 0}, "registration": {"CIFL": 0}}
    chosen = partial(reproduce_table1.wanted_methods, methods)
    in_all = [("segmentation", "CIFL"), ("segmentation", "intensity"), ("registration", "CIFL")]
    assert chosen(None) == in_all
    assert chosen(["segmentation"]) == in_all[:2]
    assert chosen(["registration, CIFL", "segmentation, intensity"]) == [in_all[2], in_all[1]]
    with pytest.raises(ValueError, match="--only 'nnU-Net' is none of the methods: segmentation"):
        chosen(["nnU-Net"])


def test_encoders_that_are_there_are_taken_and_others_trained(script, tmp_path):
    encoders = tmp_path / "encoders"
    (encoders / "tau_0.1").mkdir(parents=True)
    plan = dataclasses.replace(script.QUICK, temperatures=(1.0, 0.1))
    study = script.Study("virtual", tmp_path / "out", plan, encoders, 0)
    assert study.encoders == {
        "CIFL τγ=1.0": str(tmp_path / "out" / "training" / "tau_1.0"),
        "CIFL τγ=0.1": str(encoders / "tau_0.1"),
    }
