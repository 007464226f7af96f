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
# # Features that stay the same when the contrast changes
#
# A CIFL encoder has seen pairs of contrasts of random shapes, no medical image and no label (Chua
# & Dalca). Here its features of the MNI152 brain are compared between contrasts, and a small
# encoder is trained from nothing. It takes about a minute on two cores; nothing is downloaded.

# %%
# %matplotlib inline
import cifl_tf as cifl  # before tensorflow: it selects Keras 2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from cifl_tf.datasets import remap_contrast
from cifl_tf.cli.demo_images import example_pairs
from cifl_tf.figures.features import feature_figure, synthesis_figure
from cifl_tf.metrics import same_channel_correlation
from tensorflow import keras

plt.rcParams["figure.dpi"] = 72

# %% [markdown]
# ## One slice, four contrasts
#
# The mid-coronal slice of the MNI152 T1 template, and three contrasts made from its intensities
# $x$: inverted, $1 - x$; brightened, $x^{0.4}$; and folded, $|2x - 1|$, which no reordering of
# tissues from dark to bright undoes.

# %%
brain, mask = cifl.mni152_slice()
images = {"T1": np.where(mask, brain, 0)}
images |= {name: remap_contrast(brain, mask, name) for name in ("inverted", "gamma", "folded")}

encoder = cifl.load_pretrained("shapes-2d")
features = {name: cifl.features_of(image, encoder) for name, image in images.items()}
{name: values.shape for name, values in features.items()}

# %%
feature_figure(images, features, num_channels=5)

# %% [markdown]
# Each channel has one color scale over all rows. As a number: the correlation of each channel
# with the same channel of the T1, inside the brain, beside that of the intensities themselves.
# The mean of the features of an image and of its inversion (`ensemble`) is alike even more.


# %%
def mean_correlation(one, other):
    """Mean over channels of the correlation of features (x, y, C) inside the brain."""
    return same_channel_correlation(one, other, mask).mean()


averaged = {
    name: cifl.features_of(image, encoder, remappings=("inverted",))
    for name, image in images.items()
}
intensities = {name: image[..., None] for name, image in images.items()}


def correlations(values):
    """Correlations with the T1 by contrast, of intensities or features by contrast."""
    return {
        name: mean_correlation(values["T1"], found)
        for name, found in values.items()
        if name != "T1"
    }


alike = {
    "intensities": correlations(intensities),
    "features": correlations(features),
    "averaged": correlations(averaged),
}
pd.DataFrame(alike).round(3)

# %% [markdown]
# ## Your own image
#
# `features_of` takes a NIfTI or MGZ file as well; an encoder for slices goes through a volume
# slice by slice, and `shapes-3d` takes volumes whole. For files, the command line does the same:
# `cifl features T1.nii.gz --out features`.
#
# ```python
# features = cifl.features_of("T1.nii.gz", encoder, plane="coronal")  # (x, y, z, 16)
# features = cifl.features_of("T1.nii.gz", cifl.load_pretrained("shapes-3d"))
# ```
#
# ## What the encoder has seen
#
# Label maps of random shapes, and two contrasts of each: every label gets random intensities,
# then blur, noise and a bias field.

# %%
synthesis_figure(*(values[..., 0] for values in example_pairs((96, 96), count=6)))

# %% [markdown]
# ## Train one
#
# An ordinary Keras model. These are a fifteenth of the steps that `shapes-2d` had (`cifl train
# --out my_model` trains in full, and goes on after an interruption), on smaller images.

# %%
keras.utils.set_random_seed(0)
maps = cifl.shape_maps(shape=(64, 64), seed=0)
model = cifl.CIFL(cifl.build_encoder(ndim=2, num_features=16), cifl.PairSynthesizer((64, 64)))
model.compile(keras.optimizers.Adam(1e-3), cifl.ContrastiveLoss())
history = model.fit(maps.batch(4).prefetch(2), steps_per_epoch=20, epochs=10, verbose=0).history

# %% [markdown]
# Four signals are logged beside the loss. Features of a pair become alike, those of different
# channels less so. The other two show a collapse, which a low loss can hide: features of
# unrelated images must not become as alike as those of a pair, and the features' energy at the
# border must stay near that of the middle (1).

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for name in ("pair_similarity", "channel_similarity", "unrelated_similarity"):
    left.plot(history[name], label=name)
right.plot(history["border_energy"], label="border_energy", color="tab:red")
for axes in (left, right):
    axes.set(xlabel="epoch of 20 steps", ylim=(0, 1.1 * axes.get_ylim()[1]))
    axes.legend()

# %%
encoders = {
    "untrained": cifl.build_encoder(ndim=2, num_features=16),
    "200 steps": model.encoder,
    "shapes-2d": encoder,
}
alike = {
    title: correlations({name: cifl.features_of(image, each) for name, image in images.items()})
    for title, each in encoders.items()
}
pd.DataFrame(alike).round(3)

# %% [markdown]
# An untrained network already keeps what a monotone change keeps, but not an inversion; a few
# hundred steps on random shapes make all three alike.
