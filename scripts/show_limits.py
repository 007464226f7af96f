"""Where features stay alike and where not: degraded images of the MNI152 brain, and real ones.

    python scripts/show_limits.py --model shapes-2d --out docs/limits --page docs/limits-tables.md

Every image is simulated from the mid-coronal MNI152 slice at 1 mm. What is measured is the
correlation of its features with those of the intact T1. ``--data`` adds real subjects, without the
quarter that other scripts test on, and ``--head`` real heads as they were scanned; of these there
are numbers only. ``--page`` rewrites the tables between markers in a page; those that were not
measured stay as they are.
"""

import argparse
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import cifl_tf as cifl  # first: it selects Keras 2 for TensorFlow

import numpy as np  # isort: skip
import pandas as pd  # isort: skip
from matplotlib import colormaps
from PIL import Image
from scipy.ndimage import (
    binary_fill_holes,
    distance_transform_edt,
)
from scipy.spatial import cKDTree

from cifl_tf.datasets import (
    load_cohort,
    split_study,
    stack_cohort,
    study_contrasts,
    study_view,
)
from cifl_tf.evaluation.summary import to_markdown
from cifl_tf.figures.features import feature_figure
from cifl_tf.figures.panels import figure_pixels
from cifl_tf.images.atomic import atomic_path
from cifl_tf.images.volumes import read_label_volume
from cifl_tf.metrics import same_channel_correlation
from limits_images import (
    GROUPS,
    LESION_CENTER,
    T1,
    Variant,
    block_means,
    interpolated,
    lesion_mask,
    variants,
)

ENSEMBLES: dict[str, tuple[str, ...]] = {"features": (), "averaged": ("inverted",)}
REACH = 8  # voxels that a feature sees far
NUM_SLICES = 9  # of a real head
NUM_CHANNELS, DPI = 4, 96  # of the pictures
MARGIN, ZOOM = 18, 34  # mm around the brain that most show; around the lesion's center, of one
COLUMNS = {
    "intensities": "intensities",
    "features": "features",
    "features_near": "near",
    "features_far": "elsewhere",
    "averaged": "features, averaged",
    "averaged_near": "near",
    "averaged_far": "elsewhere",
}


def features_at(image, encoder, spacing: int, remappings) -> np.ndarray:
    """Features (x, y, C) on the grid of the image, computed on voxels of so many of its own."""
    if spacing == 1:
        return cifl.features_of(image, encoder, remappings=remappings)
    size = (spacing, spacing)
    features = cifl.features_of(block_means(image, size), encoder, remappings=remappings)
    channels = np.moveaxis(features, -1, 0)
    return np.stack([interpolated(each, size, image.shape) for each in channels], -1)


def correlation(one, other, mask) -> float:
    """Mean over channels of their correlation inside the mask."""
    return float(np.mean(same_channel_correlation(one, other, mask)))


def compared(values: Mapping[str, tuple], mask, near=None) -> dict[str, float]:
    """Correlation of every kind of values (*spatial, C) inside the mask, near and elsewhere.

    Args:
        values: pairs by kind.
        mask: brain.
        near: booleans; None to leave out "near" and "far".
    """
    regions = {"": mask}
    if near is not None:
        regions |= {"_near": mask & near, "_far": mask & ~near}
    return {
        kind + name: correlation(*pair, region)
        for kind, pair in values.items()
        for name, region in regions.items()
        if kind + name in COLUMNS
    }


def measure(images: Mapping[str, Variant], mask, encoder) -> tuple[list[dict], dict]:
    """One row for each image, and the features (x, y, C) of each, not averaged."""
    features = {
        kind: {
            name: features_at(variant.image, encoder, variant.spacing, remappings)
            for name, variant in images.items()
        }
        for kind, remappings in ENSEMBLES.items()
    }
    near = {
        "lesion": distance_transform_edt(~lesion_mask(mask.shape)) <= REACH,
        "outside": distance_transform_edt(mask) <= REACH,
    }
    rows = []
    for name, variant in images.items():
        pairs = {kind: (each[name], each[variant.reference]) for kind, each in features.items()}
        reference = images[variant.reference].image
        pairs["intensities"] = variant.image[..., None], reference[..., None]
        numbers = compared(pairs, mask, near.get(variant.group))
        about = {"group": variant.group, "image": name, "compared_with": variant.reference}
        rows.append({**about, **numbers})
    return rows, features["features"]


