"""Names of a derivative dataset, from the names of the scans."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from cifl_tf.images.file_names import suffix_of

# The order of entities in names (BIDS 1.10, and BEP 14 for from, to and mode).
ORDER = (
    *("sub", "ses", "sample", "task", "tracksys", "acq", "nuc", "voi", "ce", "trc", "stain", "rec"),
    *("dir", "run", "mod", "echo", "flip", "inv", "mt", "part", "proc", "hemi", "space", "split"),
    *("recording", "chunk", "seg", "res", "den", "label", "from", "to", "mode", "desc"),
)


@dataclasses.dataclass(frozen=True)
class Scan:
    """A scan of a subject.

    Attributes:
        path: of the file.
        folder: in that of the subject, such as "ses-01/anat".
        entities: that the name says.
        suffix: of the name, such as "T1w".

    Example:
        >>> scan = Scan(Path("sub-1_T1w.nii.gz"), "anat", {"sub": "1"}, "T1w")
        >>> scan.name({"desc": "brain"})
        'anat/sub-1_desc-brain_T1w.nii.gz'
        >>> scan.name(scan.on_own_grid("brain"), "mask")
        'anat/sub-1_space-T1w_desc-brain_mask.nii.gz'
    """

    path: Path
    folder: str
    entities: Mapping[str, str]
    suffix: str

    @property
    def stem(self) -> str:
        """The name without the ending of an image."""
        return self.path.name[: -len(suffix_of(self.path) or "")]

    @property
    def place(self) -> str:
        """Path in the dataset, with forward slashes."""
        return f"sub-{self.entities['sub']}/{self.folder}/{self.path.name}"

    @property
    def skull_stripped(self) -> bool:
        """Whether the sidecar of the scan says that there is nothing but brain."""
        try:
            said = json.loads((self.path.parent / f"{self.stem}.json").read_text("utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(said, dict) and said.get("SkullStripped") is True

    def name(
        self,
        entities: Mapping[str, str | None],
        suffix: str | None = None,
        extension: str = ".nii.gz",
    ) -> str:
        """Name of a derivative of the scan, in the folder of the subject.

        Args:
            entities: that differ from those of the scan; None for one that is left out.
            suffix: None for that of the scan.
            extension: with the dot.
        """
        said = {key: value for key, value in {**self.entities, **entities}.items() if value}
        known = {key: place for place, key in enumerate(ORDER)}
        keys = sorted(said, key=lambda key: known.get(key, known["space"]))
        stem = "_".join([*(f"{key}-{said[key]}" for key in keys), suffix or self.suffix])
        return f"{self.folder}/{stem}{extension}"

    def on_own_grid(self, desc: str) -> dict[str, str]:
        """Entities of an image that lies on the grid of the scan, but whose name has no contrast.

        The contrast becomes the space, so that images of all contrasts have names of their own; of
        a scan that has a space, the contrast goes to the description.

        Args:
            desc: description.
        """
        if "space" in self.entities:
            return {"desc": desc + self.suffix}
        return {"space": self.suffix, "desc": desc}
