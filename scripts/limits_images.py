"""Images that features may fail on, simulated from the mid-coronal MNI152 slice at 1 mm."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cifl_tf as cifl  # first: it selects Keras 2 for TensorFlow

import numpy as np  # isort: skip
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

from cifl_tf.datasets import REMAPPINGS, mni152_tissues, remap_contrast
from cifl_tf.datasets.virtual import MEANS

T1 = "T1"
LESION_CENTER, LESION_RADIUS = (74, 125), 5.0  # voxels of 1 mm: deep in the white matter
# Simulated layers around the brain, from the inside: thickness in mm, and intensity.
FLUID, SKULL, SCALP_WIDTH = (3, 0.3), (7, 0.05), 6
GROUPS = {
    "contrast": "Contrasts",
    "lesion": "Lesions (near: within 8 mm)",
    "quality": "Resolution, noise and bias field",
    "outside": "Outside the brain (near: within 8 mm of the brain's edge)",
    "scale": "For scale: the intact T1 out of place",
}


@dataclass(frozen=True, eq=False)
class Variant:
    """An image, and what its features are compared with.

    Attributes:
        group: a key of ``GROUPS``.
        image: intensities (x, y) at 1 mm.
        reference: name of the image that its features are compared with.
        spacing: features are computed on voxels of so many mm, and interpolated back to 1 mm.
        picture: the one that shows it; "" for none.
    """

    group: str
    image: np.ndarray = field(repr=False)
    reference: str = T1
    spacing: int = 1
    picture: str = ""


def block_means(image, size: Sequence[int]) -> np.ndarray:
    """Means over blocks of so many voxels along each axis; the last block repeats the edge."""
    padding = [(0, -length % block) for length, block in zip(image.shape, size, strict=True)]
    padded = np.pad(image, padding, mode="edge")
    (width, height), (x, y) = padded.shape, size
    return padded.reshape(width // x, x, height // y, y).mean((1, 3))


def interpolated(blocks, size: Sequence[int], shape) -> np.ndarray:
    """Linear interpolation between the centers of blocks, back to single voxels."""
    positions = [
        (index + 0.5) / block - 0.5 for index, block in zip(np.indices(shape), size, strict=True)
    ]
    return map_coordinates(blocks, positions, order=1, mode="nearest")


def coarser(image, size: Sequence[int]) -> np.ndarray:
    """An image as thick slices or large voxels show it, on its own grid."""
    return interpolated(block_means(image, size), size, image.shape)


def noisy(image, std: float) -> np.ndarray:
    """Magnitude of the image with complex Gaussian noise of this SD (Rician)."""
    real, imaginary = np.random.default_rng(0).normal(0, std, (2, *image.shape))
    return np.hypot(image + real, imaginary)


def shaded(image, mask, ratio: float) -> np.ndarray:
    """The image times a bias field that falls from 1 to 1 / ratio across the brain, along x."""
    first, last = np.flatnonzero(mask.any(1))[[0, -1]]
    return image * ratio ** ((first - np.arange(len(image))[:, None]) / (last - first))


def lesion_mask(shape) -> np.ndarray:
    """Where the lesion is, booleans (x, y)."""
    x, y = np.indices(shape)
    return np.hypot(x - LESION_CENTER[0], y - LESION_CENTER[1]) <= LESION_RADIUS


def with_lesion(image, level: float) -> np.ndarray:
    """The image with a round lesion of this intensity, its edge blurred by an SD of 0.5 mm."""
    share = gaussian_filter(lesion_mask(image.shape).astype(float), 0.5)
    return image + share * (level - image)


def with_head(image, mask, scalp: float) -> np.ndarray:
    """The brain in fluid, dark skull and a scalp of this intensity; air around is 0."""
    distance, inner = distance_transform_edt(~mask), 0
    for width, level in (FLUID, SKULL, (SCALP_WIDTH, scalp)):
        image = np.where((distance > inner) & (distance <= inner + width), level, image)
        inner += width
    return image


def variants() -> tuple[dict[str, Variant], np.ndarray]:
    """All images by name, the intact T1 first, and the brain mask."""
    template, mask = cifl.mni152_slice()
    t1 = np.where(mask, template, 0)
    probabilities = mni152_tissues(1).probabilities
    tissues = probabilities[:, :, probabilities.shape[2] // 2]
    white = float(t1[tissues[0] > 0.9].mean())

    def rendered(means):
        return np.tensordot(np.asarray(means, np.float32), tissues, 1)

    def stripped(image):
        return np.where(mask, image, 0)

    flair, flair_white = rendered(MEANS["FLAIR"]), MEANS["FLAIR"][0]
    images = {T1: Variant("contrast", t1)}
    images |= {
        f"T1, {name}": Variant("contrast", remap_contrast(t1, mask, name)) for name in REMAPPINGS
    }
    images |= {f"{name}-like": Variant("contrast", rendered(MEANS[name])) for name in MEANS}
    images["gray matter like white"] = Variant(
        "contrast", rendered((0.6, 0.6, 0.2, 0.6)), picture="lesion"
    )
    bright, dark = with_lesion(flair, 0.95), with_lesion(t1, 0.3)
    images |= {
        "FLAIR-like, no lesion": Variant("lesion", flair, picture="lesion"),
        "FLAIR-like, bright lesion": Variant("lesion", bright, picture="lesion"),
        "T1, dark lesion": Variant("lesion", dark, picture="lesion"),
        "lesion in both contrasts": Variant("lesion", bright, "T1, dark lesion"),
    }
    thick, clinical = (1, 5), shaded(coarser(flair, (1, 5)), mask, 4)
    quality = {
        "5 mm slices": (coarser(t1, thick), 1, True),
        "5 mm slices, FLAIR-like": (coarser(flair, thick), 1, False),
        "2 mm voxels": (coarser(t1, (2, 2)), 1, False),
        "4 mm voxels": (coarser(t1, (4, 4)), 1, True),
        "features at 2 mm": (t1, 2, False),
        "features at 4 mm": (t1, 4, True),
        "noise, SNR 20": (noisy(t1, white / 20), 1, False),
        "noise, SNR 8": (noisy(t1, white / 8), 1, True),
        "bias field, 4 to 1": (shaded(t1, mask, 4), 1, False),
        "bias field, 10 to 1": (shaded(t1, mask, 10), 1, True),
        "FLAIR-like, 5 mm, SNR 20, bias 4 to 1": (noisy(clinical, flair_white / 20), 1, False),
    }
    images |= {
        name: Variant("quality", stripped(image), spacing=spacing, picture="quality" * shown)
        for name, (image, spacing, shown) in quality.items()
    }
    head = with_head(t1, mask, white)
    outside = {
        "head, scalp as white matter": (head, T1, True),
        "head, scalp 3 times as bright": (with_head(t1, mask, 3 * white), T1, True),
        "FLAIR-like head": (
            with_head(flair, mask, flair_white),
            "head, scalp as white matter",
            False,
        ),
        "stripped 3 mm too tight": (t1 * (distance_transform_edt(mask) > 3), T1, False),
        "noise in the air, SNR 20": (noisy(t1, white / 20), T1, True),
        "gray background": (np.where(mask, t1, 0.5), T1, False),
        "white background": (np.where(mask, t1, 1), T1, True),
    }
    images |= {
        name: Variant("outside", image, reference, picture="outside" * shown)
        for name, (image, reference, shown) in outside.items()
    }
    images |= {f"T1 moved by {mm} mm": Variant("scale", np.roll(t1, mm, 0)) for mm in (1, 2, 4, 8)}
    return images, mask
