"""Pictures of features in TensorBoard while an encoder is trained."""

import tensorflow as tf

from cifl_tf._compat import keras
from cifl_tf.figures.features import feature_figure
from cifl_tf.figures.panels import figure_pixels
from cifl_tf.training.workers import is_chief


class FeaturePictures(keras.callbacks.Callback):
    """Show the features of a fixed pair of views in TensorBoard after every epoch.

    Args:
        log_dir: TensorBoard folder.
        views: (2, *spatial, 1), two contrasts; of volumes, the middle slice of the last axis shows.
    """

    def __init__(self, log_dir, views):
        super().__init__()
        self.log_dir = str(log_dir)
        self.views = views

    def on_train_begin(self, logs=None):
        """Open the file: an error before the training leaves none."""
        if is_chief():
            self.writer = tf.summary.create_file_writer(self.log_dir)

    def on_epoch_end(self, epoch, logs=None):
        """Draw the features and write them."""
        if not is_chief():
            return
        features = self.model.encoder(self.views)
        images, features = (self._slices(values) for values in (self.views, features))
        names = ("contrast 1", "contrast 2")
        figure = feature_figure(
            dict(zip(names, images[..., 0], strict=True)), dict(zip(names, features, strict=True))
        )
        with self.writer.as_default():
            tf.summary.image("features of a pair", figure_pixels(figure)[None], step=epoch)
        self.writer.flush()

    @staticmethod
    def _slices(values):
        values = values.numpy()
        return values if values.ndim == 4 else values[:, :, :, values.shape[3] // 2]
