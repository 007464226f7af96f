"""Train a tissue network in a folder, so that the same call goes on after a kill."""

import dataclasses
from collections.abc import Mapping

from cifl_tf.features.pretrained import load_features
from cifl_tf.models.files import SEGMENTER
from cifl_tf.models.fitting import cosine_adam
from cifl_tf.segmentation.losses import MeanDice, SegmentationLoss
from cifl_tf.segmentation.segmenter import SEGMENTER_FILE, Segmenter
from cifl_tf.stripping.examples import HeadVariation
from cifl_tf.stripping.heads import read_head
from cifl_tf.stripping.training import StripperConfig, train_on_examples
from cifl_tf.tissues.examples import VARIATION, brain_examples
from cifl_tf.tissues.network import TISSUES, build_tissue_network
from cifl_tf.training.progress import Goal

LABEL_VOXEL_SIZE = 1.0  # mm: thin gyri are lost at more
FIELD_MARGIN = 10.0  # mm around a brain, as in training


@dataclasses.dataclass(frozen=True)
class TissueConfig(StripperConfig):
    """What a tissue network is trained with.

    Attributes:
        encoder: of the features that the U-Net sees, see ``load_encoder``; None for the image
            alone.
        with_image: the U-Net sees the image beside the features.
        variation, num_filters, num_levels, steps, learning_rate, initial, seed, borders: see
            ``StripperConfig``.
    """

    variation: HeadVariation = VARIATION
    steps: int = 3000
    encoder: str | None = None
    with_image: bool = False


def train_tissues(
    out, config: TissueConfig, brains: Mapping[str, tuple], verbose: int | str = "auto"
) -> Segmenter:
    """Train a tissue network in a folder, or go on with it, or load it when it is complete.

    Args:
        out: the folder; new, empty, or of the same configuration and brains.
        config: what to train.
        brains: files of a scan and of its tissues (see ``TISSUES``) by the name of the brain; the
            brain is where these have a label.
        verbose: as in ``keras.Model.fit``.

    Returns:
        The trained segmenter; the folder holds it as ``segmenter.keras``.

    Raises:
        ValueError: there are no brains, or borders of others, or as ``train_in_folder`` and
            ``read_head``.

    Example:
        >>> import nibabel, numpy as np
        >>> from cifl_tf.tissues import train_tissues
        >>> from cifl_tf.tissues.training import HeadVariation, TissueConfig
        >>> distance = np.linalg.norm(np.indices((24, 24, 24)) - 12, axis=0)
        >>> tissues = np.select([distance < 4, distance < 7, distance < 9], [1, 2, 3])
        >>> for name, array in {"scan": 30 * tissues, "tissues": tissues}.items():
        ...     image = nibabel.Nifti1Image(array.astype(np.int16), np.diag([4, 4, 4, 1]))
        ...     nibabel.save(image, f"{name}.nii.gz")
        >>> config = TissueConfig(HeadVariation((16, 16, 16), 6), 2, 2, steps=1)
        >>> brains = {"ball": ("scan.nii.gz", "tissues.nii.gz")}
        >>> train_tissues("tissue-training", config, brains, verbose=0).label_names[3]
        'fluid'
    """
    if not brains:
        raise ValueError("there are no brains; give at least one scan with its tissues")
    goal = Goal(SEGMENTER_FILE, SEGMENTER, config.steps)
    return train_on_examples(out, config, {"brains": brains}, goal, _made, verbose)


def _made(config, brains, start):
    encoder = None if config.encoder is None else load_features(config.encoder, 3)
    network = build_tissue_network(
        config.num_filters, config.num_levels, encoder=encoder, with_image=config.with_image
    )
    network.compile(cosine_adam(config), SegmentationLoss(), metrics=[MeanDice(1 + len(TISSUES))])
    read = [
        read_head(name, scan, labels, labels, LABEL_VOXEL_SIZE, config.borders.get(name, 0.0))
        for name, (scan, labels) in brains.items()
    ]
    data = brain_examples(read, config.variation, config.seed, start)
    segmenter = Segmenter(
        network,
        config.preprocessing,
        ["background", *TISSUES.values()],
        [0, *TISSUES],
        field_margin=FIELD_MARGIN,
        name="tissues",
    )
    return segmenter, data
