"""Train the network of `cifl segment IMAGE` on brains of random contrast and shape.

    python scripts/train_tissues.py --brains labels/brains.csv --out tissues

The table has the columns name, image and labels: a scan, and its label map, which scripts/
label_brains.py makes, with paths from its own folder. The same command goes on after an
interruption.
"""

import cifl_tf  # noqa: F401  isort: skip  (first: it selects Keras 2 for TensorFlow)
from cifl_tf.tissues.training import TissueConfig, train_tissues
from scans_table import train_on_table


def main(argv=None):
    """Train in a folder."""
    options = (
        ("encoder", {"help": "whose features the U-Net sees, such as shapes-3d-v2"}),
        ("with_image", {"action": "store_true", "help": "the U-Net sees the image beside them"}),
    )
    train_on_table(argv, __doc__, "brains", "labels", TissueConfig, train_tissues, options)


if __name__ == "__main__":
    main()
