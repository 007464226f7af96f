"""Show on the MNI152 brain that features stay the same when the contrast changes."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from cifl_tf._compat import keras
from cifl_tf.datasets import REMAPPINGS, mni152_slice, remap_contrast
from cifl_tf.features.inference import features_of
from cifl_tf.figures.features import feature_figure, synthesis_figure
from cifl_tf.figures.panels import save_figure
from cifl_tf.images.atomic import expanded
from cifl_tf.metrics import between_channel_correlation, same_channel_correlation
from cifl_tf.synthesis.pairs import PairSynthesizer
from cifl_tf.synthesis.shapes import shape_maps

NUM_UNRELATED = 4
DEMO_FILES = ("features.png", "synthesis.png")


@dataclasses.dataclass(frozen=True)
class Similarities:
    """Correlations inside the brain of the features of one encoder.

    Attributes:
        contrasts: for each contrast, (C,) correlation of its channels with those of T1.
        between_channels: mean absolute correlation of different channels of T1.
        unrelated: mean absolute correlation of the channels of T1 with the same channels of images
            of random shapes.
    """

    contrasts: Mapping[str, np.ndarray]
    between_channels: float
    unrelated: float


def brain_contrasts() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The mid-coronal MNI152 slice in T1 and in remapped contrasts, and its brain mask."""
    image, mask = mni152_slice()
    images = {"T1": np.where(mask, image, 0)}
    images.update({name: remap_contrast(image, mask, name) for name in REMAPPINGS})
    return images, mask


def example_pairs(shape, count: int, seed: int = 0):
    """Label maps of random shapes and two contrasts of each, (count, x, y, 1) each."""
    tf.random.set_seed(seed)
    label_maps = next(iter(shape_maps(shape, seed=seed).batch(count)))
    view_1, view_2 = PairSynthesizer(shape)(label_maps)
    return label_maps.numpy(), view_1.numpy(), view_2.numpy()


def measure(
    encoder: keras.Model, images: Mapping[str, np.ndarray], mask: np.ndarray
) -> tuple[Similarities, dict[str, np.ndarray]]:
    """Similarities of the features of each contrast with those of T1, and the features.

    Args:
        encoder: a 2D encoder.
        images: slices (x, y) by contrast, T1 first.
        mask: brain mask (x, y).
    """
    bar = tqdm(images.items(), desc="features", unit="contrast", disable=None, leave=False)
    features = {name: features_of(image, encoder) for name, image in bar}
    reference = features["T1"]
    contrasts = {
        name: same_channel_correlation(reference, values, mask)
        for name, values in features.items()
        if name != "T1"
    }
    _, unrelated_images, _ = example_pairs(mask.shape, NUM_UNRELATED, seed=1)
    unrelated = np.mean(
        [
            np.abs(same_channel_correlation(reference, features_of(other, encoder), mask))
            for other in unrelated_images[..., 0]
        ]
    )
    between = between_channel_correlation(reference, mask)
    return Similarities(contrasts, between, float(unrelated)), features


def report(before: Similarities, after: Similarities) -> str:
    """A table of similarities before and after training, one line per contrast."""
    lines = ["Correlation with the features of T1 inside the brain, per channel"]
    lines += [f"{'':20}{'untrained':>10}{'trained':>10}   channels of the trained encoder"]
    for name, channels in after.contrasts.items():
        each = " ".join(f"{value:.2f}" for value in channels)
        lines += [f"{name:20}{before.contrasts[name].mean():10.3f}{channels.mean():10.3f}   {each}"]
    for label, name in (
        ("different channels", "between_channels"),
        ("unrelated images", "unrelated"),
    ):
        values = getattr(before, name), getattr(after, name)
        lines += [f"{label:20}{values[0]:10.3f}{values[1]:10.3f}   (mean absolute value)"]
    return "\n".join(lines)


def run_demo(encoder: keras.Model, out) -> str:
    """Write the pictures ``DEMO_FILES`` and return the table of similarities.

    Args:
        encoder: a trained 2D encoder; an untrained one of the same form is compared.
        out: folder for the pictures.

    Raises:
        ValueError: the encoder is for volumes.
    """
    if len(encoder.input_shape) != 4:
        raise ValueError("the demo shows a slice; give an encoder trained with --ndim 2")
    out = expanded(out)
    images, mask = brain_contrasts()
    keras.utils.set_random_seed(0)
    before, _ = measure(keras.models.clone_model(encoder), images, mask)
    after, features = measure(encoder, images, mask)
    pairs = (values[..., 0] for values in example_pairs((96, 96), count=6))
    figures = feature_figure(images, features), synthesis_figure(*pairs)
    for figure, name in zip(figures, DEMO_FILES, strict=True):
        save_figure(figure, out / name)
    return report(before, after)
