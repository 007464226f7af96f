"""Keras callbacks that write the encoder of a training."""

from collections.abc import Sequence
from pathlib import Path

from cifl_tf._compat import keras
from cifl_tf.features.encoder import Encoder
from cifl_tf.models.precision import in_float32
from cifl_tf.training.callbacks import SaveNetwork, save_by_chief


class SaveEncoder(SaveNetwork):
    """Save the encoder of a ``CIFL`` model as an ``Encoder`` in float32 after every epoch."""

    def on_epoch_end(self, epoch, logs=None):
        """Save the encoder."""
        self.save()

    def _network(self):
        return Encoder(in_float32(self.model.encoder))


class SnapshotEncoder(keras.callbacks.Callback):
    """Keep the ``Encoder`` of a ``CIFL`` model in float32 as it is after some of the steps.

    Args:
        folder: of the files; see ``path``.
        steps: optimization steps over all runs, each after which a file is written.
    """

    def __init__(self, folder, steps: Sequence[int]):
        super().__init__()
        self.folder = Path(folder)
        self.steps = tuple(steps)

    def path(self, step: int) -> Path:
        """The file of a step."""
        return self.folder / f"step-{step}.keras"

    def on_train_batch_end(self, batch, logs=None):
        """Save the encoder after the steps that were asked for."""
        step = int(self.model.optimizer.iterations.numpy())
        if step in self.steps:
            save_by_chief(lambda: Encoder(in_float32(self.model.encoder)), self.path(step))
