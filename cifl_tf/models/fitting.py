"""Optimizers, and models whose training step TensorFlow traces once, which saves half the start."""

from typing import Any

from cifl_tf._compat import keras


def build_optimizer(model: keras.Model) -> None:
    """Make the variables of a compiled model's optimizer before its first step.

    Keras makes them within the first training step. TensorFlow then traces the step a second time,
    which of a large network takes many seconds.
    """
    build = getattr(model.optimizer, "build", None)  # legacy optimizers have none
    if build is not None:
        build(model.trainable_variables)


def cosine_adam(config) -> keras.optimizers.Adam:
    """Adam, from ``config.learning_rate`` down to zero along a cosine over ``config.steps``."""
    schedule = keras.optimizers.schedules.CosineDecay(config.learning_rate, config.steps)
    return keras.optimizers.Adam(schedule)


class TracedOnce:
    """A part of a Keras model: the variables of the optimizer are made when ``fit`` begins.

    It is no model itself, as Keras changes the bases of models that are functional.
    """

    train_function: Any

    def make_train_function(self, force=False):
        """The function that ``fit`` calls with its batches."""
        if self.train_function is None or force:
            build_optimizer(self)
        return super().make_train_function(force)  # type: ignore[misc]
