"""Training folders with damaged files: made whole again from the others, or refused by name."""

import csv
import shutil
import warnings

import numpy as np
import pytest

from cifl_tf._compat import keras
from cifl_tf.training.progress import read_progress
from tiny_trainings import TRAININGS

KINDS = ["encoder", "segmenter", "registration"]
MORE_STEPS = 100


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def folder(complete, kind, tmp_path):
    """A copy of the complete folder of a kind."""
    return shutil.copytree(complete(kind), tmp_path / "copy")


def remove(file):
    file.unlink()


def empty(file):
    file.write_bytes(b"")


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def binary(file):
    file.write_bytes(bytes(range(256)))


def text(content):
    def write(file):
        file.write_text(content)

    return write


def rows(change):
    """Change the rows of a history."""

    def write(file):
        lines = list(csv.DictReader(file.open(newline="")))
        change(lines)
        with file.open("w", newline="") as target:
            writer = csv.DictWriter(target, lines[0])
            writer.writeheader()
            writer.writerows(lines)

    return write


def set_first(name, value):
    return rows(lambda lines: lines[0].update({name: value}))


def add_epochs(lines):
    last = {**lines[-1]}
    lines += [{**last, "epoch": 3, "step": 8}, {**last, "epoch": 4, "step": 10}]


BYTES = {"empty": empty, "cut": cut, "binary": binary}
JSONS = {"a list": text("[1, 2]"), "a number": text("3"), "null": text("null")}
TABLES = {
    "another table": text("a,b\n1,2\n"),
    "no step": rows(lambda lines: [line.pop("step") for line in lines]),
    "fewer rows": rows(lambda lines: lines.pop()),
    "rows in another order": rows(lambda lines: lines.reverse()),
    "a word": set_first("loss", "low"),
    "another step": rows(lambda lines: lines[-1].update(step=5)),
    "a row too long": lambda file: file.write_text(
        file.read_text() + "3,8,1,2,3,4,5,6,7,8,9,0,1\n"
    ),
    "a row too short": lambda file: file.write_text(file.read_text() + "3\n"),
}
REFUSED = [
    *[
        ("config.json", case, damage)
        for case, damage in {**BYTES, **JSONS, "missing": remove}.items()
    ],
    *[
        ("history.csv", case, damage)
        for case, damage in {**BYTES, **TABLES, "missing": remove}.items()
    ],
]
PARTS = ("checkpoint", "ckpt-3.index", "ckpt-3.data-00000-of-00001")


@pytest.mark.parametrize(("name", "case", "damage"), REFUSED, ids=lambda value: str(value)[:20])
def test_refused_in_one_line_with_the_name_of_the_file(folder, kind, name, case, damage):
    damage(folder / name)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=name) as error:
        TRAININGS[kind](folder)
    assert "\n" not in str(error.value)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("case", [*BYTES, "missing"])
@pytest.mark.parametrize("part", PARTS)
def test_damaged_checkpoints_are_refused(folder, kind, part, case):
    {**BYTES, "missing": remove}[case](folder / "checkpoints" / "chief" / part)
    with pytest.raises(
        ValueError, match=r"checkpoints is damaged .* delete it to train anew$"
    ) as error:
        TRAININGS[kind](folder)
    assert "\n" not in str(error.value)


def test_a_damaged_first_checkpoint_is_that_of_a_kill(folder, kind):
    rows(lambda lines: lines.__delitem__(slice(1, None)))(folder / "history.csv")
    cut(folder / "checkpoints" / "chief" / PARTS[1])
    progress = read_progress(folder, TRAININGS[kind].goal)
    assert (progress.steps, progress.network, progress.lost) == (0, None, False)


