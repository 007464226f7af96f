"""Settings of a registration network, and what they may be."""

MULTIPLE = 16  # of the sizes that voxelmorph's U-Net takes


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
