"""A training that was killed and goes on ends as one that was not."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from cifl_tf import L2Normalize
from cifl_tf._compat import keras
from cifl_tf.models.files import ENCODER
from cifl_tf.training.callbacks import Checkpoints, HistoryCSV, StopAtStep
from cifl_tf.training.folder import train_in_folder
from cifl_tf.training.progress import Goal
from tiny_trainings import STEPS, STEPS_PER_EPOCH, TRAININGS, Tiny

# Around every file that an epoch writes: the network, then the history, then the checkpoint.
MOMENTS = [
    ("before the checkpoint", 0),
    ("after the checkpoint", 0),
    ("within the epoch", 1),
    ("before the history", 1),
    ("before the checkpoint", 2),
]


@dataclasses.dataclass(frozen=True)
class OneLayer:
    """The configuration of a training that takes no time."""

    seed: int = 0


def fit_one_layer(folder):
    """Fit one convolution to images that come from the numbers of their steps."""
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 1))
    features = keras.layers.Conv2D(2, 3, padding="same")(image)
    network = keras.Model(image, L2Normalize()([features, image]))
    network.compile("adam", "mse")

    def batch(step):
        values = tf.random.stateless_uniform((2, 8, 8, 3), [step, 0])
        return values[..., :1], values[..., 1:]

    data = tf.data.Dataset.counter(folder.steps).map(batch)
    folder.fit(network, data, [folder.keep_best()], 0)


GOAL = Goal("encoder.keras", ENCODER, STEPS)
ONE_LAYER = Tiny(
    OneLayer(),
    GOAL,
    lambda folder, config: train_in_folder(folder, dataclasses.asdict(config), GOAL, fit_one_layer),
)


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


def compare(train, moments, undisturbed, folder, monkeypatch):
    """Train in a folder, killed at each of the moments; it must end as the other folder."""
    for moment, epoch in moments:
        with monkeypatch.context() as patch:
            kill(patch, moment, epoch)
            with pytest.raises(InterruptedError):
                train(folder)
        leftover = folder / ".0123456789abcdef0123456789abcdef.history.csv"
        leftover.write_text("epoch,")
    found, expected = train(folder), train(undisturbed)
    for mine, other in zip(found.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)
    histories = [(each / "history.csv").read_text() for each in (undisturbed, folder)]
    assert histories[0] == histories[1]
    names = [{path.name for path in each.iterdir()} for each in (undisturbed, folder)]
    assert names[0] == names[1]


@pytest.mark.parametrize("moments", [MOMENTS, *([moment] for moment in MOMENTS)])
def test_killed_again_and_again_it_ends_with_the_same_weights(moments, tmp_path, monkeypatch):
    ONE_LAYER(tmp_path / "undisturbed")
    compare(ONE_LAYER, moments, tmp_path / "undisturbed", tmp_path / "killed", monkeypatch)


@pytest.mark.parametrize("kind", TRAININGS)
def test_weights_and_data_of_each_training_go_on(kind, complete, tmp_path, monkeypatch):
    moment = ("within the epoch", 1)
    compare(TRAININGS[kind], [moment], complete(kind), tmp_path / "killed", monkeypatch)
