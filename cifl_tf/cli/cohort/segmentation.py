"""Label maps of the scans of ``cifl cohort``."""

import dataclasses
import functools
from typing import Annotated, ClassVar

from cifl_tf._options import Option
from cifl_tf.cli.cohort.analyses import (
    BRAIN_MASK,
    CIFL,
    Analysis,
    Stripped,
    Window,
    checked_model,
    picture_name,
)
from cifl_tf.cli.parsing import with_home
from cifl_tf.cli.scan_work import write_labels, write_tissues
from cifl_tf.models.shipped import TISSUES


@dataclasses.dataclass(frozen=True)
class Segment(Analysis):
    """Label maps and volumes.

    Attributes:
        model: 'tissues', which ships, a folder of `cifl segment train`, or its segmenter.keras.
        voxel_size: resample to this size in mm before; not for tissues.
        volume_index: which image of a 4D file.
        stripped: whether the images show brains without skull; for tissues only.
        probabilities: write probabilities too, as 4D NIfTI.
        refine: place the borders between labels by the intensities of the scan itself, as is always
            done for tissues.
        window: two intensities that become black and white, such as 0,80 for a brain in CT.
    """

    model: Annotated[str, Option(to_field=with_home)] = TISSUES
    voxel_size: Annotated[float | None, Option(default="that of the training")] = None
    volume_index: int | None = None
    stripped: Stripped = None
    probabilities: bool = False
    refine: bool = False
    window: Window = None
    about: ClassVar[str] = "Label maps and their volumes"

    def __post_init__(self):
        if self.model == TISSUES and self.voxel_size is not None:
            raise ValueError(
                f"--voxel-size is {self.voxel_size}, but the network of tissues has a size of its "
                "own; leave it out"
            )
        if self.model != TISSUES and self.stripped is not None:
            raise ValueError(
                f"--stripped is for the network of tissues, not for {self.model}; leave it out"
            )
        object.__setattr__(self, "model", checked_model(self.model, [TISSUES]))

    @functools.cached_property
    def _segmenter(self):
        from cifl_tf.segmentation.loading import load_segmenter

        return load_segmenter(self.model)

    def files(self, scan):
        """See ``Analysis.files``."""
        entities = scan.on_own_grid(CIFL)
        labels = scan.name(entities, "dseg")
        files = {"labels": labels, "table": scan.name(entities, "dseg", ".tsv")}
        if self.model == TISSUES:
            files["mask"] = scan.name(scan.on_own_grid("brain"), "mask")
        if self.probabilities:
            files["probabilities"] = scan.name(entities, "probseg")
        return {**files, "picture": picture_name(labels)}

    def write(self, scan, files, entry, memory):
        """See ``Analysis.write``."""
        from cifl_tf.images.atomic import atomic_path

        segmenter = self._segmenter
        if self.model == TISSUES:
            options = self.stripped, self.volume_index, self.window, memory
            write_tissues(scan.path, segmenter, files, entry, *options)
        else:
            write_labels(
                scan.path,
                segmenter,
                files,
                entry,
                voxel_size=self.voxel_size,
                volume_index=self.volume_index,
                window=self.window,
                memory=memory,
                refined=self.refine,
            )
        names = segmenter.names_by_value
        with atomic_path(files["table"]) as temporary:  # after the labels, which may fail
            rows = "".join(f"{value}\t{name}\n" for value, name in names.items())
            temporary.write_text("index\tname\n" + rows, encoding="utf-8")

    def sidecar(self, scan, what):
        """See ``Analysis.sidecar``."""
        if what == "labels":
            return {"Description": "Label map", "Manual": False}
        if what == "mask":
            return BRAIN_MASK
        return {
            "Description": "Probabilities of the labels, one in each frame",
            "Manual": False,
            "LabelMap": list(self._segmenter.label_names),
        }
