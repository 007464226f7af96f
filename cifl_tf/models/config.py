"""Which classes a model file may name.

Keras imports whatever module the ``config.json`` of a model names, and calls functions in it. So
every name is looked up here before Keras sees it, and Keras gets the names of these tables in place
of those in the file.
"""

import importlib
import json

from cifl_tf._compat import keras
from cifl_tf.models.order import check_order, count_calls

MAX_DEPTH = 100  # of lists and objects; an averaged segmenter on features has 25
MAX_CLASSES = 5000  # named in one file; a segmenter with features has about 200
MAX_CALLS = 10_000  # of layers; a network within others counts as often as they call it
PREFIX = "cifl_tf>"  # of the classes that this package registers with Keras
# Modules that register classes, so that these are known whatever was imported before.
REGISTERING_MODULES = (
    "augmentation.test_time",
    "features.cifl",
    "features.encoder",
    "features.frozen",
    "features.layers",
    "features.losses",
    "features.mind",
    "features.slicewise",
    "models.image_model",
    "registration.dense",
    "registration.network",
    "registration.similarity",
    "segmentation.losses",
    "segmentation.segmenter",
    "stripping.losses",
    "stripping.stripper",
    "synthesis.integration",
    "synthesis.pairs",
)
# Of Keras what images need and what holds no code. Not Lambda and TFOpLambda, which call functions;
# not lookups and text vectorization, which read files; not recurrent layers, which unroll without a
# bound.
KERAS_NAMES = {
    "keras": "Sequential",
    "keras.layers": """
        Activation ActivityRegularization Add AdditiveAttention AlphaDropout Attention Average
        AveragePooling1D AveragePooling2D AveragePooling3D BatchNormalization CenterCrop Concatenate
        Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose Cropping1D Cropping2D
        Cropping3D Dense DepthwiseConv1D DepthwiseConv2D Dot Dropout ELU EinsumDense Flatten
        GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D
        GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
        GroupNormalization Identity InputLayer LayerNormalization LeakyReLU Masking MaxPooling1D
        MaxPooling2D MaxPooling3D Maximum Minimum MultiHeadAttention Multiply Normalization PReLU
        Permute ReLU RepeatVector Rescaling Reshape Resizing SeparableConv1D SeparableConv2D Softmax
        SpatialDropout1D SpatialDropout2D SpatialDropout3D SpectralNormalization Subtract
        ThresholdedReLU TimeDistributed UnitNormalization UpSampling1D UpSampling2D UpSampling3D
        ZeroPadding1D ZeroPadding2D ZeroPadding3D
    """,
    "keras.initializers": """
        Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity LecunNormal LecunUniform
        Ones Orthogonal RandomNormal RandomUniform TruncatedNormal VarianceScaling Zeros
    """,
    "keras.regularizers": "L1 L1L2 L2 OrthogonalRegularizer",
    "keras.constraints": "MaxNorm MinMaxNorm NonNeg RadialConstraint UnitNorm",
    "keras.mixed_precision": "Policy",
}
# Module by module and class in a file. Functional models have no exported class, and their module
# moved with the releases of Keras.
FUNCTIONAL = "tf_keras.src.engine.functional"
KERAS_CLASSES = {
    **{(module, name): module for module, names in KERAS_NAMES.items() for name in names.split()},
    ("keras.src.engine.functional", "Functional"): FUNCTIONAL,
    ("keras.engine.functional", "Functional"): FUNCTIONAL,
}
ACTIVATIONS = frozenset(
    name
    for name in dir(keras.activations)
    if not name.startswith("_") and name not in ("deserialize", "get", "serialize")
)
# Constants in place of the output of a layer: what they go through runs while a model is loaded.
CONSTANTS = {"_CONSTANT_VALUE", "_COMPOSITE_TYPE"}
NAMING = {"class_name", "module", "registered_name"}
# What belongs to training: losses and optimizers, and the layer that draws images, which makes
# lists as long as its configuration asks for.
LEFT_OUT = {"compile_config", "synthesizer"}
DRAWS_IMAGES = "cifl_tf>PairSynthesizer"
HINTS = {
    "Lambda": "; write a Lambda layer as a layer of Keras",
    "TFOpLambda": "; write sums and TensorFlow functions as layers such as Add",
    "SlicingOpLambda": "; write slices as layers such as Cropping2D",
}


