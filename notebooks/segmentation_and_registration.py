# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Segment and register contrasts that training has not seen
#
# Two U-Nets learn to segment T1w slices, one from intensities, one from frozen CIFL features.
# Then both get other contrasts. The subjects are virtual: the tissue maps of the MNI152 brain,
# each warped and rendered in its own way, so that nothing is downloaded. It takes some minutes on
# two cores, with far fewer steps than a real training has.

# %%
# %matplotlib inline
import tempfile
from pathlib import Path

import cifl_tf as cifl  # before tensorflow: it selects Keras 2
import matplotlib.pyplot as plt
import pandas as pd
from cifl_tf.datasets import stack_cohort, virtual_cohort
from cifl_tf.evaluation.scores import segmentation_scores
from cifl_tf.evaluation.summary import summary
from cifl_tf.figures.registration import RegisteredSlice, registration_figure
from cifl_tf.figures.segmentation import segmentation_figure
from cifl_tf.metrics import dice

plt.rcParams["figure.dpi"] = 72

cohort = virtual_cohort(8)
train, choose, test = (
    cohort.select(cohort.names[:6]),
    cohort.select(cohort.names[6:7]),
    cohort.select(cohort.names[7:]),
)
cohort.label_names

# %% [markdown]
# Your own data instead: `cifl_tf.datasets.open_cohort("/data/my-bids-folder")`.
#
# ## Two networks, trained on T1w
#
# A training lives in a folder: it holds its settings and checkpoints, so that the same call goes
# on after an interruption, or loads what is complete. Here the folders are temporary.

# %%
STEPS, NUM_SLICES = 200, 3
CONTRASTS = ["T1w", "T1w:inverted", "T2w", "FLAIR"]
folder = Path(tempfile.mkdtemp())
segmenters = {}
for name, model in {"intensities": "intensity", "CIFL features": "shapes-2d"}.items():
    config = cifl.SegmentationConfig(model, steps=STEPS, num_slices=NUM_SLICES)
    segmenters[name] = cifl.train_segmenter(folder / model, config, train, choose, verbose=0)

# %% [markdown]
# Mean Dice of the labels on the test subject:

# %%
scores = {}
for name, segmenter in segmenters.items():
    rows = segmentation_scores(segmenter.predict_on_batch, test, CONTRASTS, num_slices=NUM_SLICES)
    scores[name] = {contrast: found["dice"]["mean"] for contrast, found in summary(rows).items()}
pd.DataFrame(scores).round(3)

# %%
slices = {c: stack_cohort(test, c, count=1) for c in CONTRASTS}
images = {contrast: found[0][0, ..., 0] for contrast, found in slices.items()}
truth = slices["T1w"][1][0, ..., 0]
predictions = {
    name: {
        contrast: segmenter.predict_on_batch(image[None, ..., None])[0].argmax(-1)
        for contrast, image in images.items()
    }
    for name, segmenter in segmenters.items()
}
segmentation_figure(images, truth, predictions)

# %% [markdown]
# A segmenter is an ordinary Keras model from image to label probabilities. `cifl.segment_image`
# applies it to a NIfTI file, and so does `cifl segment apply`; `cifl.export_segmenter` writes a
# SavedModel that runs without this package.
#
# ## Register T1w to an inverted T1w
#
# Without any training: the warp of this pair alone is optimized, so that the features of the
# warped image agree with those of the fixed one. `cifl.train_registration` trains a VoxelMorph
# network instead, which registers in one pass.

# %%
moving_images, moving_labels, _ = stack_cohort(choose, "T1w", count=1)
moving, fixed = moving_images[0, ..., 0], images["T1w:inverted"]
settings = cifl.InstanceSettings(scales=(4, 2, 1), steps=(20, 20, 20))
registered = {}
for name, encoder in {
    "intensities": None,
    "CIFL features": cifl.load_pretrained("shapes-2d"),
}.items():
    warp = cifl.optimize_instance(moving, fixed, encoder, settings=settings)
    registered[name] = RegisteredSlice(fixed, moving, cifl.warp(moving, warp), warp)
registration_figure(registered)

# %% [markdown]
# The labels, warped alike, say how well it went:


# %%
def overlap(labels):
    """Mean Dice with the fixed subject's labels."""
    return dice(labels, truth, list(cohort.label_names)).mean()


labels = moving_labels[0, ..., 0]
overlaps = {"before": overlap(labels)}
for name, found in registered.items():
    overlaps[name] = overlap(cifl.warp(labels, found.displacement, "nearest"))
pd.Series(overlaps, name="Dice").round(3).to_frame()
