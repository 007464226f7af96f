import json

import pytest

import search_recipe
from cifl_tf.datasets import virtual_cohort
from cifl_tf.features.config import TrainingConfig
from unreadable_subjects import with_unreadable

TESTED = ("virtual-007", "virtual-008")


@pytest.fixture
def script(monkeypatch):
    """The script on small subjects, of which those that test cannot be read."""
    cohort = with_unreadable(virtual_cohort(8, resolution=8), TESTED)
    monkeypatch.setattr(search_recipe, "NUM_SLICES", 3)
    monkeypatch.setattr(search_recipe, "load_cohort", lambda data: cohort)
    return search_recipe


def test_variants_are_scored_and_an_interrupted_run_goes_on(script, tmp_path, capsys):
    out = tmp_path / "out"
    steps = ["--encoder-steps", "2", "--segmentation-steps", "2"]
    arguments = ["--data", "virtual", "--out", str(out), *steps, "--only"]
    script.main([*arguments, "remappings-none", "both-orders"])
    text = (out / "recipe.md").read_text()
    assert "4 subjects train (virtual-001, " in text
    assert "2 choose (virtual-005, virtual-006); the 2 that test were not read" in text
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    contrasts = ["T1w", "T1w:inverted", "T2w", "FLAIR", "PDw"]
    headings = [f"Dice, {name}" for name in contrasts] + [
        f"corr., {name}" for name in contrasts[1:]
    ]
    assert rows[0] == ["group", "variant", *headings, "minutes"]
    names = [["orders", "both-orders"], ["remappings", "remappings-none"]]
    assert [row[:2] for row in rows[2:]] == names
    for row in rows[2:]:
        assert all(0 <= float(value) <= 1 for value in row[2:7])
        assert all(-1 <= float(value) <= 1 for value in row[7:11])
        assert float(row[11]) >= 0
    encoders = {path.name for path in (out / "encoders").iterdir()}
    assert encoders == {"both-orders", "base"}  # contrast averaging takes the base's
    orders, single = json.loads((out / "recipe.json").read_text())["variants"]
    assert min(orders["minutes"], single["minutes"]) > 0
    assert (orders["encoder"]["both_orders"], single["encoder"]["both_orders"]) == (True, False)
    assert (orders["segmenter"]["remappings"], single["segmenter"]["remappings"]) == (
        ["inverted"],
        [],
    )
    configs = [path.read_text() for path in out.rglob("config.json")]
    assert len(configs) == 5
    assert not any(name in config for config in configs for name in TESTED)

    files = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.parent != out}
    (out / "recipe.md").unlink()
    capsys.readouterr()
    script.main([*arguments, "remappings-none", "both-orders"])
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.parent != out} == files
    assert (out / "recipe.md").read_text() == text
    assert capsys.readouterr().out == text + "\n"  # no line on anything being done


def test_each_variant_is_another_recipe(script):
    base, *others = script.variants(TrainingConfig(steps=1000))
    assert base.name == "base"
    recipes = [(variant.config, variant.remappings) for variant in (base, *others)]
    assert all(recipes.count(recipe) == 1 for recipe in recipes)
    assert len({variant.name for variant in others}) == len(others)
    steps = [variant.config.steps for variant in others if variant.group == "training length"]
    assert steps == [250, 500, 2000, 4000]
    assert {variant.encoder for variant in others if variant.group == "remappings"} == {"base"}
