"""Registering two volumes on one grid: by a network or by optimization, whole or slice by slice."""

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import numpy as np

from cifl_tf._compat import keras
from cifl_tf._former_names import accepts_former
from cifl_tf.images.preprocessing import Preprocessing
from cifl_tf.images.volumes import slice_axis
from cifl_tf.models.image_model import preprocessing_of
from cifl_tf.registration.arrays import register_arrays
from cifl_tf.registration.deformable import register_deformable
from cifl_tf.registration.demons import DemonsSettings
from cifl_tf.registration.displacements import invert_displacement
from cifl_tf.registration.instance import InstanceSettings, optimize_instance

if TYPE_CHECKING:  # the network applies itself by this module
    from cifl_tf.registration.network import Registration


@dataclass(frozen=True, eq=False)
class NetworkMethod:
    """Registration by a trained network.

    Attributes:
        network: for images of any size; see ``Registration.for_shape``.
        plane: "sagittal", "coronal" or "axial": the slices that a network for slices gets; None for
            those of its training.
        refine: settings of an instance optimization after it, on the features that the network
            sees; None for the network alone.

    Example:
        >>> import cifl_tf as cifl
        >>> network = cifl.Registration(None, (24, 20), num_filters=2, int_steps=0)
        >>> method = cifl.NetworkMethod(network, plane="axial")
        >>> method.ndim, method.preprocessing.plane
        (2, 'axial')
    """

    network: "Registration"
    plane: str | None = None
    refine: InstanceSettings | None = None

    @property
    def preprocessing(self) -> Preprocessing:
        """Of the images, with the plane of the slices."""
        return self.network.preprocessing.with_choices(self.plane)

    @property
    def ndim(self) -> int:
        """2 for slices, 3 for volumes."""
        return len(self.network.shape)

    def displace(self, moving, fixed) -> np.ndarray:
        """Displacements (n, *spatial, ndim) of pairs (n, *spatial, 1)."""
        displacement = register_arrays(_for_shape(self.network, moving.shape[1:-1]), moving, fixed)
        if self.refine is None:
            return displacement
        extract = self.network.extract
        return optimize_instance(
            moving,
            fixed,
            extract.encoder,
            extract.remappings,
            self.refine,
            displacement,
            progress=True,
        )

    def displacements(self, moving, fixed) -> tuple[np.ndarray, np.ndarray]:
        """Displacements (n, *spatial, ndim) of pairs (n, *spatial, 1), and their inverses."""
        displacement = self.displace(moving, fixed)
        if self.refine is not None or not self.network.has_velocity:
            return displacement, invert_displacement(displacement)
        network = _for_shape(self.network, moving.shape[1:-1])
        return displacement, register_arrays(network, moving, fixed, inverse=True)


@accepts_former()
@dataclass(frozen=True, eq=False)
class InstanceMethod:
    """Registration by optimizing the warp of the pair itself; see ``optimize_instance``.

    Attributes:
        encoder: see ``build_encoder``; None compares intensities, for images of one contrast.
        ndim: 2 for slices, 3 for volumes; that of the encoder.
        plane: "sagittal", "coronal" or "axial", of the slices.
        remappings: see ``FrozenFeatures``.
        settings: None for ``InstanceSettings()``.

    Raises:
        ValueError: ``ndim`` is neither, or not that of the encoder.

    Example:
        >>> import cifl_tf as cifl
        >>> method = cifl.InstanceMethod(cifl.load_encoder("shapes-2d"), ndim=2, plane="axial")
        >>> method.preprocessing.plane
        'axial'
    """

    encoder: keras.Model | None
    ndim: int = 3
    plane: str = "coronal"
    remappings: tuple[str, ...] = ("inverted",)
    settings: InstanceSettings | None = None

    def __post_init__(self):
        if self.ndim not in (2, 3):
            raise ValueError(f"ndim is {self.ndim!r}; give 2 for slices or 3 for volumes")
        if self.encoder is not None and len(self.encoder.input_shape) - 2 != self.ndim:
            raise ValueError(
                f"ndim is {self.ndim}, but the encoder is for {len(self.encoder.input_shape) - 2}D "
                "images; give an encoder of the same dimensions"
            )

    @property
    def preprocessing(self) -> Preprocessing:
        """Of the images, with the plane of the slices."""
        return preprocessing_of(self.encoder).with_choices(self.plane)

    def displace(self, moving, fixed) -> np.ndarray:
        """Displacements (n, *spatial, ndim) of pairs (n, *spatial, 1)."""
        return optimize_instance(
            moving, fixed, self.encoder, self.remappings, self.settings, progress=True
        )

    def displacements(self, moving, fixed) -> tuple[np.ndarray, np.ndarray]:
        """Displacements (n, *spatial, ndim) of pairs (n, *spatial, 1), and their inverses."""
        displacement = self.displace(moving, fixed)
        return displacement, invert_displacement(displacement)


