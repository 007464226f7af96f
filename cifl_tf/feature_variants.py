"""Features of training images, computed once: of the images, and of their varied intensities."""

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from cifl_tf.augmentation import IntensityAugmentation
from cifl_tf.frozen_features import FrozenFeatures

MOST_BYTES = 1024**3


def feature_variants(
    images: np.ndarray,
    extract: FrozenFeatures,
    variants: int,
    look: IntensityAugmentation,
) -> np.ndarray | None:
    """Features of images as they are, and of the same images in other intensities.

    Training then deforms these features in place of encoding deformed images in every step.

    Args:
        images: float32 (n, *spatial, 1) in [0, 1].
        extract: what gives the features.
        variants: how many versions of each image, the image itself the first.
        look: draws the others.

    Returns:
        float32 (variants * n, *spatial, C), one version of all images after the other; fewer
        versions where they would take more than ``MOST_BYTES``, and None where one does.
    """
    variants = min(variants, MOST_BYTES // (images.nbytes * extract.num_features))
    if variants == 0:
        return None
    found = np.empty((variants, *images.shape[:-1], extract.num_features), np.float32)
    batch_size = 8 if images.ndim == 4 else 1  # slices, or one volume
    starts = range(0, len(images), batch_size)
    with tqdm(total=variants * len(starts), desc="features", disable=None, leave=False) as bar:
        for variant in range(variants):
            for start in starts:
                batch = tf.constant(images[start : start + batch_size])
                seen = batch if variant == 0 else look(batch, None)[0]
                found[variant, start : start + batch_size] = extract(seen)
                bar.update()
    return found.reshape(-1, *found.shape[2:])
