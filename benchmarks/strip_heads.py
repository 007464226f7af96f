"""Brain masks of heads whose brains are known: Dice, distance, seconds, and memory.

    python benchmarks/strip_heads.py --heads heads.csv --data ../shared/data --out masks

The table has the columns head (a name), image and mask, with paths from --data. Where the mask is a
map of tissues, which leaves fluid out between the folds, give 6 in the column closing: the mask is
closed by a ball of this radius in mm, and its holes are filled. A head without a mask is looked at
only. --out gets a picture for each head. Prints a Markdown table.
"""

import argparse
import time
from pathlib import Path

import cifl_tf as cifl  # first: it selects Keras 2 for TensorFlow

import nibabel  # isort: skip
import numpy as np
import pandas as pd
from nibabel.affines import voxel_sizes
from nilearn.image import resample_to_img
from scipy.ndimage import binary_fill_holes, distance_transform_edt

from cifl_tf.figures.masks import save_mask_picture
from cifl_tf.images.memory import peak_memory
from cifl_tf.metrics import dice, hausdorff95
from results_table import add_json_option, show_table


def closed(mask: np.ndarray, sizes, radius: float) -> np.ndarray:
    """A mask after closing by a ball of a radius in mm, without holes."""
    margin = [int(np.ceil(radius / size)) + 1 for size in sizes]
    padded = np.pad(mask, [(one, one) for one in margin])
    wider = distance_transform_edt(~padded, sizes) <= radius
    narrowed = binary_fill_holes(distance_transform_edt(wider, sizes) > radius)
    return narrowed[tuple(slice(one, -one) for one in margin)]


def known_mask(file: Path, closing: float, image) -> np.ndarray:
    """The brain mask of a file on the grid of an image."""
    mask = nibabel.load(file)
    inside = np.asarray(mask.dataobj) > 0
    if closing > 0:
        inside = closed(inside, voxel_sizes(mask.affine), closing)
    share = nibabel.Nifti1Image(inside.astype(np.float32), mask.affine)
    resampled = resample_to_img(
        share, image, interpolation="linear", force_resample=True, copy_header=True
    )
    return np.asarray(resampled.dataobj) > 0.5


def main(argv=None):
    """Strip the heads and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--heads", type=Path, required=True, help="CSV file: head, image, mask, closing"
    )
    parser.add_argument("--data", type=Path, default=Path(), help="folder that its paths lead from")
    parser.add_argument("--model", default="strip", help="as of `cifl strip`")
    parser.add_argument("--border", type=float, default=0.0, help="mm, as of `cifl strip`")
    parser.add_argument("--out", type=Path, help="folder for pictures")
    add_json_option(parser, "the rows with a known mask")
    args = parser.parse_args(argv)
    stripper = cifl.Stripper.from_pretrained(args.model)
    rows = []
    for row in pd.read_csv(args.heads).to_dict("records"):
        start = time.process_time()
        found = stripper.strip(args.data / row["image"], args.border)
        line = {
            "head": row["head"],
            "ml": f"{found.volume_ml:.0f}",
            "seconds": f"{time.process_time() - start:.1f}",
        }
        if isinstance(row["mask"], str):
            radius = float(np.nan_to_num(row.get("closing", 0)))
            known = known_mask(args.data / row["mask"], radius, found.mask)
            sizes = voxel_sizes(found.mask.affine)
            pair = known.astype(int), np.asarray(found.mask.dataobj).astype(int)
            line |= {
                "known ml": f"{known.sum() * np.prod(sizes) / 1000:.0f}",
                "Dice": f"{dice(*pair, [1])[0]:.3f}",
                "HD95 (mm)": f"{hausdorff95(*pair, [1], sizes)[0]:.1f}",
            }
        rows.append(line)
        if args.out:
            name = Path(row["image"]).name.split(".")[0]
            save_mask_picture(found.image, found.mask, args.out / f"{name}.png")
    columns = ["head", "Dice", "HD95 (mm)", "ml", "known ml", "seconds"]
    table = pd.DataFrame(rows).reindex(columns=columns).fillna("")
    show_table(table, args.json, table[table["Dice"] != ""])
    print(f"Peak memory: {peak_memory():.0f} MB")


if __name__ == "__main__":
    main()
