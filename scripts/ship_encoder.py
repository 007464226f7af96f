"""Copy a trained encoder, stripper or segmenter to the weights that ship with the package.

    cifl train --out my_model
    python scripts/ship_encoder.py my_model shapes-2d
    python scripts/ship_encoder.py my_stripper strip
    python scripts/ship_encoder.py my_segmenter tissues
    python scripts/ship_encoder.py --checksums

Takes what ``load_pretrained`` and the model card need, states the voxel sizes in the encoder, draws
the training curve, and renews the checksums. The card, ``cifl_tf/weights/NAME/README.md``, is
written by hand; the second command renews the checksums after that.
"""

import argparse
import hashlib
import json
import shutil
from pathlib import Path

from cifl_tf.features.encoder import Encoder, build_encoder, transfer_weights
from cifl_tf.features.pretrained import CARD_FILE, ENCODER_FILE, SUMS_FILE, WEIGHTS
from cifl_tf.figures.panels import curve_figure, save_figure
from cifl_tf.images.atomic import atomic_path
from cifl_tf.images.preprocessing import Preprocessing
from cifl_tf.models.files import SEGMENTER, STRIPPER, load_network
from cifl_tf.segmentation.segmenter import SEGMENTER_FILE
from cifl_tf.stripping.stripper import STRIPPER_FILE
from cifl_tf.training.callbacks import read_history
from cifl_tf.training.claims import CONFIG_FILE, read_config
from cifl_tf.training.folder import HISTORY_FILE

VOXEL_RANGE = (0.8, 2.5)  # around the 1 and 2 mm of the images that encoders were measured at
COMPLETE = {STRIPPER_FILE: STRIPPER, SEGMENTER_FILE: SEGMENTER}
SHOWN = (
    "loss",
    "pair_similarity",
    "channel_similarity",
    "unrelated_similarity",
    "brain_dice",
    "dice",
)


def described(folder: Path, voxel_range: tuple[float, float]) -> Encoder:
    """The encoder of a training folder, as this version builds it, with its voxel sizes.

    Args:
        folder: of `cifl train`, or one that ships.
        voxel_range: smallest and largest voxel size in mm that it was measured at.
    """
    config = read_config(folder)
    kind = {key: config[key] for key in ("ndim", "num_features", "num_filters", "architecture")}
    encoder = build_encoder(**kind)
    transfer_weights(encoder, load_network(folder / ENCODER_FILE))
    return Encoder(encoder, Preprocessing((voxel_range,) * 3))


def ship(folder: Path, name: str, voxel_range: tuple[float, float] = VOXEL_RANGE) -> None:
    """Write the encoder of a training folder under a name, and renew the checksums."""
    target = WEIGHTS / name
    complete = [one for one in COMPLETE if (folder / one).exists()]
    file = complete[0] if complete else ENCODER_FILE
    if complete:  # it knows its voxel size
        model = load_network(folder / file, COMPLETE[file])
    else:
        model = described(folder, voxel_range)
    with atomic_path(target / file) as temporary:
        model.save(temporary)
    with atomic_path(target / CONFIG_FILE) as temporary:
        temporary.write_text(json.dumps(public_config(folder), indent=2) + "\n")
    with atomic_path(target / HISTORY_FILE) as temporary:
        shutil.copyfile(folder / HISTORY_FILE, temporary)
    rows = read_history(target / HISTORY_FILE)
    curves = {key: [float(row[key]) for row in rows] for key in SHOWN if key in rows[0]}
    figure = curve_figure([int(row["step"]) for row in rows], curves)
    save_figure(figure, target / "training.png")
    renew_checksums()


def public_config(folder: Path) -> dict:
    """The configuration of a training, without the places of its files."""
    config = read_config(folder)
    for key in ("heads", "brains"):
        if key in config:
            config[key] = [*config[key]]
    if config.get("initial"):
        config["initial"] = Path(config["initial"]).name
    return config


def renew_checksums() -> None:
    """Write the checksums of all files that ship, but of hidden ones."""
    files = [file for file in sorted(WEIGHTS.glob("*/*")) if not file.name.startswith(".")]
    lines = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(WEIGHTS).as_posix()}\n"
        for file in files
    ]
    with atomic_path(WEIGHTS / SUMS_FILE) as temporary:
        temporary.write_text("".join(lines), newline="\n")


def main(argv=None):
    """Read the command line and ship."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="folder of `cifl train`")
    parser.add_argument("name", nargs="?", help="such as shapes-2d")
    parser.add_argument(
        "--voxel-range",
        type=float,
        nargs=2,
        default=VOXEL_RANGE,
        metavar=("SMALLEST", "LARGEST"),
        help="voxel sizes in mm that it was measured at (%(default)s)",
    )
    parser.add_argument("--checksums", action="store_true", help="renew the checksums only")
    args = parser.parse_args(argv)
    if args.checksums == (args.name is not None):
        parser.error("give the folder of a training and a name, or --checksums alone")
    if args.checksums:
        renew_checksums()
        return
    ship(args.folder, args.name, tuple(args.voxel_range))
    card = WEIGHTS / args.name / CARD_FILE
    print(f"Now write {card}, then renew the checksums: python scripts/ship_encoder.py --checksums")


if __name__ == "__main__":
    main()
