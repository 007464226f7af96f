"""What ``cifl cohort`` can do with a scan: each analysis with its options, and its files.

An analysis is loaded once in every process, when the first scan is done.
"""

import dataclasses
import functools
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from cifl_tf._checks import BORDER_MM, check_fields
from cifl_tf._options import Option
from cifl_tf.cli.output_folder import FIGURES
from cifl_tf.cli.parsing import parse_window, with_home
from cifl_tf.cli.run_report import Entry
from cifl_tf.cli.scan_work import write_brain, write_features
from cifl_tf.datasets.remappings import checked_remappings
from cifl_tf.features.pretrained import pretrained_encoders
from cifl_tf.images.atomic import absolute_path
from cifl_tf.images.channel_types import ChannelType, check_channel_type
from cifl_tf.images.planes import PlaneName
from cifl_tf.models.shipped import STRIPPER

if TYPE_CHECKING:  # nibabel
    from cifl_tf.cli.cohort.names import Scan

Window = Annotated[
    tuple[float, float] | None,
    Option(kind=str | None, to_field=parse_window, default="percentiles; of a head in CT 0,80"),
]
Stripped = Annotated[bool | None, Option(default="found out for each image")]
BRAIN_MASK = {"Description": "Brain mask", "Type": "Brain"}  # its sidecar
CIFL = "cifl"  # the description of results; of label maps it is the segmentation of read_bids


@dataclasses.dataclass(frozen=True)
class Analysis:
    """What is done with every scan.

    Attributes:
        model: what it uses.
    """

    model: str | None
    about: ClassVar[str]  # of the results, in the description of the dataset

    @property
    def resolved(self) -> dict[str, Any]:
        """Values of options that differ from what was given."""
        return {"model": self.model}

    def files(self, scan: "Scan") -> dict[str, str]:
        """Names of the files that become of a scan, in the subject's folder, by what they are."""
        raise NotImplementedError

    def write(
        self, scan: "Scan", files: Mapping[str, Path], entry: Entry, memory: float | None
    ) -> None:
        """Make the files.

        Args:
            scan: which.
            files: paths, by what they are.
            entry: gets what was measured.
            memory: bytes that the process may have; None for half of what is free.
        """
        raise NotImplementedError

    def sidecar(self, scan: "Scan", what: str) -> dict[str, Any]:
        """What BIDS wants to know of an image, beside what all derivatives have.

        Args:
            scan: from which it was made.
            what: it is.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Features(Analysis):
    """Features of scans, on their own grids.

    Attributes:
        model: a name of `cifl info`, a folder of `cifl train`, or a .keras file.
        plane: slices for a 2D encoder.
        voxel_size: resample to this size in mm before.
        volume_index: which image of a 4D file.
        stripped: whether the images show brains without skull.
        remappings: average the features of an image and of remapped copies of it: names out of
            inverted, gamma and folded with commas between, or none.
        window: two intensities that become black and white, such as 0,80 for a brain in CT.
        dtype: type of the numbers in the files; int16 takes half the space.
    """

    model: Annotated[str, Option(to_field=with_home)] = "shapes-2d"
    plane: Annotated[PlaneName | None, Option(default="coronal; of thick slices theirs")] = None
    voxel_size: float | None = None
    volume_index: int | None = None
    stripped: Stripped = None
    remappings: tuple[str, ...] = ()
    window: Window = None
    dtype: ChannelType = "float32"
    about: ClassVar[str] = "Contrast-invariant features"

    def __post_init__(self):
        checked_remappings(self.remappings)
        check_channel_type(self.dtype)
        object.__setattr__(self, "model", checked_model(self.model, pretrained_encoders()))

    @functools.cached_property
    def _encoder(self):
        from cifl_tf.features.pretrained import load_encoder

        return load_encoder(self.model)

    def files(self, scan):
        """See ``Analysis.files``."""
        name = scan.name(scan.on_own_grid(CIFL), "features")
        return {"features": name, "picture": picture_name(name)}

    def write(self, scan, files, entry, memory):
        """See ``Analysis.write``."""
        write_features(
            scan.path,
            self._encoder,
            files,
            entry,
            self.stripped,
            self.volume_index,
            self.window,
            self.dtype,
            plane=self.plane,
            voxel_size=self.voxel_size,
            remappings=self.remappings,
            memory=memory,
        )

    def sidecar(self, scan, what):
        """See ``Analysis.sidecar``."""
        return {"Description": "Contrast-invariant features, one in each frame"}


@dataclasses.dataclass(frozen=True)
class Strip(Analysis):
    """Brains and their masks.

    Attributes:
        model: 'strip', which ships, or a folder or file of scripts/train_stripper.py.
        border: millimeters by which the mask is wider than the brain; or narrower, below 0.
        volume_index: which image of a 4D file.
        window: two intensities that become black and white, such as 0,80 for a brain in CT.
    """

    model: Annotated[str, Option(to_field=with_home)] = STRIPPER
    border: float = 0.0
    volume_index: int | None = None
    window: Window = None
    about: ClassVar[str] = "Brains and brain masks"

    def __post_init__(self):
        check_fields(self, border=BORDER_MM)
        object.__setattr__(self, "model", checked_model(self.model, [STRIPPER]))

    @functools.cached_property
    def _stripper(self):
        from cifl_tf.stripping.stripper import Stripper

        return Stripper.from_pretrained(self.model)

    def files(self, scan):
        """See ``Analysis.files``."""
        brain = scan.name({"desc": "brain"})
        mask = scan.name(scan.on_own_grid("brain"), "mask")
        return {"brain": brain, "mask": mask, "picture": picture_name(brain)}

    def write(self, scan, files, entry, memory):
        """See ``Analysis.write``."""
        options = self.border, self.volume_index, self.window
        write_brain(scan.path, self._stripper, files, entry, *options)

    def sidecar(self, scan, what):
        """See ``Analysis.sidecar``."""
        if what == "mask":
            return BRAIN_MASK
        return {"Description": "The scan inside of its brain mask", "SkullStripped": True}


def picture_name(name: str) -> str:
    """Name of the picture of a file, in the folder of the subject."""
    return f"{FIGURES}/{Path(name).name.removesuffix('.nii.gz')}.png"


def checked_model(model: str, shipped: Collection[str]) -> str:
    """What stands for a model in the record, after a check that it is there.

    Args:
        model: as given.
        shipped: names of the models of this kind that ship.

    Raises:
        ValueError: it is neither one of them nor a file or folder.
    """
    if model in shipped:
        return model
    path = absolute_path(model)
    if not Path(path).exists():
        raise ValueError(
            f"--model {model} does not exist; give {' or '.join(shipped)}, or a folder or file of "
            "a training"
        )
    return path
