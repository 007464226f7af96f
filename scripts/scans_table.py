"""Arguments of the scripts that train on a table of scans."""

import argparse
from pathlib import Path

import pandas as pd


def train_on_table(argv, description: str, word: str, column: str, config_class, train, more=()):
    """Read the arguments and the table, and train.

    Args:
        argv: arguments; None for those of the process.
        description: of the script; the first line is shown.
        word: for the scans: the name of the option that takes the table.
        column: of the table, with the file that belongs to each image. The table may have the
            borders in mm too; see ``read_head``.
        config_class: ``StripperConfig`` or one derived from it.
        train: called with the folder, the configuration and the files of each scan by its name.
        more: names of further options, and what ``add_argument`` gets for each; their values are
            arguments of ``config_class``, of the same name or of that in ``dest``.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument(
        f"--{word}",
        dest="table",
        type=Path,
        required=True,
        help=f"CSV file: name, image, {column}, and border if any",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--without", nargs="*", default=[], help=f"names of {word} to leave out")
    parser.add_argument("--steps", type=int, default=config_class.steps)
    parser.add_argument("--learning-rate", type=float, default=config_class.learning_rate)
    parser.add_argument("--initial", help="file of a model to start from")
    parser.add_argument("--seed", type=int, default=0)
    for name, kind in more:
        parser.add_argument(f"--{name.replace('_', '-')}", **kind)
    args = parser.parse_args(argv)

    table = pd.read_csv(args.table).set_index("name").drop(index=args.without)
    scans = {
        name: tuple(args.table.parent / row[each] for each in ("image", column))
        for name, row in table.iterrows()
    }
    config = config_class(
        steps=args.steps,
        learning_rate=args.learning_rate,
        initial=args.initial,
        seed=args.seed,
        **{name: getattr(args, name) for name in (kind.get("dest", name) for name, kind in more)},
        borders=table["border"].fillna(0).astype(float).to_dict() if "border" in table else {},
    )
    train(args.out, config, scans)
