"""Copy a trained encoder to the weights that ship with the package.

    cifl train --out my_model
    python scripts/ship_encoder.py my_model shapes-2d
    python scripts/ship_encoder.py --checksums

Takes what ``load_pretrained`` and the model card need, draws the training curve, and renews the
checksums. The card, ``cifl_tf/weights/NAME/README.md``, is written by hand; the second command
renews the checksums after that.
"""

import argparse
import hashlib
import shutil
from pathlib import Path

from cifl_tf.callbacks import read_history
from cifl_tf.figures import curve_figure, save_figure
from cifl_tf.files import written_whole
from cifl_tf.inference import ENCODER_FILE
from cifl_tf.pretrained import CARD_FILE, SUMS_FILE, WEIGHTS
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
    renew_checksums()


def renew_checksums() -> None:
    """Write the checksums of all files that ship, but of hidden ones."""
    files = [file for file in sorted(WEIGHTS.glob("*/*")) if not file.name.startswith(".")]
    lines = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(WEIGHTS).as_posix()}\n"
        for file in files
    ]
    with written_whole(WEIGHTS / SUMS_FILE) as temporary:
        temporary.write_text("".join(lines), newline="\n")


def main(argv=None):
    """Read the command line and ship."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="folder of `cifl train`")
    parser.add_argument("name", nargs="?", help="such as shapes-2d")
    parser.add_argument("--checksums", action="store_true", help="renew the checksums only")
    args = parser.parse_args(argv)
    if args.checksums == (args.name is not None):
        parser.error("give the folder of a training and a name, or --checksums alone")
    if args.checksums:
        renew_checksums()
        return
    ship(args.folder, args.name)
    card = WEIGHTS / args.name / CARD_FILE
    print(f"Now write {card}, then renew the checksums: python scripts/ship_encoder.py --checksums")


if __name__ == "__main__":
    main()
