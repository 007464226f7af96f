"""Encoders: networks from an image to contrast-invariant features on the same grid."""

from collections.abc import Mapping

import numpy as np

from cifl_tf._compat import keras
from cifl_tf.features.architectures import (
    NUM_CONVOLUTIONS,
    UNET_LEVELS,
    check_architecture,
    receptive_radius,
)
from cifl_tf.features.inference import features_of
from cifl_tf.features.layers import CropTo, L2Normalize, PadToMultiple
from cifl_tf.features.pretrained import load_encoder
from cifl_tf.features.tiling import known_radius
from cifl_tf.images.preprocessing import Preprocessing
from cifl_tf.models.image_model import ImageModel

__all__ = ["Encoder", "build_encoder", "receptive_radius", "transfer_weights"]


def build_encoder(
    ndim: int = 2,
    num_features: int = 16,
    num_filters: int = 32,
    architecture: str = "plain",
    name: str = "encoder",
) -> keras.Model:
    """Build an encoder for images of any size.

    ``plain`` is the paper's: eight convolutions of size 3 (Chua & Dalca, section 2), here with
    leaky ReLU between them. ``unet`` has ten convolutions on three resolutions and sees about 23
    voxels far instead of 8. Both end in ``L2Normalize``, over what is not air.

    Args:
        ndim: 2 for slices, 3 for volumes.
        num_features: number C of feature channels.
        num_filters: channels of the hidden layers (at full resolution, for ``unet``).
        architecture: "plain" or "unet".
        name: name of the Keras model.

    Input and output shape:
        image (batch, *spatial, 1), intensities in [0, 1]; features (batch, *spatial, C)

    Raises:
        ValueError: an unknown architecture, or a number that makes no network.

    Example:
        >>> import cifl_tf as cifl, numpy as np
        >>> encoder = cifl.build_encoder(num_features=4, num_filters=2)
        >>> encoder.predict(np.random.rand(3, 24, 20, 1), verbose=0).shape
        (3, 24, 20, 4)
    """
    if ndim not in (2, 3):
        raise ValueError(f"ndim is {ndim}; give 2 for slices or 3 for volumes")
    if num_features < 2 or num_filters < 1:
        raise ValueError(
            f"num_features is {num_features} and num_filters {num_filters}; give at least two "
            "features (the loss compares channels) and one filter"
        )
    check_architecture(architecture)
    image = keras.Input((*[None] * ndim, 1), name="image")
    body = _plain if architecture == "plain" else _unet
    hidden = body(image, ndim, num_filters)
    features = _convolution(ndim, num_features, "features", activation=None)(hidden)
    if architecture == "unet":
        features = CropTo(name="crop")([features, image])
    return keras.Model(image, L2Normalize(name="l2_normalize")([features, image]), name=name)


@keras.saving.register_keras_serializable(package="cifl_tf")
class Encoder(ImageModel):
    """An encoder that knows the images that it is for.

    ``predict`` takes arrays, ``features`` image files too.

    Args:
        network: from images (batch, *spatial, 1) in [0, 1] to features (batch, *spatial, C); see
            ``build_encoder``.
        preprocessing: with the voxel sizes that the encoder is for; see ``ImageModel``.
        receptive_radius: how many voxels away from a feature the farthest voxel is that the feature
            depends on; None for that of a network of ``build_encoder``, or where nobody knows.

    Example:
        >>> import cifl_tf as cifl
        >>> encoder = cifl.Encoder.from_pretrained("shapes-2d")
        >>> encoder.preprocessing.voxel_range[0], encoder.receptive_radius
        ((0.8, 2.5), 8)
    """

    def __init__(
        self,
        network: keras.Model,
        preprocessing: Preprocessing | Mapping | None = None,
        receptive_radius: int | None = None,
        **kwargs,
    ):
        super().__init__(network, preprocessing, **kwargs)
        known = known_radius(network) if receptive_radius is None else receptive_radius
        self.receptive_radius = known

    @classmethod
    def from_pretrained(cls, model) -> "Encoder":
        """Load an encoder.

        Args:
            model: "shapes-2d", or another name of ``pretrained_encoders()``; the folder of a
                training; or a .keras file.

        Raises:
            ValueError: there is none, or the file is damaged; see ``load_encoder``.

        Example:
            >>> import cifl_tf as cifl
            >>> cifl.Encoder.from_pretrained("shapes-3d").output_shape
            (None, None, None, None, 16)
        """
        network = load_encoder(model)
        return network if isinstance(network, cls) else cls(network)

    def features(self, image, **options) -> np.ndarray:
        """Features of an image, on the image's own grid.

        Args:
            image: an array (x, y) or (x, y, z); or the path of a NIfTI or MGZ file, or a nibabel
                image.
            options: of ``features_of``, which gives a NIfTI image for a file.

        Returns:
            float32 (*spatial, C).

        Raises:
            ValueError, FileNotFoundError: as ``features_of``.

        Example:
            >>> import cifl_tf as cifl, numpy as np
            >>> encoder = cifl.Encoder.from_pretrained("shapes-2d")
            >>> encoder.features(np.random.rand(40, 32)).shape
            (40, 32, 16)
        """
        found = features_of(image, self, **options)
        return found if isinstance(found, np.ndarray) else np.asarray(found.dataobj)

    def get_config(self):
        """Arguments that build this model again."""
        return {**super().get_config(), "receptive_radius": self.receptive_radius}


