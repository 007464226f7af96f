"""``cifl cohort --engine beam``: the files of the plain engine, by several processes of Beam."""

import pytest

from cifl_tf.cli.cohort.pipeline import runner_options
from cifl_tf.images.atomic import LEFTOVER
from command_runner import assert_one_line_error
from tiny_cohorts import contents, features


def test_both_engines_write_the_same_files(bids, encoder, tmp_path):
    broken = bids / "sub-2" / "anat" / "sub-2_T1w.nii.gz"
    broken.write_bytes(b"no image")
    plain, beam = tmp_path / "plain", tmp_path / "beam"
    wanted = features(bids, plain, encoder)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
            patch.setenv(name, "1")  # back as it was afterwards
        done = features(bids, beam, encoder, "--engine", "beam", "--n-procs", 2)
    assert done.exit_code == wanted.exit_code == 1
    assert "done          5\nfailed        1   see below\n" in done.stdout
    assert sorted(done.stdout.splitlines()) == sorted(
        wanted.stdout.replace(str(plain), str(beam)).splitlines()
    )
    assert "sub-2_T1w.nii.gz" in done.stderr.splitlines()[-1]
    assert contents(beam) == contents(plain)
    assert not [path for path in beam.iterdir() if LEFTOVER.fullmatch(path.name)]
    again = features(bids, beam, encoder, "--engine", "beam")
    assert "skipped       5   done before, and kept" in again.stdout


def test_a_pipeline_that_does_not_start_is_said_in_a_line(bids, encoder, tmp_path):
    options = ["--engine", "beam", "--beam-options", "--runner=NoSuchRunner"]
    done = features(bids, tmp_path / "out", encoder, *options)
    assert done.exit_code == 1
    assert "failed        5   see below" in done.stdout
    assert "the pipeline ended before" in done.stderr
    assert "NoSuchRunner" in done.stderr
    assert "Traceback" not in done.output
    unclosed = features(
        bids, tmp_path / "none", encoder, "--engine", "beam", "--beam-options", "'a"
    )
    assert_one_line_error(unclosed, "end each quotation")
    assert not (tmp_path / "none").exists()


def test_runners_of_the_user_get_their_options_alone():
    given = "--runner=FlinkRunner --flink_master='a host:1'"
    assert runner_options(given, 4) == ["--runner=FlinkRunner", "--flink_master=a host:1"]
    assert "--direct_num_workers=4" in runner_options(None, 4)
    assert runner_options("--direct_running_mode=multi_threading", 2)[-1] == (
        "--direct_running_mode=multi_threading"
    )
