import pytest
import typer
from typer.testing import CliRunner

from cifl_tf.cli.cohort.options import CohortCommand, CohortOptions, Level
from cifl_tf.cli.config_options import command


@command
def example(
    ctx: typer.Context, bids: str, level: Level, cohort: CohortOptions, border: float = 0.0
):
    names = ",".join(cohort.participants)
    print(bids, level.value, names, cohort.contrast, cohort.n_procs, border)


app = typer.Typer()
app.command(cls=CohortCommand)(example)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("b participant", "b participant  None 1 0.0"),
        ("b participant --participant-label 01 sub-02", "b participant sub-01,sub-02 None 1 0.0"),
        ("--participant-label 01 b group", "b group sub-01 None 1 0.0"),
        ("--participant-label=01,02 b group --n-procs 2", "b group sub-01,sub-02 None 2 0.0"),
        (
            "b participant --participant_label 1 --contrast T1w FLAIR --participant_label 2",
            "b participant sub-1,sub-2 T1w,FLAIR 1 0.0",
        ),
        ("b participant --n_procs 3 --border -2", "b participant  None 3 -2.0"),
    ],
)
def test_options_are_taken_as_by_bids_apps(line, expected):
    done = CliRunner().invoke(app, line.split())
    assert done.output.strip() == expected


def test_an_option_without_a_value():
    done = CliRunner().invoke(app, ["b", "participant", "--participant-label", "--n-procs", "2"])
    assert done.exit_code == 2
    assert "participant-label" in done.output


@pytest.mark.parametrize(("shard", "share"), [(None, (1, 1)), ("2/3", (2, 3)), ("3/3", (3, 3))])
def test_shares(shard, share):
    assert CohortOptions(shard=shard).share == share


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "1/0", "a/b", "-1/2"])
def test_wrong_shares_are_refused(shard):
    with pytest.raises(ValueError, match=r"--shard is .*from 1, such as 2/8"):
        CohortOptions(shard=shard)


def test_wrong_numbers_are_refused():
    with pytest.raises(ValueError, match="n_procs is 0; give a positive number"):
        CohortOptions(n_procs=0)
    with pytest.raises(ValueError, match="mem_mb is -1"):
        CohortOptions(mem_mb=-1)