def transfer_weights(encoder: keras.Model, source: keras.Model) -> None:
    """Give an encoder the weights of another, those of one for slices to one for volumes too.

    The kernels of slices become the middle of kernels of volumes that are zero elsewhere, across
    the second spatial axis (the center initialization of Girdhar et al., Detect-and-Track, CVPR
    2018): a plain encoder then gives the features of coronal slices, but normalized over the
    volume, and training goes on from there.

    Args:
        encoder: see ``build_encoder``; its weights change.
        source: of the same architecture, features and filters, and of no more dimensions.

    Raises:
        ValueError: the encoders do not fit each other.

    Example:
        >>> import cifl_tf as cifl
        >>> slices = cifl.build_encoder(ndim=2, num_features=4, num_filters=2)
        >>> volumes = cifl.build_encoder(ndim=3, num_features=4, num_filters=2)
        >>> cifl.transfer_weights(volumes, slices)
        >>> bool((volumes.get_weights()[0][:, 1] == slices.get_weights()[0]).all())
        True
    """
    weights = source.get_weights()
    if len(source.input_shape) < len(encoder.input_shape):
        weights = [_across_second_axis(each) if each.ndim > 1 else each for each in weights]
    if [found.shape for found in weights] != [wanted.shape for wanted in encoder.get_weights()]:
        raise ValueError(
            f"the encoder to start from has {_description(source)}, but the one to train has "
            f"{_description(encoder)}; give one of the same architecture, features and filters, "
            "for slices or of the same dimensions"
        )
    encoder.set_weights(weights)


def _across_second_axis(kernel):
    """A kernel (3, 3, in, out) as the middle of a zero kernel (3, 3, 3, in, out)."""
    return np.pad(kernel[:, None], [(0, 0), (1, 1), (0, 0), (0, 0), (0, 0)])


def _description(encoder):
    """What must agree between encoders, in words."""
    kernels = [weight for weight in encoder.get_weights() if weight.ndim > 1]
    ndim, widths = len(encoder.input_shape) - 2, [kernel.shape[-1] for kernel in kernels]
    return f"{len(kernels)} {ndim}D convolutions of {widths} channels"


def _convolution(ndim, filters, name, activation="leaky_relu"):
    layer = {2: keras.layers.Conv2D, 3: keras.layers.Conv3D}[ndim]
    if activation == "leaky_relu":
        activation = keras.layers.LeakyReLU(0.2)
    return layer(
        filters,
        3,
        padding="same",
        activation=activation,
        kernel_initializer="he_normal" if activation else "glorot_uniform",
        name=name,
    )


def _plain(image, ndim, num_filters):
    hidden = image
    for index in range(NUM_CONVOLUTIONS - 1):
        hidden = _convolution(ndim, num_filters, f"conv_{index}")(hidden)
    return hidden


def _unet(image, ndim, num_filters):
    pool = {2: keras.layers.MaxPooling2D, 3: keras.layers.MaxPooling3D}[ndim]
    upsample = {2: keras.layers.UpSampling2D, 3: keras.layers.UpSampling3D}[ndim]
    hidden = PadToMultiple(2 ** (UNET_LEVELS - 1), name="pad")(image)
    skipped = []
    for level in range(UNET_LEVELS):
        if level:
            skipped.append(hidden)
            hidden = pool(name=f"pool_{level}")(hidden)
        for index in range(2):
            width = num_filters * 2**level
            hidden = _convolution(ndim, width, f"down_{level}_{index}")(hidden)
    for level in reversed(range(UNET_LEVELS - 1)):
        hidden = upsample(name=f"upsample_{level}")(hidden)
        hidden = keras.layers.Concatenate(name=f"skip_{level}")([skipped[level], hidden])
        # The last convolution, to the features, is the second one of level 0.
        for index in range(2 if level else 1):
            hidden = _convolution(ndim, num_filters * 2**level, f"up_{level}_{index}")(hidden)
    return hidden
