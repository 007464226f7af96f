"""Registration: frozen features of two images and a voxelmorph network as one Keras model."""

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import tensorflow as tf

from cifl_tf._compat import keras, vxm
from cifl_tf._random_keys import key_of, split_key
from cifl_tf.features.frozen import FrozenFeatures
from cifl_tf.features.layers import PadToMultiple
from cifl_tf.images.intensity import BEFORE_0_2
from cifl_tf.models.former_names import with_present_names
from cifl_tf.models.image_model import Preprocessing, as_preprocessing
from cifl_tf.registration.displacements import compose_batch, warp_batch
from cifl_tf.registration.settings import MULTIPLE, check_settings, checked_shape
from cifl_tf.registration.similarity import gradient_penalty, soft_dice

# voxelmorph's own U-Net: channels on the way down, and up and after it, relative to the first.
UNET_DOWN = (1, 2, 2, 2)
UNET_UP = (2, 2, 2, 2, 2, 1, 1)


@keras.saving.register_keras_serializable(package="cifl_tf")
class RegistrationNetwork(keras.Model):
    """From a moving and a fixed image to the warp between them, seen through frozen features.

    Frozen encoder, then ``vxm.networks.VxmDense`` (Balakrishnan et al., IEEE TMI 2019) on the
    features of both. Images are padded to what its U-Net needs and the warp is cropped. By default
    the warp is the integral of a stationary velocity and so, but for discretization, a
    diffeomorphism (Dalca et al., Medical Image Analysis 2019).

    With several passes, each registers what the one before warped, with the same weights, and their
    warps are composed (Zhao et al., Recursive cascaded networks, ICCV 2019). Training makes one
    pass, validation all of them.

    Compile with the loss that compares the fixed and the warped: "mse", ``MultiScaleMSE`` or
    ``LocalNCC``. ``fit`` takes a dataset of ``((moving, fixed),)`` or of
    ``((moving, fixed), (moving_labels, fixed_labels))`` with one-hot label maps (batch, *shape,
    labels), channel 0 the background. Logged: ``loss``, ``similarity`` (what the loss compares),
    ``smoothness`` (the penalty before its weight), and with labels ``label_dice`` (soft Dice).

    Args:
        encoder: see ``build_encoder``; None registers on intensities, the paper's baseline.
        shape: two or three sizes of the images in voxels.
        remappings: see ``FrozenFeatures``.
        similarity: what the loss compares: "image", the images themselves, for training pairs that
            share a contrast (the network's inputs are features all the same), or "features".
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
        ValueError: the shape does not fit the encoder, an unknown ensemble, or what
            ``check_settings`` refuses.
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
        dense = vxm.networks.VxmDense(
            [size + -size % MULTIPLE for size in shape],
            nb_unet_features=[
                [num_filters * width for width in widths] for widths in (UNET_DOWN, UNET_UP)
            ],
            int_steps=int_steps,
            int_resolution=int_resolution,
            src_feats=self.extract.num_features,
            trg_feats=self.extract.num_features,
        )
        references = dense.references
        # Not VxmDense itself: it would warp all the features as well, which nobody asks for.
        self.dense = keras.Model(
            [references.source, references.target],
            [references.pos_flow, references.preint_flow],
            name="vxm_dense",
        )
        # What changes the intensities that the network sees in training, such as an
        # IntensityAugmentation; the loss compares the images as they are. It is not saved.
        self.intensity_augmentation: Callable | None = None
        self.intensity_seed: int | None = None  # gives every step its own; None draws without
        self._signals = {
            name: keras.metrics.Mean(name=name)
            for name in ("loss", "similarity", "smoothness", "label_dice")
        }
        self.build([(None, *shape, 1)] * 2)

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

    def for_shape(self, shape: Sequence[int]) -> "RegistrationNetwork":
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
        network = RegistrationNetwork(
            self.extract.encoder, name=self.name, preprocessing=self.preprocessing, **settings
        )
        network.dense.set_weights(self.dense.get_weights())
        return network

    @property
    def metrics(self):
        """What ``fit`` logs and resets at every epoch."""
        return list(self._signals.values())

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
        steps, resolution = self._settings["int_steps"], self._settings["int_resolution"]
        if not self.has_velocity:
            raise ValueError(
                "the network predicts displacements without a velocity (int_steps is 0); use "
                "invert_displacement"
            )
        velocities = self._passes(inputs[0], self._features(inputs), self.num_cascades, False)[1]

        def integrate(field):
            field = vxm.utils.integrate_vec(-field, method="ss", nb_steps=steps)
            if resolution == 1:
                return field
            return vxm.utils.rescale_dense_transform(field, resolution)

        *earlier, total = (self._crop(tf.map_fn(integrate, field)) for field in velocities)
        for displacement in reversed(earlier):
            total = compose_batch(total, displacement)
        return total

    def train_step(self, data):
        """One optimization step on a batch of pairs."""
        with tf.GradientTape() as tape:
            loss = self._step(data, training=True)
        self.optimizer.minimize(loss, self.trainable_variables, tape=tape)
        return self._logs(data)

    def test_step(self, data):
        """Loss and signals of a batch of pairs."""
        self._step(data, training=False)
        return self._logs(data)

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

    def _step(self, data, training):
        images, labels = _pairs(data)
        seen, count = images, self.num_cascades
        if training:
            count = 1
            seen = self._seen(images)
        features = self._features(seen)
        displacement, fields = self._passes(seen[0], features, count, training)
        # A gradient through the features' values would not pass the encoder anyway.
        moving, fixed = images if self._settings["similarity"] == "image" else features
        # The mean, because a loss by its name, such as "mse", gives one value per voxel.
        similarity = tf.reduce_mean(
            keras.losses.get(self.loss)(fixed, warp_batch(moving, displacement))
        )
        penalties = [gradient_penalty(tf.cast(field, tf.float32)) for field in fields]
        smoothness = tf.reduce_mean(penalties)
        loss = similarity + self._settings["smoothness"] * smoothness
        values = {"similarity": similarity, "smoothness": smoothness}
        if labels is not None:
            moving_labels, fixed_labels = (tf.cast(one, tf.float32) for one in labels)
            dice = tf.reduce_mean(soft_dice(fixed_labels, warp_batch(moving_labels, displacement)))
            loss += self._settings["label_weight"] * (1 - dice)
            values["label_dice"] = dice
        for name, value in {"loss": loss, **values}.items():
            self._signals[name].update_state(value)
        return loss

    def _seen(self, images):
        """The pair with the intensities that the network sees in training."""
        if self.intensity_augmentation is None:
            return images
        if self.intensity_seed is None:
            return [self.intensity_augmentation(image, None)[0] for image in images]
        # The steps of the optimizer are in the checkpoint, so that training can go on there.
        key = key_of(self.intensity_seed, 2, self.optimizer.iterations)
        pairs = zip(images, split_key(key, 2), strict=True)
        return [self.intensity_augmentation(image, None, seed=key)[0] for image, key in pairs]

    def _logs(self, data):
        _, labels = _pairs(data)
        return {
            name: signal.result()
            for name, signal in self._signals.items()
            if name != "label_dice" or labels is not None
        }

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
        config = with_present_names(config)
        config.setdefault("preprocessing", Preprocessing(scaling=BEFORE_0_2))
        config["encoder"] = config["encoder"] and keras.saving.deserialize_keras_object(
            config["encoder"], custom_objects=custom_objects
        )
        return cls(**config)


def _pairs(data):
    """The images and the labels, or None, of what a dataset yields."""
    images, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
    if not isinstance(images, tuple | list) or len(images) != 2:
        raise ValueError(
            "RegistrationNetwork is fitted on a dataset of ((moving, fixed),) or of ((moving, "
            "fixed), (moving_labels, fixed_labels)), but got one image; nest the pair in a tuple"
        )
    return images, labels
