"""Registration: frozen features of two images and a voxelmorph network as one Keras model."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import tensorflow as tf

from cifl_tf._compat import keras
from cifl_tf._former_names import accepts_former, with_present_names
from cifl_tf.features.frozen import FrozenFeatures
from cifl_tf.features.layers import PadToMultiple
from cifl_tf.images.intensity import BEFORE_0_2
from cifl_tf.images.preprocessing import Preprocessing, as_preprocessing
from cifl_tf.models.config import register_classes
from cifl_tf.models.files import REGISTRATION, load_network, model_file
from cifl_tf.registration.dense import build_dense, resize_displacement
from cifl_tf.registration.displacements import compose_batch, warp_batch
from cifl_tf.registration.images import RegistrationResult, register_images
from cifl_tf.registration.instance import InstanceSettings
from cifl_tf.registration.methods import NetworkMethod
from cifl_tf.registration.pair_model import PairModel
from cifl_tf.registration.settings import MULTIPLE, REGISTRATION_FILE, check_settings, checked_shape
from cifl_tf.synthesis.integration import integrate
from cifl_tf.training.claims import CONFIG_FILE, read_config


@accepts_former()
@keras.saving.register_keras_serializable(package="cifl_tf")
@keras.saving.register_keras_serializable(package="cifl_tf", name="RegistrationNetwork")
class Registration(PairModel):
    """From a moving and a fixed image to the warp between them, seen through frozen features.

    Frozen encoder, then the network of VoxelMorph (Balakrishnan et al., IEEE TMI 2019) on the
    features of both. Images are padded to what its U-Net needs and the warp is cropped. By default
    the warp is the integral of a stationary velocity and so, but for discretization, a
    diffeomorphism (Dalca et al., Medical Image Analysis 2019).

    With several passes, each registers what the one before warped, with the same weights, and their
    warps are composed (Zhao et al., Recursive cascaded networks, ICCV 2019). Training makes one
    pass, validation all of them.

    ``PairModel`` says what ``compile`` and ``fit`` take, and what they log.
    ``predict`` takes arrays, ``register`` image files.

    Args:
        encoder: see ``build_encoder``; None registers on intensities, the paper's baseline.
        shape: two or three sizes of the images in voxels.
        remappings: see ``FrozenFeatures``.
        similarity: what the loss compares: "image", the images themselves, for training pairs that
            share a contrast (the network sees features all the same), "features" or "labels" alone.
        smoothness: weight of the mean square gradient of the velocity (of the displacement, where
            ``int_steps`` is 0), in voxels of its grid.
        label_weight: weight of one minus the Dice of the labels, where the dataset gives labels.
        int_steps: squarings that integrate the velocity; 0 for a displacement without velocity.
        int_resolution: voxel size of the velocity, in voxels of the image.
        num_filters: channels of the U-Net at full resolution, doubled below.
        num_cascades: how many times the network is applied.
        preprocessing: of image files that the network is applied to, see ``Preprocessing``, or its
            ``to_config``; None for the defaults.

    Input and output shape:
        a pair of images (batch, *shape, 1), intensities in [0, 1]; displacement
        (batch, *shape, ndim) in voxels: ``warped(x) = moving(x + u(x))``

    Raises:
        ValueError: the shape does not fit the encoder, unknown remappings, or what
            ``check_settings`` refuses.

    Example:
        With few filters and without a velocity, which is quick:

        >>> import cifl_tf as cifl, numpy as np
        >>> registration = cifl.Registration(None, (24, 20), num_filters=2, int_steps=0)
        >>> moving, fixed = np.random.rand(2, 3, 24, 20, 1)
        >>> registration.predict([moving, fixed], verbose=0).shape
        (3, 24, 20, 2)
        >>> registration.compile("adam", "mse", metrics=["mae"])
        >>> sorted(registration.fit((moving, fixed), verbose=0).history)
        ['loss', 'mae', 'similarity', 'smoothness']
    """

    def __init__(
        self,
        encoder: keras.Model | None,
        shape: Sequence[int],
        remappings: Sequence[str] = (),
        similarity: str = "image",
        smoothness: float = 0.02,
        label_weight: float = 0.0,
        int_steps: int = 7,
        int_resolution: int = 2,
        num_filters: int = 16,
        num_cascades: int = 1,
        preprocessing: Preprocessing | Mapping | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.preprocessing = as_preprocessing(preprocessing)
        shape = checked_shape(shape, encoder)
        self.extract = FrozenFeatures(encoder, remappings, name="features")
        self._settings: dict[str, Any] = {
            "shape": shape,
            "remappings": self.extract.remappings,
            "similarity": similarity,
            "smoothness": smoothness,
            "label_weight": label_weight,
            "int_steps": int_steps,
            "int_resolution": int_resolution,
            "num_filters": num_filters,
            "num_cascades": num_cascades,
        }
        check_settings(SimpleNamespace(**self._settings))
        self._pad = PadToMultiple(MULTIPLE, dtype="float32", name="pad")
        self._padded_shape = [size + -size % MULTIPLE for size in shape]
        self.dense = build_dense(
            self._padded_shape,
            self.extract.num_features,
            num_filters,
            int_steps,
            int_resolution,
        )
        self.build([(None, *shape, 1)] * 2)

    @classmethod
    def from_pretrained(cls, model) -> "Registration":
        """Load a registration network.

        Args:
            model: folder of ``train_registration``, or its ``registration.keras``. The plane of one
                from before version 0.2 is in the ``config.json`` beside it.

        Raises:
            ValueError: there is none yet, or the file is damaged.

        Example:
            >>> import tempfile, cifl_tf as cifl
            >>> network = cifl.Registration(None, (24, 20), num_filters=2, int_steps=0)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     network.save(f"{folder}/registration.keras")
            ...     cifl.Registration.from_pretrained(folder).shape
            (24, 20)
        """
        file = model_file(model, REGISTRATION_FILE)
        network = load_network(file, REGISTRATION)
        unknown = len(network.shape) == 2 and network.preprocessing.plane is None
        if unknown and (file.parent / CONFIG_FILE).exists():
            plane = read_config(file.parent)["plane"]
            network.preprocessing = network.preprocessing.with_choices(plane)
        return network

    def register(
        self, moving, fixed, refine: InstanceSettings | None = None, **options
    ) -> RegistrationResult:
        """Register two NIfTI or MGZ files, or nibabel images, of any size.

        Args:
            moving: the image to warp.
            fixed: the image it is warped to.
            refine: settings of an optimization of the warp after the network; None for none.
            options: of ``register_images``.

        Raises:
            ValueError, FileNotFoundError: as ``register_images``.

        Example:
            >>> import cifl_tf as cifl, nibabel, numpy as np
            >>> registration = cifl.Registration(None, (16, 16), num_filters=2, int_steps=0)
            >>> image = nibabel.Nifti1Image(np.random.rand(20, 6, 18), np.eye(4))
            >>> registration.register(image, image).warped.shape
            (20, 6, 18)
        """
        return register_images(moving, fixed, NetworkMethod(self, refine=refine), **options)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the images in voxels."""
        return self._settings["shape"]

    @property
    def num_cascades(self) -> int:
        """How many times the network is applied."""
        return self._settings["num_cascades"]

    @property
    def has_velocity(self) -> bool:
        """Whether the warp is the integral of a velocity, so that ``inverse`` is there."""
        return self._settings["int_steps"] > 0

    def for_shape(self, shape: Sequence[int]) -> "Registration":
        """The same network for images of another shape: same encoder, settings and weights.

        It is convolutional, and so applies to any size; weights are copied, not shared.

        Args:
            shape: as many sizes in voxels as before.

        Raises:
            ValueError: the shape has another number of sizes, or is too small.
        """
        if len(shape) != len(self.shape):
            raise ValueError(
                f"shape is {tuple(shape)}, but the network is for {len(self.shape)}D images; give "
                f"{len(self.shape)} sizes"
            )
        settings = {**self._settings, "shape": shape}
        network = Registration(
            self.extract.encoder, name=self.name, preprocessing=self.preprocessing, **settings
        )
        network.dense.set_weights(self.dense.get_weights())
        return network

    def build(self, input_shape):
        """Nothing to build: all parts have their weights."""
        self.built = True
        self._build_input_shape = input_shape

    def call(self, inputs, training=None):
        """Displacement of a pair (moving, fixed)."""
        return self._passes(inputs[0], self._features(inputs), self.num_cascades, training)[0]

    @tf.function(reduce_retracing=True)
    def forward(self, inputs) -> tf.Tensor:
        """What ``call`` gives, as a graph, which is many times as fast outside ``fit``."""
        return self(inputs)

    @tf.function(reduce_retracing=True)
    def inverse(self, inputs) -> tf.Tensor:
        """Displacement of a pair (moving, fixed) that undoes ``call``, on the grid of the moving.

        The integral of the negated velocity, of all passes composed in reverse order.

        Raises:
            ValueError: the network has no velocity, its ``int_steps`` is 0.
        """
        steps = self._settings["int_steps"]
        if not self.has_velocity:
            raise ValueError(
                "the network is without a velocity (int_steps is 0); use invert_displacement"
            )
        velocities = self._passes(inputs[0], self._features(inputs), self.num_cascades, False)[1]

        def backward(velocity):
            field = tf.map_fn(lambda one: integrate(-one, steps), velocity)
            return self._crop(resize_displacement(field, self._padded_shape))

        *earlier, total = map(backward, velocities)
        for displacement in reversed(earlier):
            total = compose_batch(total, displacement)
        return total

    def _features(self, inputs):
        moving, fixed = inputs
        return tf.split(self.extract(tf.concat([moving, fixed], axis=0)), 2)

    def _register(self, features, training):
        """Displacement, cropped, and the field that is regularized, on the padded grid."""
        padded = [self._pad(one) for one in features]
        displacement, field = self.dense(padded, training=training)
        return self._crop(displacement), field

    def _passes(self, moving, features, count, training):
        """Displacement of so many passes, and the field of each that is regularized."""
        total, field = self._register(features, training)
        fields = [field]
        for _ in range(count - 1):
            moved = self.extract(warp_batch(moving, total))
            displacement, field = self._register((moved, features[1]), training)
            total = compose_batch(total, displacement)
            fields.append(field)
        return total, fields

    def _crop(self, displacement):
        sizes = (slice(None), *(slice(size) for size in self.shape))
        return tf.cast(displacement[sizes], tf.float32)

    def get_config(self):
        """Arguments that build this network again."""
        encoder = self.extract.encoder
        return {
            "name": self.name,
            "encoder": encoder and keras.saving.serialize_keras_object(encoder),
            "preprocessing": self.preprocessing.to_config(),
            **self._settings,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The network of a ``get_config``."""
        register_classes()
        config = with_present_names(config)
        config.setdefault("preprocessing", Preprocessing(scaling=BEFORE_0_2))
        config["encoder"] = config["encoder"] and keras.saving.deserialize_keras_object(
            config["encoder"], custom_objects=custom_objects
        )
        return cls(**config)


RegistrationNetwork = Registration  # its name before version 0.3, also in files
