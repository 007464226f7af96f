import json

import pytest

from cifl_tf.cli.run_report import options_of_last_run, read_runs


@pytest.fixture
def record(tmp_path):
    """Runs of before version 0.3."""
    common = {
        **{"arguments": [], "directory": "/", "inputs": [], "versions": {}, "device": "CPU"},
        **{"started": "2026-01-01T00:00:00+00:00", "id": "1", "seconds": 1.0},
    }
    pair = {"ensemble": "gamma", "moving_frame": 2, "model": "shapes-2d", "overwrite": True}
    runs = [
        {"command": "features", "options": {"ensemble": "none", "frame": 1}, **common},
        {"command": "register optimise", "options": pair, **common},
    ]
    (tmp_path / "run.json").write_text(json.dumps({"runs": runs}))
    return tmp_path / "run.json"


def test_former_names_of_records(record):
    features, pair = read_runs(record.parent)
    assert (features["command"], pair["command"]) == ("features", "register optimize")
    assert features["options"] == {"remappings": "none", "volume_index": 1}
    assert pair["options"]["model"] == "shapes-2d"
    assert options_of_last_run(record, "register optimize") == {
        "remappings": "gamma",
        "moving_volume_index": 2,
        "model": "shapes-2d",
    }


def test_records_that_do_not_say_it(record, tmp_path):
    with pytest.raises(ValueError, match="no run of cifl train, but of cifl features, cifl reg"):
        options_of_last_run(record, "train")
    assert read_runs(tmp_path / "none") == []
    record.write_text(json.dumps({"runs": [{"command": ""}]}))
    with pytest.raises(ValueError, match="is no record of cifl's runs"):
        read_runs(record.parent)
