"""Train a stripper in a folder, so that the same call goes on after a kill."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from functools import partial

from cifl_tf._checks import COUNT, POSITIVE, SEED, check_fields
from cifl_tf._compat import keras
from cifl_tf._notes import note
from cifl_tf.images.preprocessing import Preprocessing, exact_voxel_size
from cifl_tf.models.files import STRIPPER
from cifl_tf.models.fitting import cosine_adam
from cifl_tf.models.image_model import ImageModel
from cifl_tf.stripping.examples import HeadVariation, head_examples
from cifl_tf.stripping.heads import read_head
from cifl_tf.stripping.losses import DistanceLoss, brain_dice
from cifl_tf.stripping.network import build_stripper
from cifl_tf.stripping.stripper import STRIPPER_FILE, Stripper
from cifl_tf.training.folder import train_in_folder
from cifl_tf.training.progress import Goal


@dataclasses.dataclass(frozen=True)
class StripperConfig:
    """What a stripper is trained with.

    Attributes:
        variation: of the heads.
        num_filters: channels of the U-Net at full resolution, doubled at each level.
        num_levels: resolutions of the U-Net.
        steps: optimization steps, of one image each.
        learning_rate: at the first step; it falls to zero along a cosine.
        initial: file of a model of this kind whose weights are the start; None for random ones.
        seed: of everything random.
        borders: mm by the name of a scan; see ``read_head``. 0 for the others.
    """

    variation: HeadVariation = dataclasses.field(default_factory=HeadVariation)
    num_filters: int = 12
    num_levels: int = 5
    steps: int = 3400
    learning_rate: float = 1e-3
    initial: str | None = None
    seed: int = 0
    borders: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        check_fields(
            self,
            num_filters=COUNT,
            num_levels=COUNT,
            steps=COUNT,
            learning_rate=POSITIVE,
            seed=SEED,
        )

    @property
    def preprocessing(self) -> Preprocessing:
        """Of the model, which sees voxels of the size of the examples."""
        return Preprocessing(exact_voxel_size([self.variation.voxel_size] * 3))


def train_stripper(
    out, config: StripperConfig, heads: Mapping[str, tuple], verbose: int | str = "auto"
) -> Stripper:
    """Train a stripper in a folder, or go on with it, or load it when it is complete.

    Args:
        out: the folder; new, empty, or of the same configuration and heads.
        config: what to train.
        heads: files of a scan and of its brain mask by the name of the head; see ``read_head``.
        verbose: as in ``keras.Model.fit``.

    Returns:
        The trained stripper; the folder holds it as ``stripper.keras``.

    Raises:
        ValueError: there are no heads, or borders of others, or as ``train_in_folder`` and
            ``read_head``.

    Example:
        >>> import nibabel, numpy as np
        >>> from cifl_tf.stripping import train_stripper
        >>> from cifl_tf.stripping.training import HeadVariation, StripperConfig
        >>> distance = np.linalg.norm(np.indices((40, 40, 40)) - 20, axis=0)
        >>> head = (distance < 10) * 60 + (distance < 17) * 30 + np.indices(distance.shape)[0]
        >>> for name, array in {"head": head, "brain": distance < 10}.items():
        ...     image = nibabel.Nifti1Image(array.astype(np.int16), np.diag([4, 4, 4, 1]))
        ...     nibabel.save(image, f"{name}.nii.gz")
        >>> config = StripperConfig(HeadVariation((16, 16, 16), 8), 2, 2, steps=1)
        >>> heads = {"ball": ("head.nii.gz", "brain.nii.gz")}
        >>> train_stripper("stripper", config, heads, verbose=0).preprocessing.voxel_text()
        '8 x 8 x 8 mm'
    """
    if not heads:
        raise ValueError("there are no heads; give at least one scan with its brain mask")
    goal = Goal(STRIPPER_FILE, STRIPPER, config.steps)
    return train_on_examples(out, config, {"heads": heads}, goal, _made, verbose)


def _made(config, heads, start):
    network = build_stripper(config.num_filters, config.num_levels)
    network.compile(cosine_adam(config), DistanceLoss(), metrics=[brain_dice])
    read = [
        read_head(name, scan, mask, border=config.borders.get(name, 0.0))
        for name, (scan, mask) in heads.items()
    ]
    data = head_examples(read, config.variation, config.seed, start)
    return Stripper(network, config.preprocessing, name="stripper"), data


def train_on_examples(
    out,
    config: StripperConfig,
    scans: Mapping[str, Mapping[str, tuple]],
    goal: Goal,
    make: Callable,
    verbose: int | str,
) -> ImageModel:
    """Train a model on images without an end, or go on with it, or load it when it is complete.

    Args:
        out: see ``train_stripper``.
        config: see ``train_stripper``.
        scans: files by the name of each scan, under the word for these scans.
        goal: file of the model in the folder, its kind, and the steps.
        make: called with ``config``, the scans with absolute paths, and the number of the first
            example; gives a model, the network of which is compiled, and its examples.
        verbose: as in ``keras.Model.fit``.
    """
    [(word, given)] = scans.items()
    if unknown := set(config.borders) - set(given):
        raise ValueError(f"there are borders of {sorted(unknown)}; the {word} are {list(given)}")
    files = {name: [os.path.abspath(file) for file in each] for name, each in given.items()}
    claim = {**dataclasses.asdict(config), word: files}
    fit = partial(_fit, config=config, word=word, files=files, make=make, verbose=verbose)
    return train_in_folder(out, claim, goal, fit)


def _fit(folder, config, word, files, make, verbose):
    keras.utils.set_random_seed(config.seed)
    note(f"{word}: {', '.join(files)}")
    model, data = make(config, files, folder.steps)
    if config.initial is not None and not folder.steps:
        model.network.set_weights(type(model).from_pretrained(config.initial).get_weights())
    folder.fit(model.network, data, [folder.keep_best(model)], verbose)
