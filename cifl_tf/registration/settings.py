"""Settings of a registration network, and what they may be."""

from cifl_tf._checks import AT_LEAST_0, COUNT, Number, check_choice, check_fields

REGISTRATION_FILE = "registration.keras"
SIMILARITIES = ("image", "features", "labels")
MULTIPLE = 16  # of the sizes that voxelmorph's U-Net takes
MAX_INT_STEPS, MAX_PASSES = 30, 100  # each is a part of the graph; 7 and 1 are usual


def check_settings(settings) -> None:
    """Refuse settings of a ``Registration`` that make no network.

    Args:
        settings: an object with the arguments of the network that are numbers, and its similarity.

    Raises:
        ValueError: an unknown similarity, a negative weight, labels without a weight that are all
            the loss compares, or a number that is not finite or whole, too low or too high.
    """
    check_choice("similarity", settings.similarity, SIMILARITIES)
    if settings.similarity == "labels" and settings.label_weight == 0:
        raise ValueError(
            "similarity is 'labels', but label_weight is 0, so the loss compares nothing; give a "
            "weight above 0"
        )
    check_fields(
        settings,
        smoothness=AT_LEAST_0,
        label_weight=AT_LEAST_0,
        int_steps=Number(f"0 to {MAX_INT_STEPS}", 0, MAX_INT_STEPS, whole=True),
        int_resolution=COUNT,
        num_filters=COUNT,
        num_cascades=Number(f"1 to {MAX_PASSES}", 1, MAX_PASSES, whole=True),
    )


def check_scales(settings) -> None:
    """Refuse the ``scales`` and ``steps`` of settings that do not go together.

    Raises:
        ValueError: there are none, more of one than of the other, or one is no whole number
            above 0.
    """
    if len(settings.scales) != len(settings.steps) or not settings.scales:
        raise ValueError(
            f"scales are {settings.scales} and steps {settings.steps}; give as many steps as "
            "scales, and at least one of each"
        )
    for name in ("scales", "steps"):
        for value in getattr(settings, name):
            COUNT.check(name, value)


def checked_shape(shape, encoder) -> tuple[int, ...]:
    """The shape of the images of a network as whole numbers.

    Args:
        shape: two or three sizes in voxels.
        encoder: of the network, or None.

    Raises:
        ValueError: there are more sizes or fewer, one is too small, or the encoder is for others.
    """
    shape = tuple(int(size) for size in shape)
    if len(shape) not in (2, 3) or min(shape) < MULTIPLE // 2:
        raise ValueError(
            f"shape is {shape}; give two or three sizes of at least {MULTIPLE // 2} voxels"
        )
    if encoder is not None and len(encoder.input_shape) - 2 != len(shape):
        raise ValueError(
            f"the encoder is for {len(encoder.input_shape) - 2}D images, but the shape is {shape}; "
            "give an encoder of the same dimensions"
        )
    return shape
