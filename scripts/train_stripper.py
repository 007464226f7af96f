"""Train the network of `cifl strip` on heads of random contrast and shape.

    python scripts/train_stripper.py --heads heads.csv --out stripper --steps 2000

The table has the columns name, image and mask: a scan of a whole head and its brain mask (or the
stripped scan), with paths from its own folder. The same command goes on after an interruption.
"""

import argparse
from pathlib import Path

import cifl_tf  # noqa: F401  isort: skip  (first: it selects Keras 2 for TensorFlow)
import pandas as pd

from cifl_tf.stripping.training import StripperConfig, train_stripper


def main(argv=None):
    """Train in a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--heads", type=Path, required=True, help="CSV file: name, image, mask")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--without", nargs="*", default=[], help="names of heads to leave out")
    parser.add_argument("--steps", type=int, default=StripperConfig.steps)
    parser.add_argument("--learning-rate", type=float, default=StripperConfig.learning_rate)
    parser.add_argument("--initial", help="file of a stripper to start from")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)

    table = pd.read_csv(args.heads).set_index("name").drop(index=args.without)
    heads = {
        name: tuple(args.heads.parent / row[column] for column in ("image", "mask"))
        for name, row in table.iterrows()
    }
    config = StripperConfig(
        steps=args.steps,
        learning_rate=args.learning_rate,
        initial=args.initial,
        seed=args.seed,
    )
    train_stripper(args.out, config, heads)


if __name__ == "__main__":
    main()
