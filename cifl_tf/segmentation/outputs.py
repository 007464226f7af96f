"""Networks with another last layer, for other labels."""

from cifl_tf._compat import keras


def with_outputs(network: keras.Model, count: int) -> keras.Model:
    """A copy of a network whose last convolution is new and has so many channels.

    Args:
        network: functional; what follows its last convolution has no weights.
        count: channels.

    Raises:
        ValueError: no layer of the network is a convolution, or weights follow the last one.

    Example:
        >>> import cifl_tf as cifl
        >>> from cifl_tf.segmentation.outputs import with_outputs
        >>> network = cifl.build_segmenter(None, 3, ndim=3, num_filters=2, num_levels=2)
        >>> with_outputs(network, 5).output_shape[-1]
        5
    """
    weighted = [layer for layer in network.layers if layer.weights]
    last = weighted[-1] if weighted else None
    if not isinstance(last, (keras.layers.Conv2D, keras.layers.Conv3D, keras.Model)):
        found = "no weights" if last is None else f"{type(last).__name__} {last.name!r} last"
        raise ValueError(
            f"the network has {found}, but its last layer with weights must be a convolution; "
            "build a new segmenter for these labels"
        )

    def copied(layer):
        if layer is last and isinstance(layer, keras.Model):
            return with_outputs(layer, count)
        config = layer.get_config()
        return type(layer).from_config({**config, "filters": count} if layer is last else config)

    copy = keras.models.clone_model(network, clone_function=copied)
    for layer in weighted[:-1]:
        copy.get_layer(layer.name).set_weights(layer.get_weights())
    return copy
