"""Copy a trained encoder to the weights that ship with the package.

    cifl train --out my_model
    python scripts/ship_encoder.py my_model shapes-2d

Takes what ``load_pretrained`` and the model card need, draws the training curve, and renews the
checksums. The card, ``cifl_tf/weights/NAME/README.md``, is written by hand.
"""

import argparse
import hashlib
import shutil
from pathlib import Path

from cifl_tf.callbacks import read_history
from cifl_tf.figures import curve_figure, save_figure
from cifl_tf.files import written_whole
from cifl_tf.inference import ENCODER_FILE
from cifl_tf.pretrained import SUMS_FILE, WEIGHTS
from cifl_tf.training_folder import CONFIG_FILE, HISTORY_FILE

SHOWN = ("loss", "pair_similarity", "channel_similarity", "unrelated_similarity")


def ship(folder: Path, name: str) -> None:
    """Copy the encoder of a training folder under a name, and renew the checksums."""
    target = WEIGHTS / name
    for file in (ENCODER_FILE, CONFIG_FILE, HISTORY_FILE):
        with written_whole(target / file) as temporary:
            shutil.copyfile(folder / file, temporary)
    rows = read_history(target / HISTORY_FILE)
    curves = {key: [float(row[key]) for row in rows] for key in SHOWN}
    figure = curve_figure([int(row["step"]) for row in rows], curves)
    save_figure(figure, target / "training.png")
    # Weights only: another line ending in a text file does no harm.
    files = sorted(WEIGHTS.glob(f"*/{ENCODER_FILE}"))
    with written_whole(WEIGHTS / SUMS_FILE) as temporary:
        temporary.write_text(
            "".join(
                f"{hashlib.sha256(file.read_bytes()).hexdigest()}  "
                f"{file.relative_to(WEIGHTS).as_posix()}\n"
                for file in files
            )
        )


def main(argv=None):
    """Read the command line and ship."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of `cifl train`")
    parser.add_argument("name", help="such as shapes-2d")
    args = parser.parse_args(argv)
    ship(args.folder, args.name)
    print(f"Now write {WEIGHTS / args.name / 'README.md'}.")


if __name__ == "__main__":
    main()
