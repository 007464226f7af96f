"""The planes in which slices of a volume lie."""

from typing import Literal

PlaneName = Literal["sagittal", "coronal", "axial"]
# The axis of a volume in canonical orientation that a plane is perpendicular to.
PLANES: dict[str, int] = {"sagittal": 0, "coronal": 1, "axial": 2}