@dataclass(frozen=True, eq=False)
class NoDeformation:
    """Nothing moves: for scans that a matrix brings together.

    Attributes:
        preprocessing: of the images.
    """

    preprocessing: Preprocessing
    ndim: ClassVar[int] = 3

    def displacements(self, moving, fixed) -> tuple[np.ndarray, np.ndarray]:
        """Zeros (n, *spatial, 3) for pairs (n, *spatial, 1), twice."""
        zeros = np.zeros((*fixed.shape[:-1], 3), np.float32)
        return zeros, zeros


@dataclass(frozen=True, eq=False)
class DeformableMethod:
    """Registration of two volumes by Gauss-Newton steps; see ``register_deformable``.

    Attributes:
        encoder: for slices, which then runs in all three planes, or for volumes.
        remappings: see ``FrozenFeatures``.
        settings: None for ``DemonsSettings()``.
        moving_mask: booleans (x, y, z) on the grid of the volumes: where the moving one counts;
            None for everywhere.
        fixed_mask: the same of the fixed one.
        channels: (x, y, z, C) of the moving and of the fixed volume, on their grid, that are
            compared in place of features; None for features.
        smoothness: standard deviation, in voxels at the finest scale, of the Gaussian mean of the
            displacement after each step; None for that of the settings.

    Example:
        >>> import cifl_tf as cifl, nibabel, numpy as np
        >>> from cifl_tf.registration import DeformableMethod
        >>> image = nibabel.Nifti1Image(np.random.rand(16, 16, 16), np.eye(4))
        >>> method = DeformableMethod(cifl.build_encoder(2, 2, 2), remappings=())
        >>> cifl.register_images(image, image, method).warped.shape
        (16, 16, 16)
    """

    encoder: keras.Model
    remappings: tuple[str, ...] = ("inverted",)
    settings: DemonsSettings | None = None
    moving_mask: np.ndarray | None = None
    fixed_mask: np.ndarray | None = None
    channels: tuple[np.ndarray, np.ndarray] | None = None
    smoothness: float | None = None
    ndim: ClassVar[int] = 3

    @property
    def preprocessing(self) -> Preprocessing:
        """Of the images."""
        return dataclasses.replace(preprocessing_of(self.encoder), plane=None)

    def displacements(self, moving, fixed) -> tuple[np.ndarray, np.ndarray]:
        """Displacements (n, *spatial, 3) of pairs (n, *spatial, 1), and their inverses."""
        settings = self.settings or DemonsSettings()
        if self.smoothness is not None:
            diffusion = self.smoothness / min(settings.scales)
            settings = dataclasses.replace(settings, diffusion=diffusion)
        displacement = np.stack(
            [
                register_deformable(
                    one[..., 0],
                    other[..., 0],
                    self.encoder,
                    self.remappings,
                    settings,
                    moving_mask=self.moving_mask,
                    fixed_mask=self.fixed_mask,
                    channels=self.channels,
                )
                for one, other in zip(moving, fixed, strict=True)
            ]
        )
        return displacement, invert_displacement(displacement)


Method: TypeAlias = NetworkMethod | InstanceMethod | DeformableMethod | NoDeformation


def register_volumes(moving, fixed, method: Method) -> tuple[np.ndarray, np.ndarray]:
    """Displacement between two volumes on one grid, and its inverse on the same grid.

    A method for slices registers each with the one at the same place, so that nothing moves across
    them; a slice that is empty in one of both stays as it is.

    Args:
        moving: (x, y, z), canonical axes, intensities in [0, 1].
        fixed: the same shape.
        method: how.

    Returns:
        float32 (x, y, z, 3) in voxels, twice; each for ``warp``.

    Raises:
        ValueError: the volumes do not fit the method.
    """
    if method.ndim == 3:
        if min(fixed.shape) < 3:
            raise ValueError(
                f"the volumes have shape {fixed.shape}, but the method is for volumes of at least "
                "3 voxels along every axis; give one for slices (--ndim 2)"
            )
        forward, inverse = method.displacements(moving[None, ..., None], fixed[None, ..., None])
        return forward[0], inverse[0]
    axis = slice_axis(fixed.shape, method.preprocessing.plane or "coronal")
    pair = [np.moveaxis(volume, axis, 0)[..., None] for volume in (moving, fixed)]
    shown = np.logical_and(*(np.ptp(slices, axis=(1, 2, 3)) > 0 for slices in pair))
    if not shown.any():
        raise ValueError(
            "no slice shows something in both images; bring them to one space first, or choose "
            "another plane"
        )
    forward, inverse = (
        _volume_field(field, shown, axis)
        for field in method.displacements(*(slices[shown] for slices in pair))
    )
    return forward, inverse


def _for_shape(network, shape):
    """The network for images of a shape, with its weights of now."""
    if shape == network.shape:
        return network
    copy = _copy_for_shape(network, shape)
    copy.dense.set_weights(network.dense.get_weights())
    return copy


@lru_cache(maxsize=4)
def _copy_for_shape(network, shape):
    return network.for_shape(shape)


def _volume_field(field, shown, axis):
    """(x, y, z, 3) of the in-plane displacements of the slices that show something."""
    volume = np.zeros((len(shown), *field.shape[1:-1], 3), np.float32)
    volume[shown] = np.insert(field, axis, 0, axis=-1)
    return np.moveaxis(volume, 0, axis)
