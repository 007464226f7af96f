import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest
from matplotlib.image import imread

from cifl_tf import InstanceSettings
from cifl_tf.datasets import virtual_cohort

SCRIPT = Path(__file__).parents[2] / "scripts" / "reproduce_table1.py"
FIGURES = ["figure1_synthesis", "figure2_features", "segmentations", "registrations"]


@pytest.fixture
def script(monkeypatch):
    """The script with a plan of a few steps, on small subjects."""
    spec = importlib.util.spec_from_file_location("reproduce_table1", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    plan = dataclasses.replace(
        module.QUICK,
        encoder_steps=1,
        coarse_steps=1,
        segmentation_steps=1,
        registration_steps=1,
        num_slices=1,
        instance=InstanceSettings(scales=(2,), steps=(1,)),
    )
    monkeypatch.setattr(module, "QUICK", plan)
    monkeypatch.setattr(module, "open_cohort", lambda data: virtual_cohort(8, resolution=8))
    return module


def test_table_and_figures_are_written_and_an_interrupted_run_goes_on(script, tmp_path, capsys):
    arguments = ["--data", "virtual", "--out", str(tmp_path / "out"), "--quick"]
    script.main(arguments)
    text = (tmp_path / "out" / "table1.md").read_text()
    assert "4 subjects train, 2 choose, 2 test (virtual-007, virtual-008)" in text
    for row in ("| CIFL τγ=0.1 |", "| synthetic images (SynthSeg style) |", "| unregistered |"):
        assert row in text
    results = json.loads((tmp_path / "out" / "table1.json").read_text())["results"]
    zero = results["registration"]["unregistered"]["T1w to T1w:inverted"]
    assert zero["dice"]["mean"] == zero["dice before"]["mean"]
    for name in FIGURES:
        assert imread(tmp_path / "out" / f"{name}.png").std() > 0.01
    assert "segmentation, intensity" in capsys.readouterr().out

    (tmp_path / "out" / "table1.md").unlink()
    script.main(arguments)
    assert (tmp_path / "out" / "table1.md").read_text() == text
    assert "segmentation, intensity" not in capsys.readouterr().out  # nothing was done again


def test_without_steps_the_shipped_encoder_is_taken(script, tmp_path):
    plan = dataclasses.replace(script.QUICK, encoder_steps=0, coarse_steps=0)
    study = script.Study("virtual", tmp_path, plan, None, 0)
    assert study.encoders == {script.MAIN_NAME: "shapes-2d"}
    assert study.main.output_shape[-1] == 16