def draw(images: Mapping[str, Variant], features: Mapping[str, np.ndarray], mask, out) -> None:
    """Write the pictures, each with the intact T1 in its first row."""
    brain = tuple(
        slice(max(0, found.min() - MARGIN), found.max() + MARGIN) for found in np.nonzero(mask)
    )
    lesion = tuple(slice(center - ZOOM, center + ZOOM) for center in LESION_CENTER)
    for picture in sorted({variant.picture for variant in images.values()} - {""}):
        window = lesion if picture == "lesion" else brain
        names = [T1, *(name for name, each in images.items() if each.picture == picture)]
        labels = [textwrap.fill(name, 16) for name in names]
        seen = [cifl.rescale_intensity(images[name].image)[window] for name in names]
        shown = [features[name][window] for name in names]
        figure = feature_figure(
            dict(zip(labels, seen, strict=True)),
            dict(zip(labels, shown, strict=True)),
            NUM_CHANNELS,
        )
        with atomic_path(Path(out) / f"{picture}.png") as temporary:
            indexed(figure_pixels(figure, DPI)).save(temporary, format="PNG", optimize=True)


def indexed(pixels) -> Image.Image:
    """Pixels in 64 grays and 64 colors of features, which makes files a third as large."""
    shades = [colormaps[name](np.linspace(0, 1, 64))[:, :3] for name in ("gray", "RdBu_r")]
    colors = np.rint(255 * np.concatenate(shades)).astype(np.uint8)
    _, index = cKDTree(colors).query(pixels[..., :3])
    image = Image.fromarray(index.astype(np.uint8))
    image.putpalette(colors.tobytes())
    return image