def test_a_checkpoint_of_another_network_is_refused(complete, kind, folder):
    other = KINDS[KINDS.index(kind) - 1]
    shutil.rmtree(folder / "checkpoints")
    shutil.copytree(complete(other) / "checkpoints", folder / "checkpoints")
    (folder / TRAININGS[kind].goal.file).unlink()
    set_scores(folder, kind, [0.1, 0.2, 0.3])
    before = {path: path.read_bytes() for path in (folder / "checkpoints").rglob("ckpt*")}
    with pytest.raises(ValueError, match="checkpoints does not fit the network") as error:
        TRAININGS[kind](folder)
    assert "\n" not in str(error.value)
    assert before == {path: path.read_bytes() for path in (folder / "checkpoints").rglob("ckpt*")}


def test_without_checkpoints_a_complete_training_is_complete_and_another_begins_anew(folder, kind):
    shutil.rmtree(folder / "checkpoints")
    goal = TRAININGS[kind].goal
    assert read_progress(folder, goal).network is not None
    progress = read_progress(folder, goal._replace(steps=MORE_STEPS))
    assert progress.steps == 0
    assert (
        progress.remark == f"{folder / 'checkpoints'} holds no checkpoint: training {folder} anew"
    )


def test_epochs_that_the_checkpoint_lacks_do_not_count(folder, kind):
    rows(add_epochs)(folder / "history.csv")
    goal = TRAININGS[kind].goal
    assert read_progress(folder, goal._replace(steps=8)).steps == 6
    assert read_progress(folder, goal).network is not None


def set_scores(folder, kind, scores):
    """Set what the best epoch is chosen by."""
    monitor = TRAININGS[kind].goal.monitor
    if monitor:
        change = rows(
            lambda lines: [
                line.update({monitor: score}) for line, score in zip(lines, scores, strict=True)
            ]
        )
        change(folder / "history.csv")


@pytest.mark.parametrize("case", [*BYTES, "missing"])
def test_a_lost_network_that_the_checkpoint_has(folder, kind, case):
    goal = TRAININGS[kind].goal
    set_scores(folder, kind, [0.1, 0.2, 0.3])
    {**BYTES, "missing": remove}[case](folder / goal.file)
    assert read_progress(folder, goal).lost
    progress = read_progress(folder, goal._replace(steps=MORE_STEPS))
    assert (progress.steps, progress.lost) == (6, True)


def test_a_lost_network_is_written_anew(folder, kind):
    goal = TRAININGS[kind].goal
    expected = keras.models.load_model(folder / goal.file, compile=False).get_weights()
    with (folder / "history.csv").open(newline="") as file:
        scores = [float(row[goal.monitor]) for row in csv.DictReader(file)] if goal.monitor else []
    set_scores(folder, kind, [0.1, 0.2, 0.3])
    history = (folder / "history.csv").read_bytes()
    (folder / goal.file).unlink()
    found = TRAININGS[kind](folder).get_weights()
    assert (folder / "history.csv").read_bytes() == history
    # What was kept is what the checkpoint holds, if the last epoch was the best.
    same = all(np.array_equal(mine, other) for mine, other in zip(found, expected, strict=True))
    assert same == (not scores or scores.index(max(scores)) == len(scores) - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_progress(folder, goal).network is not None


@pytest.mark.parametrize("name", ["segmenter", "registration"])
def test_a_lost_network_of_an_earlier_epoch_is_refused(complete, name, tmp_path):
    folder = shutil.copytree(complete(name), tmp_path / "copy")
    goal = TRAININGS[name].goal
    set_scores(folder, name, [0.3, 0.2, 0.1])
    cut(folder / goal.file)
    with pytest.raises(ValueError, match=rf"{goal.file} is missing or damaged, and the checkpoint"):
        TRAININGS[name](folder)


@pytest.mark.parametrize("name", ["segmenter", "registration"])
@pytest.mark.parametrize("score", ["", "high"])
def test_a_history_without_scores_is_refused(complete, name, score, tmp_path):
    folder = shutil.copytree(complete(name), tmp_path / "copy")
    set_scores(folder, name, [0.1, score, 0.2])
    with pytest.raises(ValueError, match=r"history\.csv"):
        TRAININGS[name](folder)
