"""``cifl cohort register-to-template``: every scan to one image."""

import dataclasses
import functools
import itertools
from pathlib import Path
from typing import Annotated, Any, ClassVar

from cifl_tf._checks import COUNT, check_fields
from cifl_tf._options import Option
from cifl_tf.cli.cohort.analyses import Analysis, Stripped, Window, checked_model, picture_name
from cifl_tf.cli.parsing import with_home
from cifl_tf.datasets.remappings import checked_remappings
from cifl_tf.features.pretrained import pretrained_encoders
from cifl_tf.images.atomic import absolute_path
from cifl_tf.registration.config import (
    DEFORMABLE,
    MOST_VOXELS,
    STAGES,
    check_tissues_stage,
    checked_stages,
)

MNI152 = "MNI152NLin2009aSym"  # the name that BIDS has for the template of nilearn
WARP, INVERSE, MATRIX = "warp", "inverse warp", "matrix"


@dataclasses.dataclass(frozen=True)
class ToTemplate(Analysis):
    """Scans in the space of a template, and the transforms both ways.

    Attributes:
        template: NIfTI or MGZ file to warp to.
        template_name: name of its space in file names, letters and digits.
        resolution: voxel size of the MNI152 template in mm, a whole number.
        stages: with commas between: 'rigid', 'affine', which may scale and shear, and 'deformable'.
        model: a name of `cifl info`, a folder of `cifl train`, or a .keras file, for volumes.
        remappings: average the features of an image and of remapped copies of it: names out of
            inverted, gamma and folded with commas between, or none.
        fast: leave out the finest level of the deformable stage, which takes most of the time.
        voxel_size: size in mm at which to deform.
        volume_index: which image of a 4D scan.
        stripped: whether the scans show brains without skull; of heads, the brains are registered,
            and the whole heads are warped.
        tissues: deform by the probabilities of tissues, as those of `cohort segment`, and not by
            features.
        window: two intensities that become black and white, such as 0,80 for a brain in CT.
    """

    model: Annotated[
        str | None,
        Option(
            default="shapes-3d to align; to deform, the tissues of brains, or else shapes-2d-wide "
            "in three planes",
            to_field=with_home,
        ),
    ] = None
    template: Annotated[
        Path | None, Option(default="MNI152 without its skull, of nilearn", to_field=with_home)
    ] = None
    template_name: Annotated[str | None, Option(default=f"{MNI152}, or 'template' for a file")] = (
        None
    )
    resolution: int = 2
    stages: tuple[str, ...] = STAGES
    remappings: tuple[str, ...] = ("inverted",)
    fast: bool = False
    voxel_size: Annotated[
        float | None,
        Option(default=f"the template's own, or one for {MOST_VOXELS:,} voxels at most"),
    ] = None
    volume_index: int | None = None
    stripped: Stripped = None
    tissues: Annotated[bool | None, Option(default="where scans show brains, without --model")] = (
        None
    )
    window: Window = None
    about: ClassVar[str] = "Scans in the space of a template"

    def __post_init__(self):
        check_fields(self, resolution=COUNT)
        object.__setattr__(self, "stages", checked_stages(self.stages))
        check_tissues_stage(self.tissues, self.stages)
        checked_remappings(self.remappings)
        if self.model is not None:
            object.__setattr__(self, "model", checked_model(self.model, pretrained_encoders()))
        if self.template is not None:
            from cifl_tf.images.nifti import load_image

            load_image(self.template)  # refused before the first scan
        if not self.space.isalnum():
            raise ValueError(f"--template-name is {self.space!r}; give letters and digits only")

    @property
    def space(self) -> str:
        """The name of the template's space in file names."""
        return self.template_name or (MNI152 if self.template is None else "template")

    @property
    def resolved(self) -> dict[str, Any]:
        """Values of options that differ from what was given."""
        template = self.template
        return {
            **super().resolved,
            "template": None if template is None else absolute_path(template),
        }

    @functools.cached_property
    def _fixed(self):
        """The template as an image."""
        from cifl_tf.images.nifti import load_image

        if self.template is not None:
            return load_image(self.template)
        from nilearn.datasets import load_mni152_template

        template = load_mni152_template(resolution=self.resolution)
        template.header.set_xyzt_units("mm")
        return template

    @functools.cached_property
    def _encoder(self):
        from cifl_tf.features.pretrained import load_encoder

        return None if self.model is None else load_encoder(self.model)

    def files(self, scan):
        """See ``Analysis.files``."""
        there = {"space": self.space, "res": None if self.template else str(self.resolution)}
        own, warped = scan.entities.get("space") or scan.suffix, scan.name(there)
        nowhere = {"space": None, "res": None, "den": None}
        forth = {**nowhere, "from": own, "to": self.space, "mode": "image", "desc": None}
        back = {**forth, "from": self.space, "to": own}
        if own == scan.entities.get("space"):  # two contrasts in one space have names of their own
            forth["desc"] = back["desc"] = scan.suffix
        files = {
            "warped": warped,
            WARP: scan.name(forth, "xfm"),
            INVERSE: scan.name(back, "xfm"),
            "jacobian": scan.name(forth, "jacobian"),
        }
        if {*self.stages} != {DEFORMABLE}:
            matrix = {**forth, "desc": f"{forth['desc'] or ''}affine"}
            files[MATRIX] = scan.name(matrix, "xfm", ".mat")
        return {**files, "picture": picture_name(warped)}

    def write(self, scan, files, entry, memory):
        """See ``Analysis.write``."""
        from cifl_tf.cli.registration_run import describe_registration
        from cifl_tf.cli.scan_work import note_labels
        from cifl_tf.figures.panels import save_figure
        from cifl_tf.figures.registration import registration_figure
        from cifl_tf.images.volumes import save_image
        from cifl_tf.tissues.registration import register_brains

        note_labels(scan.path)
        found = register_brains(
            scan.path,
            self._fixed,
            self.stripped,
            self.tissues,
            encoder=self._encoder,
            stages=self.stages,
            remappings=self.remappings,
            fast=self.fast,
            voxel_size=self.voxel_size,
            moving_volume_index=self.volume_index,
            moving_window=self.window,
        )
        images = (found.warped, found.warp, found.inverse_warp, found.jacobian)
        for what, image in zip(("warped", WARP, INVERSE, "jacobian"), images, strict=True):
            save_image(image, files[what])
        if MATRIX in files and found.affine is not None:
            found.affine.write(files[MATRIX], found.inverse.grid, found.displacement.grid)
        save_figure(registration_figure(found.views), files["picture"], dpi=200)
        describe_registration(found, entry)

    def sidecar(self, scan, what):
        """See ``Analysis.sidecar``."""
        from cifl_tf.models.shipped import TISSUES
        from cifl_tf.registration.stages import ENCODERS

        reference = self.space if self.template is None else self.template.resolve().as_uri()
        described = {
            "warped": "The scan, warped to the template",
            WARP: "Displacement field of ITK that warps the scan to the template",
            INVERSE: "Displacement field of ITK that warps the template to the scan",
            "jacobian": "Determinant of the Jacobian of the warp",
        }
        content: dict[str, Any] = {"Description": described[what]}
        if self.model is None:
            aligning, deforming = ENCODERS
            if self.tissues is not False:
                deforming = TISSUES if self.tissues else f"{TISSUES} or {deforming}"
            needed = ({*self.stages} != {DEFORMABLE}, DEFORMABLE in self.stages)
            content["Model"] = ", ".join(itertools.compress((aligning, deforming), needed))
        if what == "warped":
            content["SkullStripped"] = scan.skull_stripped
            if self.template is None:
                content["Resolution"] = f"Voxels of {self.resolution} mm"
        # The inverse warp lies on the grid of the scan, which is the default.
        return content if what == INVERSE else {**content, "SpatialReference": reference}