def measure_subjects(data, encoder, seed: int = 0) -> tuple[list[dict], int]:
    """Rows on the middle slice of real subjects, mean and SD over them, and their number.

    Every contrast is compared with the T1w of the same subject; so is the T1w of another, half the
    list further on, as neighbors in a list may be scans of one person.
    """
    cohort = load_cohort(data)
    train, validation, _ = split_study(cohort, seed)
    cohort = cohort.select((*train.names, *validation.names))
    center_label = study_view(cohort, 1)["center_label"]
    rows = []
    for plane in ("coronal", "axial"):
        stacks = {
            contrast: stack_cohort(cohort, contrast, 2, plane, 1, center_label)
            for contrast in study_contrasts(cohort)
        }
        masks = stacks["T1w"][1][..., 0] > 0
        pictures = {name: images[..., 0] for name, (images, _, _) in stacks.items()}
        values = {
            kind: {
                name: [cifl.features_of(image, encoder, remappings=remappings) for image in images]
                for name, images in pictures.items()
            }
            for kind, remappings in ENSEMBLES.items()
        }
        values["intensities"] = {name: stacks[name][0] for name in pictures}
        count = len(masks)
        comparisons = [(name, name, 0) for name in pictures if name != "T1w"]
        for name, contrast, step in (*comparisons, ("T1w of another subject", "T1w", count // 2)):
            found = []
            for index in range(count):
                other = (index + step) % count
                pairs = {
                    kind: (each["T1w"][index], each[contrast][other])
                    for kind, each in values.items()
                }
                near = distance_transform_edt(masks[index]) <= REACH
                found.append(compared(pairs, masks[index] & masks[other], near))
            numbers = {
                key + ending: float(statistic([each[key] for each in found]))
                for key in found[0]
                for ending, statistic in (("", np.mean), ("_sd", lambda x: np.std(x, ddof=1)))
            }
            rows.append({"plane": plane, "image": name, "compared_with": "T1w", **numbers})
    return rows, count


def measure_head(t1, flair, labels, encoder) -> list[dict]:
    """Rows on the middle coronal slices of a head, with and without what is outside the brain.

    Args:
        t1, flair: files; the FLAIR is brought to the grid of the T1 by its affine, not registered.
        labels: label map on the grid of the T1, positive in the brain.
    """
    from nilearn.image import resample_to_img  # slow to import

    resampled = resample_to_img(
        flair, t1, interpolation="linear", force_resample=True, copy_header=True
    )
    volumes = {T1: cifl.read_volume(t1).data, "FLAIR": cifl.read_volume(resampled).data}
    brain = binary_fill_holes(read_label_volume(labels).data > 0)
    start = round(np.nonzero(brain)[1].mean() - (NUM_SLICES - 1) / 2)
    cut = np.s_[:, start : start + NUM_SLICES]
    mask = brain[cut]
    images = {f"{name} head": volume[cut] for name, volume in volumes.items()}
    images |= {f"{name} brain": np.where(brain, volume, 0)[cut] for name, volume in volumes.items()}
    values = {
        kind: {
            name: cifl.features_of(image, encoder, remappings=remappings)
            for name, image in images.items()
        }
        for kind, remappings in ENSEMBLES.items()
    }
    values["intensities"] = {name: image[..., None] for name, image in images.items()}
    # Within slices: no feature sees the next one.
    near = distance_transform_edt(mask, (1, 1e6, 1)) <= REACH
    rows = []
    for name, reference in (
        ("T1 head", "T1 brain"),
        ("FLAIR head", "FLAIR brain"),
        ("FLAIR brain", "T1 brain"),
        ("FLAIR head", "T1 head"),
    ):
        pairs = {kind: (each[name], each[reference]) for kind, each in values.items()}
        rows.append({"image": name, "compared_with": reference, **compared(pairs, mask, near)})
    return rows


def table(rows: Sequence[Mapping], first: Mapping[str, str]) -> str:
    """Markdown table of rows: the columns ``first`` and the numbers that the rows have.

    "compared_with" is left out where it is the same for all.
    """
    keys = [key for key in COLUMNS if key in rows[0]]
    if len({row["compared_with"] for row in rows}) == 1:
        first = {key: name for key, name in first.items() if key != "compared_with"}

    def number(row, key):
        spread = f" ± {row[f'{key}_sd']:.3f}" if f"{key}_sd" in row else ""
        return f"{row[key]:.3f}{spread}"

    cells = [[*(row[key] for key in first), *(number(row, key) for key in keys)] for row in rows]
    headings = [*first.values(), *(COLUMNS[key] for key in keys)]
    return to_markdown(pd.DataFrame(cells, columns=headings))


def write_csv(path: Path, rows: Sequence[Mapping]) -> None:
    """Write rows, numbers with four decimals, empty where a row has none."""
    with atomic_path(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False, float_format="%.4f")


def replace_part(page: Path, name: str, text: str) -> None:
    """Put text between the markers of this name in a page.

    Raises:
        ValueError: the page has no such markers.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    old = page.read_text()
    before, found_begin, rest = old.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"{page} has no lines {begin!r} and {end!r}; add them where it belongs")
    with atomic_path(page) as temporary:
        temporary.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def main(argv=None):
    """Measure, write CSV and PNG files, and print the tables or put them into the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="shapes-2d", help="2D encoder: name, folder or file")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--page", type=Path, help="Markdown page whose tables are renewed")
    parser.add_argument("--data", help="real subjects: a dataset with T1w images and labels")
    parser.add_argument(
        "--head",
        nargs=3,
        action="append",
        default=[],
        metavar=("T1", "FLAIR", "LABELS"),
        help="a real head; the labels are positive in the brain; may be repeated",
    )
    args = parser.parse_args(argv)

    encoder = cifl.load_encoder(args.model)
    about = f"Encoder: `{Path(args.model).name}`, {encoder.output_shape[-1]} channels."
    images, mask = variants()
    rows, features = measure(images, mask, encoder)
    write_csv(args.out / "limits.csv", rows)
    draw(images, features, mask, args.out)
    first = {"image": "image", "compared_with": "compared with"}
    parts = [f"{about}\n"]
    for group, heading in GROUPS.items():
        members = [row for row in rows if row["group"] == group]
        parts.append(f"**{heading}**\n\n{table(members, first)}")
    texts = {"simulated": "\n".join(parts)}
    if args.data:
        rows, count = measure_subjects(args.data, encoder)
        write_csv(args.out / "subjects.csv", rows)
        about_data = f"{about} Mean ± SD over {count} subjects."
        texts["subjects"] = f"{about_data}\n\n{table(rows, {'plane': 'slices', **first})}"
    if args.head:
        rows = [
            {"head": number, **row}
            for number, files in enumerate(args.head, start=1)
            for row in measure_head(*files, encoder)
        ]
        write_csv(args.out / "heads.csv", rows)
        texts["heads"] = f"{about}\n\n{table(rows, {'head': 'head', **first})}"
    for name, text in texts.items():
        print(text)
        if args.page:
            replace_part(args.page, name, text)


if __name__ == "__main__":
    main()
