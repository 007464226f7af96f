"""The contrastive loss of CIFL: a pure function, and a Keras loss over it."""

import tensorflow as tf

from cifl_tf._checks import AT_LEAST_0, COUNT, POSITIVE, VOXELS, check_fields
from cifl_tf._compat import keras


def _crop(features: tf.Tensor, crop: int) -> tf.Tensor:
    sizes = features.shape[1:-1]
    if any(size is not None and size <= 2 * crop for size in sizes):
        raise ValueError(
            f"nothing is left of features of spatial shape {tuple(sizes)} without a border of "
            f"{crop} voxels; give larger images or a smaller crop"
        )
    if crop == 0:
        return features
    tf.debugging.assert_greater(
        tf.shape(features)[1:-1], 2 * crop, "features are no larger than the border left out"
    )
    inside = slice(crop, -crop)
    return features[(slice(None), *[inside] * len(sizes))]


def _split_windows(features: tf.Tensor, window: int) -> tf.Tensor:
    """(batch, *spatial, channels) to (batch, windows, voxels of a window, channels).

    Each axis is split into as many equal parts near ``window`` voxels as fit; what is left over is
    dropped at both ends.
    """
    shape = tf.shape(features)
    ndim = features.shape.rank - 2
    counts = [tf.maximum(1, (2 * shape[axis + 1] + window) // (2 * window)) for axis in range(ndim)]
    sizes = [shape[axis + 1] // counts[axis] for axis in range(ndim)]
    begin = [(shape[axis + 1] - counts[axis] * sizes[axis]) // 2 for axis in range(ndim)]
    covered = [counts[axis] * sizes[axis] for axis in range(ndim)]
    features = tf.slice(features, [0, *begin, 0], [shape[0], *covered, shape[-1]])
    interleaved = [value for pair in zip(counts, sizes, strict=True) for value in pair]
    features = tf.reshape(features, [shape[0], *interleaved, shape[-1]])
    window_axes, voxel_axes = range(1, 2 * ndim, 2), range(2, 2 * ndim + 1, 2)
    features = tf.transpose(features, [0, *window_axes, *voxel_axes, 2 * ndim + 1])
    num_windows, num_voxels = tf.reduce_prod(counts), tf.reduce_prod(sizes)
    return tf.reshape(features, [shape[0], num_windows, num_voxels, shape[-1]])


def unit_channels(features: tf.Tensor, crop: int = 0, window: int | None = None) -> tf.Tensor:
    """Channels of features as unit vectors over space.

    Args:
        features: (batch, *spatial, channels).
        crop: voxels to drop at every border.
        window: size in voxels of the windows within which each channel is centered and normalized,
            so that every region carries the same share of the vector; None normalizes each channel
            once over the whole image, without centering, as in the paper.

    Returns:
        float32 (batch, positions, channels). The squares of a channel sum to one, or to less where
        windows hold no signal.
    """
    features = tf.cast(_crop(features, crop), tf.float32)
    if window is None:
        shape = tf.shape(features)
        features = tf.reshape(features, [shape[0], 1, -1, shape[-1]])
        floor = 1e-12
    else:
        features = _split_windows(features, window)
        # Centring leaves rounding errors of a constant, about 1e-7 of it: no signal.
        floor = tf.reduce_sum((1e-4 * features) ** 2, axis=2, keepdims=True) + 1e-12
        features -= tf.reduce_mean(features, axis=2, keepdims=True)
    shape = tf.shape(features)
    energy = tf.reduce_sum(features**2, axis=2, keepdims=True)
    norm = tf.math.rsqrt(tf.maximum(energy, floor))
    features *= norm * tf.math.rsqrt(tf.cast(shape[1], tf.float32))
    return tf.reshape(features, [shape[0], shape[1] * shape[2], shape[3]])


def channel_similarities(unit_1: tf.Tensor, unit_2: tf.Tensor) -> tf.Tensor:
    """Dot products over space of every channel with every other, in [-1, 1].

    Args:
        unit_1: (batch, positions, channels) of ``unit_channels``.
        unit_2: the same of the other view, or of the same one.

    Returns:
        (batch, channels, channels).
    """
    return tf.matmul(unit_1, unit_2, transpose_a=True)


def contrastive_loss(
    features_1: tf.Tensor,
    features_2: tf.Tensor,
    tau_alpha: float = 1.0,
    tau_beta: float = 1.0,
    tau_gamma: float = 0.1,
    crop: int = 0,
    window: int | None = None,
    unsigned: bool = False,
) -> tf.Tensor:
    """The contrastive loss of CIFL (Chua & Dalca, the equation of section 2), one value per pair.

    With ``f^c`` channel c as a unit vector over space and ``.`` the dot product::

        - log  sum_c exp(f^c(x1).f^c(x2) / tau_alpha)
               -----------------------------------------------------------------------
               sum_c exp(f^c(x1).f^c(x2) / tau_beta)
                   + sum_c sum_{c' != c} exp(f^c(x1).f^c'(x1) / tau_gamma)

    The defaults of ``crop`` and ``window`` are the paper's literal form, which a network can
    satisfy with a signal at the border alone; see ``ContrastiveLoss``.

    Args:
        features_1: (batch, *spatial, channels), of any scale; channels are normalized here.
        features_2: the same of the other contrast.
        tau_alpha: temperature of the pair in the numerator.
        tau_beta: temperature of the pair in the denominator.
        tau_gamma: temperature of different channels of the first view.
        crop: voxels of the border to leave out.
        window: size of the normalization windows in voxels; None for the whole image.
        unsigned: different channels count by the absolute value of their similarity. In the paper's
            form the best that two channels can do is to be negatives of each other, which long
            trainings reach: half of the channels then tell nothing new.

    Returns:
        float32 (batch,).

    Raises:
        ValueError: a temperature that is not positive, or a crop that leaves nothing.

    Example:
        >>> import cifl_tf as cifl, numpy as np
        >>> same, other = np.random.default_rng(0).normal(size=(2, 1, 24, 20, 4))
        >>> bool(cifl.contrastive_loss(same, same) < cifl.contrastive_loss(same, other))
        True
    """
    for name, tau in (("tau_alpha", tau_alpha), ("tau_beta", tau_beta), ("tau_gamma", tau_gamma)):
        POSITIVE.check(name, tau)
    unit_1 = unit_channels(features_1, crop, window)
    unit_2 = unit_channels(features_2, crop, window)
    pair = tf.reduce_sum(unit_1 * unit_2, axis=1)
    between = channel_similarities(unit_1, unit_1)
    between = (tf.abs(between) if unsigned else between) / tau_gamma
    between = tf.linalg.set_diag(between, tf.fill(tf.shape(between)[:-1], between.dtype.min))
    between = tf.reshape(between, [tf.shape(between)[0], -1])
    denominator = tf.concat([pair / tau_beta, between], axis=1)
    return tf.reduce_logsumexp(denominator, axis=1) - tf.reduce_logsumexp(pair / tau_alpha, axis=1)


def spatial_contrastive_loss(
    features_1: tf.Tensor,
    features_2: tf.Tensor,
    tau: float = 0.1,
    crop: int = 0,
    stride: int = 4,
) -> tf.Tensor:
    """InfoNCE over voxels: each is to be most similar to itself in the other view.

    The voxels are those of a grid. With ``g(x)`` the features of a view at a voxel of the grid,
    without the mean of each channel over the grid and of length one::

        mean over x of  - log  exp(g1(x).g2(x) / tau) / sum_y exp(g1(x).g2(y) / tau)

    The nearest negatives y are ``stride`` voxels away, the farthest at the other end of the image.

    Args:
        features_1: (batch, *spatial, channels), of any scale.
        features_2: the same of the other contrast.
        tau: temperature.
        crop: voxels of the border to leave out.
        stride: distance of the voxels of the grid along every axis, in voxels.

    Returns:
        float32 (batch,).

    Raises:
        ValueError: a temperature or stride that is not positive, or a crop that leaves nothing.

    Source: van den Oord et al., Representation learning with contrastive predictive coding, 2018.

    Example:
        >>> import numpy as np
        >>> from cifl_tf.features.losses import spatial_contrastive_loss
        >>> same, other = np.random.default_rng(0).normal(size=(2, 1, 24, 20, 4))
        >>> bool(spatial_contrastive_loss(same, same) < spatial_contrastive_loss(same, other))
        True
    """
    POSITIVE.check("tau", tau)
    COUNT.check("stride", stride)
    unit_1 = _grid_units(features_1, crop, stride)
    unit_2 = _grid_units(features_2, crop, stride)
    similarity = tf.matmul(unit_1, unit_2, transpose_b=True) / tau
    own = tf.linalg.diag_part(similarity)
    return tf.reduce_mean(tf.reduce_logsumexp(similarity, axis=2) - own, axis=1)


def _grid_units(features, crop, stride):
    """(batch, voxels of the grid, channels), centered over the grid, of length one at a voxel."""
    features = tf.cast(_crop(features, crop), tf.float32)
    on_grid = [slice(None, None, stride)] * (features.shape.rank - 2)
    features = features[(slice(None), *on_grid)]
    shape = tf.shape(features)
    features = tf.reshape(features, [shape[0], -1, shape[-1]])
    return tf.math.l2_normalize(features - tf.reduce_mean(features, axis=1, keepdims=True), axis=2)


@keras.saving.register_keras_serializable(package="cifl_tf")
class ContrastiveLoss(keras.losses.Loss):
    """``contrastive_loss`` in the form that does not collapse.

    Zero padding gives every network a contrast-free signal at the border that alone satisfies the
    paper's literal equation. So the border is left out as far as the receptive field reaches, and
    each channel is centered and normalized within windows, so that no region can be left empty.
    ``crop=0, window=None`` is the literal form.

    Args:
        tau_alpha: temperature of the pair in the numerator.
        tau_beta: temperature of the pair in the denominator.
        tau_gamma: temperature of different channels of the first view.
        crop: voxels of the border to leave out: the encoder's ``receptive_radius``.
        window: size of the windows in voxels, or None.
        both_orders: take the mean with the loss of the views exchanged, whose channels are
            contrasted then too; the equation contrasts those of the first view only.
        spatial_weight: weight of ``spatial_contrastive_loss``, at its default temperature and
            stride, which is added; the paper has no such term.
        unsigned: see ``contrastive_loss``.

    Raises:
        ValueError: a temperature or window that is not positive, or a negative crop or weight.

    Call arguments:
        y_true, y_pred: features of the two views, (batch, *spatial, channels).

    Example:
        >>> import cifl_tf as cifl, numpy as np
        >>> loss = cifl.ContrastiveLoss(crop=4, window=8)
        >>> same, other = np.random.default_rng(0).normal(size=(2, 1, 24, 20, 4))
        >>> bool(loss(same, same) < loss(same, other))
        True
    """

    def __init__(
        self,
        tau_alpha: float = 0.3,
        tau_beta: float = 0.3,
        tau_gamma: float = 0.3,
        crop: int = 8,
        window: int | None = 20,
        both_orders: bool = False,
        reduction: str = "auto",
        name: str = "contrastive_loss",
        spatial_weight: float = 0.0,
        unsigned: bool = False,
    ):
        super().__init__(reduction=reduction, name=name)
        self.tau_alpha = tau_alpha
        self.tau_beta = tau_beta
        self.tau_gamma = tau_gamma
        self.crop = crop
        self.window = window
        self.both_orders = both_orders
        self.spatial_weight = spatial_weight
        self.unsigned = unsigned
        taus = ("tau_alpha", "tau_beta", "tau_gamma")
        check_fields(self, crop=VOXELS, spatial_weight=AT_LEAST_0, **dict.fromkeys(taus, POSITIVE))
        if window is not None:
            check_fields(self, window=COUNT)

    def call(self, y_true, y_pred):
        """One loss per pair."""
        loss = self._one_order(y_true, y_pred)
        if not self.both_orders:
            return loss
        return (loss + self._one_order(y_pred, y_true)) / 2

    def _one_order(self, features_1, features_2):
        taus = self.tau_alpha, self.tau_beta, self.tau_gamma
        loss = contrastive_loss(
            features_1, features_2, *taus, self.crop, self.window, self.unsigned
        )
        if not self.spatial_weight:
            return loss
        spatial = spatial_contrastive_loss(features_1, features_2, crop=self.crop)
        return loss + self.spatial_weight * spatial

    def get_config(self):
        """Arguments that build this loss again."""
        return {
            **super().get_config(),
            "tau_alpha": self.tau_alpha,
            "tau_beta": self.tau_beta,
            "tau_gamma": self.tau_gamma,
            "crop": self.crop,
            "window": self.window,
            "both_orders": self.both_orders,
            "spatial_weight": self.spatial_weight,
            "unsigned": self.unsigned,
        }
