"""How alike two images or feature maps are, how well labels overlap, how smooth a warp is."""

import numpy as np
import tensorflow as tf

from cifl_tf._compat import keras, vxm


def average_pool(image: tf.Tensor, size: int, stride: int | None = None) -> tf.Tensor:
    """Mean over windows of ``size`` voxels per axis; at the border, over what is in the image.

    Args:
        image: (batch, *spatial, channels), 2D or 3D.
        size: of the windows in voxels.
        stride: distance of the windows in voxels; None for ``size``.

    Returns:
        (batch, *spatial, channels), each size divided by the stride and rounded up.

    Example:
        >>> import tensorflow as tf
        >>> from cifl_tf.registration.similarity import average_pool
        >>> average_pool(tf.random.uniform((1, 24, 21, 2)), 4).shape
        TensorShape([1, 6, 6, 2])
    """
    return tf.nn.avg_pool(image, size, stride or size, "SAME")


def block_centers(length: int, size: int) -> np.ndarray:
    """Where the windows of ``average_pool`` of one axis lie: mean positions of their voxels.

    Args:
        length: of the axis in voxels.
        size: of the windows, and their distance.

    Example:
        >>> from cifl_tf.registration.similarity import block_centers
        >>> block_centers(8, 4)
        array([1.5, 5.5])
    """
    count = -(-length // size)
    # Half of what is missing is before the first voxel, rounded down.
    begin = size * np.arange(count) - (count * size - length) // 2
    return (np.maximum(begin, 0) + np.minimum(begin + size, length) - 1) / 2


def multiscale_mse(fixed: tf.Tensor, warped: tf.Tensor, num_scales: int = 4) -> tf.Tensor:
    """Mean square difference at several scales, of each channel.

    ``mean_s mean_{c, x} (P_s(f) - P_s(w))^2``, where P_s is the mean over blocks of 2**s voxels per
    axis, s = 0, 1, ... Coarse scales see differences that are farther away.

    Args:
        fixed: (batch, *spatial, channels).
        warped: the same shape.
        num_scales: 1 for the ordinary mean square difference.

    Returns:
        (batch,), at least 0; 0 where both are the same.

    Example:
        >>> import tensorflow as tf
        >>> from cifl_tf.registration.similarity import multiscale_mse
        >>> image = tf.random.uniform((1, 24, 24, 1))
        >>> multiscale_mse(image, image + 2).numpy().round(3)
        array([4.], dtype=float32)
    """
    difference = tf.cast(fixed, tf.float32) - tf.cast(warped, tf.float32)
    axes = list(range(1, difference.shape.rank))
    # Pooling is linear: the difference may be pooled in place of both.
    errors = [
        tf.reduce_mean(average_pool(difference, 2**scale) ** 2, axes) for scale in range(num_scales)
    ]
    return tf.add_n(errors) / num_scales


def local_ncc(
    fixed: tf.Tensor, warped: tf.Tensor, window: int = 9, epsilon: float = 1e-4
) -> tf.Tensor:
    """Correlation of each channel with the same channel, in a window around every voxel.

    ``mean_{c, x} cov(f, w) / sqrt(var(f) var(w) + epsilon)``, with the moments of one channel over
    the window around x (Avants et al., Medical Image Analysis 2008, there squared; features keep
    their sign, so it counts). ``vxm.losses.NCC`` sums one window over all channels instead.

    Args:
        fixed: (batch, *spatial, channels).
        warped: the same shape.
        window: size in voxels, odd; at the border, what of it is in the image.
        epsilon: keeps windows without signal at 0.

    Returns:
        (batch,), in [-1, 1]; near 1 where both are the same up to a positive factor and an offset.

    Example:
        >>> import tensorflow as tf
        >>> from cifl_tf.registration.similarity import local_ncc
        >>> image = tf.random.uniform((1, 24, 24, 1))
        >>> local_ncc(image, 3 * image + 2).numpy().round(1)
        array([1.], dtype=float32)
    """
    covariance, variance_fixed, variance_warped = _window_moments(fixed, warped, window)
    correlation = covariance * tf.math.rsqrt(variance_fixed * variance_warped + epsilon)
    return tf.reduce_mean(correlation, list(range(1, correlation.shape.rank)))


def squared_local_ncc(
    fixed: tf.Tensor, warped: tf.Tensor, window: int = 5, noise: float = 1e-3
) -> tf.Tensor:
    """Squared correlation of each channel with the same channel, in a window around every voxel.

    ``mean_{c, x} cov(f, w)^2 / ((var(f) + noise) (var(w) + noise))`` (Avants et al., Medical Image
    Analysis 2008). So contrast may be inverted, and from place to place.

    Args:
        fixed: (batch, *spatial, channels).
        warped: the same shape.
        window: size in voxels, odd; at the border, what of it is in the image.
        noise: variance that noise may have; keeps windows without signal at 0.

    Returns:
        (batch,), in [0, 1].

    Example:
        >>> import tensorflow as tf
        >>> from cifl_tf.registration.similarity import squared_local_ncc
        >>> image = tf.random.uniform((1, 24, 24, 1))
        >>> squared_local_ncc(image, 1 - image).numpy().round(1)
        array([1.], dtype=float32)
    """
    covariance, variance_fixed, variance_warped = _window_moments(fixed, warped, window)
    square = covariance**2 / ((variance_fixed + noise) * (variance_warped + noise))
    return tf.reduce_mean(square, list(range(1, square.shape.rank)))


def _window_moments(fixed, warped, window):
    """Covariance of each channel with the same channel in windows, and both variances."""
    fixed, warped = tf.cast(fixed, tf.float32), tf.cast(warped, tf.float32)
    # The mean of a channel is taken off first: variance is a small difference of large numbers.
    spatial = list(range(1, fixed.shape.rank - 1))
    fixed -= tf.reduce_mean(fixed, spatial, keepdims=True)
    warped -= tf.reduce_mean(warped, spatial, keepdims=True)

    def mean(image):
        return average_pool(image, window, stride=1)

    mean_fixed, mean_warped = mean(fixed), mean(warped)
    covariance = mean(fixed * warped) - mean_fixed * mean_warped
    variance_fixed = tf.maximum(mean(fixed**2) - mean_fixed**2, 0)
    variance_warped = tf.maximum(mean(warped**2) - mean_warped**2, 0)
    return covariance, variance_fixed, variance_warped


def voxel_cosine(fixed: tf.Tensor, warped: tf.Tensor, epsilon: float = 1e-2) -> tf.Tensor:
    """Cosine between the feature vectors of each voxel, after taking off the mean of each channel.

    ``mean_x f(x) . w(x) / sqrt(|f(x)|^2 |w(x)|^2 + epsilon)``. The mean is that of ``fixed`` over
    space, for both.

    Args:
        fixed: (batch, *spatial, channels).
        warped: the same shape.
        epsilon: keeps voxels without signal at 0.

    Returns:
        (batch,), in [-1, 1].

    Example:
        >>> import tensorflow as tf
        >>> from cifl_tf.registration.similarity import voxel_cosine
        >>> features = 10 * tf.random.normal((1, 24, 24, 8))
        >>> voxel_cosine(features, features).numpy().round(2)
        array([1.], dtype=float32)
    """
    fixed, warped = tf.cast(fixed, tf.float32), tf.cast(warped, tf.float32)
    axes = list(range(1, fixed.shape.rank - 1))
    mean = tf.reduce_mean(fixed, axes, keepdims=True)
    fixed, warped = fixed - mean, warped - mean
    squares = tf.reduce_sum(fixed**2, -1) * tf.reduce_sum(warped**2, -1)
    cosine = tf.reduce_sum(fixed * warped, -1) * tf.math.rsqrt(squares + epsilon)
    return tf.reduce_mean(cosine, axes)


def soft_dice(fixed: tf.Tensor, warped: tf.Tensor) -> tf.Tensor:
    """Mean Dice of one-hot or soft label maps over the labels but the first, the background.

    Labels that are in neither map count as 1.

    Args:
        fixed: (batch, *spatial, labels), in [0, 1].
        warped: the same shape.

    Returns:
        (batch,), in [0, 1].

    Example:
        >>> import numpy as np
        >>> from cifl_tf.registration.similarity import soft_dice
        >>> labels_1, labels_2 = np.eye(2)[[[0, 1, 1, 1]]], np.eye(2)[[[0, 0, 1, 1]]]
        >>> soft_dice(labels_1, labels_2).numpy().round(2)
        array([0.8], dtype=float32)
    """
    fixed, warped = tf.cast(fixed[..., 1:], tf.float32), tf.cast(warped[..., 1:], tf.float32)
    axes = list(range(1, fixed.shape.rank - 1))
    overlap = tf.reduce_sum(fixed * warped, axes)
    sizes = tf.reduce_sum(fixed, axes) + tf.reduce_sum(warped, axes)
    return tf.reduce_mean((2 * overlap + 1e-3) / (sizes + 1e-3), axis=-1)


def gradient_penalty(field: tf.Tensor) -> tf.Tensor:
    """Mean square difference of neighboring vectors of a field: ``vxm.losses.Grad("l2")``.

    Args:
        field: displacement or velocity (batch, *spatial, ndim), in voxels of its own grid.

    Returns:
        (batch,).

    Example:
        >>> import tensorflow as tf
        >>> from cifl_tf.registration.similarity import gradient_penalty
        >>> gradient_penalty(tf.ones((1, 24, 20, 2))).numpy()
        array([0.], dtype=float32)
    """
    return vxm.losses.Grad("l2").loss(None, field)


@keras.saving.register_keras_serializable(package="cifl_tf")
class MultiScaleMSE(keras.losses.Loss):
    """``multiscale_mse`` as a Keras loss.

    Args:
        num_scales: see there.

    Example:
        >>> import tensorflow as tf
        >>> from cifl_tf.registration.similarity import MultiScaleMSE
        >>> image = tf.random.uniform((1, 24, 24, 1))
        >>> float(MultiScaleMSE(num_scales=2)(image, image))
        0.0
    """

    def __init__(self, num_scales: int = 4, reduction: str = "auto", name: str = "multiscale_mse"):
        super().__init__(reduction=reduction, name=name)
        if num_scales < 1:
            raise ValueError(f"num_scales is {num_scales}; give at least 1")
        self.num_scales = num_scales

    def call(self, y_true, y_pred):
        """One loss per pair."""
        return multiscale_mse(y_true, y_pred, self.num_scales)

    def get_config(self):
        """Arguments that build this loss again."""
        return {**super().get_config(), "num_scales": self.num_scales}


@keras.saving.register_keras_serializable(package="cifl_tf")
class LocalNCC(keras.losses.Loss):
    """One minus ``local_ncc``, as a Keras loss.

    Args:
        window: see there.

    Example:
        >>> import tensorflow as tf
        >>> from cifl_tf.registration.similarity import LocalNCC
        >>> image = tf.random.uniform((1, 24, 24, 1))
        >>> round(float(LocalNCC(window=5)(image, -image)), 1)
        2.0
    """

    def __init__(self, window: int = 9, reduction: str = "auto", name: str = "local_ncc"):
        super().__init__(reduction=reduction, name=name)
        if window < 3 or window % 2 == 0:
            raise ValueError(f"window is {window}; give an odd number of at least 3 voxels")
        self.window = window

    def call(self, y_true, y_pred):
        """One loss per pair."""
        return 1 - local_ncc(y_true, y_pred, self.window)

    def get_config(self):
        """Arguments that build this loss again."""
        return {**super().get_config(), "window": self.window}