def checked_config(text: bytes) -> dict:
    """The configuration of a model, of which every class is one of Keras' or of this package.

    The configuration of training is left out: it is not needed to apply a model.

    Args:
        text: ``config.json``.

    Raises:
        ValueError: it is no JSON object, too deep or too long, or names anything else.
    """
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its config.json cannot be read: {error}") from error
    if not isinstance(config, dict) or "class_name" not in config:
        raise ValueError("its config.json describes no network")
    checked = _Walk().checked(config)
    if count_calls(checked) > MAX_CALLS:
        raise ValueError(f"its network takes more than {MAX_CALLS} calls of layers")
    return checked


class _Walk:
    """One walk through a configuration."""

    def __init__(self):
        self.classes = 0
        self.own = own_classes()

    def checked(self, node, depth=0):
        """The node, with the names of the tables."""
        if depth > MAX_DEPTH:
            raise ValueError(f"its config.json is nested more than {MAX_DEPTH} deep")
        if isinstance(node, list):
            return [self.checked(each, depth + 1) for each in node]
        if isinstance(node, str) and node in CONSTANTS:
            raise ValueError("it feeds constants to its layers")
        if not isinstance(node, dict):
            return node
        if NAMING & node.keys():
            self.classes += 1
            if self.classes > MAX_CLASSES:
                raise ValueError(f"its config.json names more than {MAX_CLASSES} classes")
            if node.get("class_name") == "function":
                return _activation(node)
            node = {**node, **self.names(node)}
        if "input_layers" in node:
            check_order(node["layers"], self.own)
        return {key: self.value(key, each, depth) for key, each in node.items()}

    def value(self, key, value, depth):
        """The value of a key."""
        if key in LEFT_OUT:
            return None
        if key.endswith("activation") and isinstance(value, str) and value not in ACTIVATIONS:
            raise ValueError(f"it names the activation {value!r}, which is not one of Keras'")
        return self.checked(value, depth + 1)

    def names(self, node):
        """Module, class and registered name of the tables for those of an object."""
        module, name = node.get("module"), node.get("class_name")
        registered = node.get("registered_name")
        if all(isinstance(each, str) for each in (module, name, registered or "")):
            if registered in self.own:
                own = self.own[registered]
                if f"{module}.".startswith("cifl_tf.") and PREFIX + name == registered:
                    return {"module": own.__module__, "class_name": own.__name__}
            elif registered in (None, name):
                public = KERAS_CLASSES.get((module.removeprefix("tf_"), name))
                if public is not None:
                    return {"module": public, "registered_name": None}
        raise ValueError(
            f"it names {_short(module)}.{_short(name)}"
            + (f" (registered as {_short(registered)})" if registered not in (None, name) else "")
            + ", which is neither a layer of cifl_tf nor one of Keras without code"
            + HINTS.get(name if isinstance(name, str) else "", "")
        )


def register_classes() -> None:
    """Import all classes that a file may name; Keras finds no layer that nobody imported."""
    for module in REGISTERING_MODULES:
        importlib.import_module(f"cifl_tf.{module}")


def own_classes() -> dict[str, type]:
    """The layers and models that this package registers with Keras, by their registered names."""
    register_classes()
    return {
        name: found
        for name, found in keras.saving.get_custom_objects().items()
        if name.startswith(PREFIX) and name != DRAWS_IMAGES
        if isinstance(found, type) and issubclass(found, keras.layers.Layer)
    }


def _activation(node):
    """The name of a function, which must be an activation of Keras'."""
    module, name = node.get("module"), node.get("config")
    if module not in ("builtins", "keras.activations") or name not in ACTIVATIONS:
        raise ValueError(
            f"it names the function {_short(module)}.{_short(name)}, which is not an activation "
            "of Keras'"
        )
    return name


def _short(value):
    """A value of a file, as far as a message has room for it."""
    text = value if isinstance(value, str) else repr(value)
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= 60 else f"{text[:60]}..."
