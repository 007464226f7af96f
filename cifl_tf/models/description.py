"""What a SavedModel of this package says of itself, in a file of its assets."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from cifl_tf._version import __version__

DESCRIPTION_FILE = "cifl_model.json"
SERVING, SCALED = "serving_default", "scaled"  # signatures: of raw intensities, and of [0, 1]


@dataclasses.dataclass(frozen=True)
class Description:
    """What somebody needs to know who gives images to a SavedModel.

    Attributes:
        kind: "encoder", "segmenter" or "registration".
        preprocessing: of the images, a ``Preprocessing.to_config``: orientation, range of voxel
            sizes in mm for each axis, plane of slices, scaling of intensities.
        inputs: shape of each by name, None for any size.
        outputs: the same.
        labels: of a segmenter, name by value.
        version: of cifl_tf.
        field_margin: of a segmenter, the millimeters around all that is no air to which images are
            to be cut before; None where images are taken as they are.
    """

    kind: str
    preprocessing: dict[str, Any]
    inputs: dict[str, list[int | None]]
    outputs: dict[str, list[int | None]]
    labels: dict[int, str]
    version: str = __version__
    field_margin: float | None = None

    def to_json(self) -> str:
        """The attributes as the file holds them."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"

    def lines(self) -> list[str]:
        """The attributes in words, a line each."""
        from cifl_tf.images.preprocessing import Preprocessing

        preprocessing = Preprocessing.from_config(self.preprocessing)
        facts = {
            "model": f"{self.kind} of cifl_tf {self.version}",
            "voxels": preprocessing.voxel_text(),
            "axes": f"{self.preprocessing['orientation']}, of volumes",
            "slices": preprocessing.plane or "",
            "field": ""
            if self.field_margin is None
            else f"cut images to what is no air and {self.field_margin:g} mm around",
            "intensities": ", ".join(
                f"{name} {value}"
                for name, value in preprocessing.scaling.to_config().items()
                if value is not None
            ),
            "inputs": _shapes(self.inputs),
            "outputs": _shapes(self.outputs),
            "labels": ", ".join(f"{value} {name}".rstrip() for value, name in self.labels.items()),
        }
        width = max(map(len, facts)) + 2
        return [f"{name:{width}}{value}" for name, value in facts.items() if value]


def _shapes(shapes):
    texts = (
        f"{name} ({', '.join('any' if size is None else str(size) for size in shape)})"
        for name, shape in shapes.items()
    )
    return ", ".join(texts)


def read_description(folder) -> Description:
    """What a SavedModel of this package says of itself.

    Args:
        folder: of ``cifl export`` or ``export_saved_model`` and its kin.

    Raises:
        ValueError: the folder is no SavedModel of this package, or one from before version 0.8.

    Example:
        >>> import cifl_tf as cifl
        >>> from cifl_tf.models.description import read_description
        >>> cifl.export_saved_model(cifl.build_encoder(num_features=4, num_filters=2), "exported")
        >>> read_description("exported").outputs
        {'features': [None, None, None, 4]}
    """
    file = Path(folder) / "assets" / DESCRIPTION_FILE
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        labels = {int(value): name for value, name in content.pop("labels").items()}
        return Description(**content, labels=labels)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        if not file.exists():
            raise ValueError(
                f"{folder} has no assets/{DESCRIPTION_FILE}; give the folder of a SavedModel of "
                "cifl_tf 0.8 or later"
            ) from None
        raise ValueError(f"{file} cannot be read ({error}); export the model again") from None
