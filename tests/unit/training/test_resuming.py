"""A training that was killed and goes on ends as one that was not."""

import numpy as np
import pytest

from cifl_tf import build_encoder
from cifl_tf._compat import keras
from cifl_tf.training.callbacks import Checkpoints, HistoryCSV, StopAtStep
from tiny_trainings import STEPS_PER_EPOCH, TRAININGS

# Around every file that an epoch writes: the network, then the history, then the checkpoint. Each
# moment costs a training, so that not every kind has all.
FIRST, WITHIN, LAST = (
    ("before the checkpoint", 0),
    ("within the epoch", 1),
    ("before the checkpoint", 2),
)
MOMENTS = {
    "encoder": [FIRST, ("after the checkpoint", 0), ("before the history", 1), LAST],
    "segmenter": [FIRST, WITHIN, LAST],
    "segmenter of patches of copies": [WITHIN],
    "registration": [FIRST, WITHIN],
}


@pytest.fixture(autouse=True)
def _short_epochs(monkeypatch):
    monkeypatch.setattr("cifl_tf.training.folder.MAX_STEPS_PER_EPOCH", STEPS_PER_EPOCH)


def kill(patch, moment, when):
    """Make the training end at a moment of an epoch."""
    write_history, write_checkpoint = HistoryCSV.on_epoch_end, Checkpoints.on_epoch_end

    def at_history(self, epoch, logs=None):
        if (moment, epoch) == ("before the history", when):
            raise InterruptedError
        write_history(self, epoch, logs)

    def at_checkpoint(self, epoch, logs=None):
        if (moment, epoch) == ("before the checkpoint", when):
            raise InterruptedError
        write_checkpoint(self, epoch, logs)
        if (moment, epoch) == ("after the checkpoint", when):
            raise InterruptedError

    def within(self, batch, logs=None):
        step = int(self.model.optimizer.iterations.numpy())
        if (moment, step) == ("within the epoch", STEPS_PER_EPOCH * when + 1):
            raise InterruptedError

    patch.setattr(HistoryCSV, "on_epoch_end", at_history)
    patch.setattr(Checkpoints, "on_epoch_end", at_checkpoint)
    patch.setattr(StopAtStep, "on_train_batch_end", within)


@pytest.mark.parametrize("kind", TRAININGS)
def test_killed_again_and_again_it_ends_with_the_same_weights(kind, tmp_path, monkeypatch):
    train, changes = TRAININGS[kind], {}
    if kind == "encoder":
        keras.utils.set_random_seed(7)
        build_encoder(2, 3, 2).save(tmp_path / "initial.keras")
        changes["initial"] = str(tmp_path / "initial.keras")
    expected = train(tmp_path / "undisturbed", **changes)
    folder = tmp_path / "killed"
    for moment, epoch in MOMENTS[kind]:
        with monkeypatch.context() as patch:
            kill(patch, moment, epoch)
            with pytest.raises(InterruptedError):
                train(folder, **changes)
        leftover = folder / ".0123456789abcdef0123456789abcdef.history.csv"
        leftover.write_text("epoch,")
    found = train(folder, **changes)
    for mine, other in zip(found.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)
    histories = [
        (tmp_path / name / "history.csv").read_text() for name in ("undisturbed", "killed")
    ]
    assert histories[0] == histories[1]
    assert {path.name for path in folder.iterdir()} == {
        path.name for path in (tmp_path / "undisturbed").iterdir()
    }
