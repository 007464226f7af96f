"""A fast deformable registration of two volumes on frozen features, with no trained network."""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import find_objects

from cifl_tf._checks import COUNT
from cifl_tf._compat import keras
from cifl_tf.features.planes import volume_features
from cifl_tf.images.intensity import fill_air, fill_outside, is_air
from cifl_tf.registration.demons import DemonsSettings, register_features
from cifl_tf.registration.discrete import checked_mask, discrete_displacement
from cifl_tf.registration.displacements import checked_pair

MARGIN = 8  # voxels of air around the images that take part


def register_deformable(
    moving,
    fixed,
    encoder: keras.Model | None,
    remappings: Sequence[str] = ("inverted",),
    settings: DemonsSettings | None = None,
    num_components: int = 8,
    intensities: bool = True,
    search: tuple[int, int] | None = None,
    moving_mask=None,
    fixed_mask=None,
    channels: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """Register two volumes of any contrasts: a search, if asked for, and then Gauss-Newton steps.

    The features of both images are reduced to their first principal components. Beside them stand
    the intensities, which count by their squared correlation in windows, so that a contrast may be
    inverted; see ``register_features``.

    Args:
        moving: (x, y, z), intensities in [0, 1].
        fixed: the same shape.
        encoder: for slices, which then runs in all three planes, or for volumes; see
            ``build_encoder``. None if there are channels.
        remappings: see ``FrozenFeatures``.
        settings: None for ``DemonsSettings()``.
        num_components: of the features of both images that are compared; all, if there are fewer.
        intensities: False leaves them out.
        search: grid spacing and half width of ``discrete_displacement``, for images that lie far
            apart; None for no search.
        moving_mask: booleans (x, y, z): where the moving image counts, such as a brain without its
            lesion; None for everywhere. What is outside, and no air, is filled with the mean of
            what is near before it is encoded; the displacement goes on smoothly there.
        fixed_mask: the same of the fixed image.
        channels: of the moving and of the fixed image, each (x, y, z, C), that are compared in
            place of features, such as probabilities of tissues.

    Returns:
        float32 (x, y, z, 3) in voxels, on the grid of the fixed image; for ``warp``.

    Raises:
        ValueError: the images are not two volumes of one shape, are not finite, or are too small
            for the scales; an unknown remapping; a mask or channels that do not fit, or a mask that
            shows nothing; neither an encoder nor channels; or a number is wrong.

    Example:
        >>> import cifl_tf as cifl, numpy as np
        >>> from cifl_tf.registration.demons import DemonsSettings
        >>> from cifl_tf.registration.deformable import register_deformable
        >>> encoder = cifl.Encoder.from_pretrained("shapes-2d")
        >>> image = np.random.default_rng(0).random((16, 16, 16))
        >>> settings = DemonsSettings(scales=(2, 1), steps=(2, 1))
        >>> register_deformable(image, image, encoder, settings=settings).shape
        (16, 16, 16, 3)
    """
    moving, fixed, _ = checked_pair(moving, fixed)
    if moving.ndim != 5 or len(moving) > 1:
        raise ValueError(f"the images have shape {moving.shape[1:-1]}; give two volumes (x, y, z)")
    COUNT.check("num_components", num_components)
    if encoder is None and channels is None:
        raise ValueError("there is neither an encoder nor channels; give what is to be compared")
    moving, moving_mask = _inside(moving[0, ..., 0], moving_mask, "moving")
    fixed, fixed_mask = _inside(fixed[0, ..., 0], fixed_mask, "fixed")
    box = _bounding_box(~(is_air(moving) & is_air(fixed)))
    if channels is None:
        moving_features, fixed_features = _principal(
            volume_features(moving[box], encoder, remappings),
            volume_features(fixed[box], encoder, remappings),
            num_components,
        )
    else:
        moving_features, fixed_features = (
            one[box] for one in _checked_channels(channels, moving.shape)
        )
    masks = [None if mask is None else mask[box] for mask in (moving_mask, fixed_mask)]
    initial = None
    if search is not None:
        spacing, half_width = search
        initial = discrete_displacement(
            moving_features, fixed_features, spacing, half_width, *masks
        )
    if intensities:
        moving_features = _beside(moving_features, fill_air(moving[box]))
        fixed_features = _beside(fixed_features, fill_air(fixed[box]))
    found = register_features(
        moving_features, fixed_features, int(intensities), settings, initial, *masks
    )
    # Air around the box moves with its edge: a jump there would fold.
    around = [(one.start, size - one.stop) for one, size in zip(box, moving.shape, strict=True)]
    return np.pad(found, [*around, (0, 0)], mode="edge")


def _checked_channels(channels, shape):
    """Channels of both images as float32."""
    moving, fixed = (np.asarray(one, np.float32) for one in channels)
    if moving.shape != fixed.shape or moving.shape[:-1] != shape or not moving.shape[-1]:
        raise ValueError(
            f"the channels have shapes {moving.shape} and {fixed.shape}, but the images {shape}; "
            "give as many of both, on the grid of the images"
        )
    return moving, fixed


def _inside(image, mask, name):
    """The image, filled outside of its mask but for air, and the mask as booleans; or None."""
    if mask is None:
        return image, None
    mask, air = checked_mask(mask, image.shape, name), is_air(image)
    shown = checked_mask(mask & ~air, image.shape, name)
    return np.where(air, image, fill_outside(image, shown)), mask


def _bounding_box(inside):
    """The smallest box around what is inside and its margin, slices; all where nothing is."""
    if not inside.any():
        return tuple(slice(0, size) for size in inside.shape)
    (box,) = find_objects(inside.astype(np.uint8))
    return tuple(
        slice(max(0, one.start - MARGIN), min(size, one.stop + MARGIN))
        for one, size in zip(box, inside.shape, strict=True)
    )


def _beside(features, image):
    """Features (x, y, z, C) and an image (x, y, z) as their last channel."""
    return np.concatenate([features, image[..., None]], axis=-1)


def _principal(moving, fixed, count):
    """Both features (x, y, z, C) in their first principal components, (x, y, z, count)."""
    if moving.shape[-1] <= count:
        return moving, fixed
    samples = [features.reshape(-1, features.shape[-1]) for features in (moving, fixed)]
    mean = sum(one.mean(axis=0, dtype=float) for one in samples) / 2
    square = sum(one.T @ one / len(one) for one in samples) / 2
    _, vectors = np.linalg.eigh(square - np.outer(mean, mean))
    basis = vectors[:, : -count - 1 : -1].astype(np.float32)
    offset = (mean @ basis).astype(np.float32)
    return moving @ basis - offset, fixed @ basis - offset
