"""Train the network of `cifl strip` on heads of random contrast and shape.

    python scripts/train_stripper.py --heads heads.csv --out stripper --steps 2000

The table has the columns name, image and mask: a scan of a whole head and its brain mask (or the
stripped scan), with paths from its own folder. A column border gives the mm by which each mask is
to be wider, so that masks of different tools mean the same. The same command goes on after an
interruption.
"""

import argparse

import cifl_tf  # noqa: F401  isort: skip  (first: it selects Keras 2 for TensorFlow)
from cifl_tf.stripping.examples import HeadVariation
from cifl_tf.stripping.training import StripperConfig, train_stripper
from scans_table import train_on_table


def variation(text: str) -> HeadVariation:
    """What changes the heads, by the text of a voxel size in mm."""
    size = float(text)
    if not 1 <= size <= 10:
        raise argparse.ArgumentTypeError(f"{text} mm; give 1 to 10")
    return HeadVariation.of_voxel_size(size)


def main(argv=None):
    """Train in a folder."""
    voxel_size = {
        "dest": "variation",
        "type": variation,
        "default": HeadVariation(),
        "metavar": "MM",
        "help": "of the voxels that the network sees; 3 if not given",
    }
    options = [("voxel_size", voxel_size)]
    train_on_table(argv, __doc__, "heads", "mask", StripperConfig, train_stripper, options)


if __name__ == "__main__":
    main()
