import pytest

from cifl_tf.cli.cohort.analyses import Features, Strip
from cifl_tf.cli.cohort.segmentation import Segment
from cifl_tf.cli.cohort.template import ToTemplate


@pytest.mark.parametrize(
    ("analysis", "own", "others"),
    [
        (Features, "shapes-3d", ("strip", "tissues")),
        (Strip, "strip", ("shapes-2d", "tissues")),
        (Segment, "tissues", ("shapes-2d", "strip")),
        (ToTemplate, "shapes-3d", ("strip", "tissues")),
    ],
)
def test_models_that_ship_are_taken_where_they_belong(analysis, own, others, tmp_path, monkeypatch):
    """A wrong one is refused before the folder of results is claimed, not once for each scan."""
    monkeypatch.chdir(tmp_path)
    assert analysis(model=own).model == own
    for other in others:
        with pytest.raises(ValueError, match=f"--model {other} does not exist; give .*{own}"):
            analysis(model=other)


def test_a_folder_is_taken_whatever_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "strip").mkdir()
    assert Segment(model="strip").model == str(tmp_path / "strip")
