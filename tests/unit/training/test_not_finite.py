"""A training whose loss or weights are no numbers any more stops, and keeps what was good."""

import numpy as np
import pytest

from cifl_tf.features.losses import ContrastiveLoss
from cifl_tf.training.callbacks import StopAtStep, StopUnlessFinite, read_history
from cifl_tf.training.progress import read_progress
from tiny_trainings import STEPS_PER_EPOCH, TRAININGS

TRAIN = TRAININGS["encoder"]


def test_a_loss_that_is_no_number_stops_the_training_before_anything_is_saved(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(ContrastiveLoss, "call", lambda self, first, _: np.nan * first[:, 0, 0, 0])
    with pytest.raises(ValueError, match=r"^the loss became nan at step 1; give a lower") as error:
        TRAIN(tmp_path)
    assert "--learning-rate" in str(error.value)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "logs"}


@pytest.mark.parametrize("loss", [np.nan, np.inf, -np.inf])
def test_no_loss_but_a_finite_one_passes(loss, tiny_encoder):
    stop = StopUnlessFinite("folder")
    tiny_encoder.compile("adam")
    stop.set_model(tiny_encoder)
    stop.on_train_batch_end(0, {"loss": 1e30})
    with pytest.raises(ValueError, match=f"the loss became {loss} at step 0; .* folder keeps"):
        stop.on_train_batch_end(1, {"loss": loss})


def test_weights_that_the_last_step_of_an_epoch_breaks_are_not_saved(tmp_path, monkeypatch):
    stop = StopAtStep.on_train_batch_end

    def break_weights(self, batch, logs=None):
        if int(self.model.optimizer.iterations.numpy()) == 2 * STEPS_PER_EPOCH:
            weight = self.model.trainable_variables[-1]
            weight.assign(weight * np.nan)
        stop(self, batch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(StopAtStep, "on_train_batch_end", break_weights)
        with pytest.raises(ValueError, match="a weight became NaN or infinite at step 4"):
            TRAIN(tmp_path)
    assert [row["epoch"] for row in read_history(tmp_path / "history.csv")] == ["0"]
    assert read_progress(tmp_path, TRAIN.goal).steps == STEPS_PER_EPOCH
    encoder = TRAIN(tmp_path)  # from the epoch that was good
    assert all(np.isfinite(weight).all() for weight in encoder.get_weights())
