"""Networks that compute in lower precision while they are trained."""

import contextlib
import json

from cifl_tf._compat import keras


@contextlib.contextmanager
def precision_policy(name: str):
    """Build the layers of a block with a Keras precision policy, and restore the one before."""
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def in_float32(network: keras.Model) -> keras.Model:
    """The same network with the same weights, computing in float32; itself where it does already.

    Weights are float32 under every policy of ``TrainingConfig``, so nothing is lost.
    """
    config = json.dumps(network.get_config())
    if "mixed_bfloat16" not in config:
        return network
    copy = type(network).from_config(json.loads(config.replace("mixed_bfloat16", "float32")))
    copy.set_weights(network.get_weights())
    return copy
