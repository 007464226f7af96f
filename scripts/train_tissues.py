"""Train the network of `cifl segment IMAGE` on brains of random contrast and shape.

    python scripts/train_tissues.py --brains labels/brains.csv --out tissues

The table has the columns name, image and labels: a scan, and its label map, which scripts/
label_brains.py makes, with paths from its own folder. The same command goes on after an
interruption.
"""

import argparse
from pathlib import Path

import cifl_tf  # noqa: F401  isort: skip  (first: it selects Keras 2 for TensorFlow)
import pandas as pd

from cifl_tf.tissues.training import TissueConfig, train_tissues


def main(argv=None):
    """Train in a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--brains", type=Path, required=True, help="CSV file: name, image, labels")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--without", nargs="*", default=[], help="names of brains to leave out")
    parser.add_argument("--steps", type=int, default=TissueConfig.steps)
    parser.add_argument("--learning-rate", type=float, default=TissueConfig.learning_rate)
    parser.add_argument("--initial", help="file of a segmenter to start from")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)

    table = pd.read_csv(args.brains).set_index("name").drop(index=args.without)
    folder = args.brains.parent
    brains = {
        name: (folder / row["image"], folder / row["labels"]) for name, row in table.iterrows()
    }
    config = TissueConfig(
        steps=args.steps,
        learning_rate=args.learning_rate,
        initial=args.initial,
        seed=args.seed,
    )
    train_tissues(args.out, config, brains)


if __name__ == "__main__":
    main()
