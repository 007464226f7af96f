"""``Segmenter``: the Keras model that segments arrays and image files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from nibabel.affines import voxel_sizes

from cifl_tf._compat import keras
from cifl_tf.features.inference import layer_memory, prepare_volume, run_network
from cifl_tf.features.pretrained import load_named
from cifl_tf.images.grid import grid_of
from cifl_tf.images.intensity import BEFORE_0_2, air_mask
from cifl_tf.images.nifti import name_of
from cifl_tf.images.preprocessing import SAME_SIZE, Preprocessing
from cifl_tf.images.volumes import read_volume, to_original
from cifl_tf.images.windows import foreground_window, put, take
from cifl_tf.metrics import volumes_mm3
from cifl_tf.models.files import SEGMENTER, model_file
from cifl_tf.models.image_model import ImageModel
from cifl_tf.segmentation.outputs import with_outputs
from cifl_tf.segmentation.refinement import refine_image
from cifl_tf.segmentation.result import Segmentation
from cifl_tf.segmentation.windows import segment_in_windows
from cifl_tf.training.claims import CONFIG_FILE, read_config

SEGMENTER_FILE = "segmenter.keras"


@keras.saving.register_keras_serializable(package="cifl_tf")
class Segmenter(ImageModel):
    """A segmenter that knows its labels, and the images that it takes.

    ``predict`` takes arrays, ``segment`` image files, and ``fit`` takes ``Cohort.to_dataset``.

    Args:
        network: to probabilities (batch, *spatial, labels); see ``build_segmenter``.
        preprocessing: see ``ImageModel``.
        label_names: of all labels, background first; None for "background", "1", "2" and so on.
        label_values: their values in label maps; None for 0, 1, 2 and so on.
        coverage: where the training slices lay between the first (0) and the last (1) slice that
            shows something; None for volumes, or where this is not known.
        field_margin: mm around all that is no air, which a network for volumes sees; None for the
            whole image.

    Raises:
        ValueError: names or values are not one for each label.

    Example:
        >>> import cifl_tf as cifl
        >>> from cifl_tf.datasets import View, virtual_cohort
        >>> cohort = virtual_cohort(2, resolution=6)
        >>> network = cifl.build_segmenter(None, cohort.num_labels, num_filters=2, num_levels=2)
        >>> names = ["background", *cohort.label_names.values()]
        >>> segmenter = cifl.Segmenter(network, label_names=names)
        >>> metrics = [cifl.MeanDice(cohort.num_labels)]
        >>> segmenter.compile("adam", cifl.SegmentationLoss(), metrics=metrics)
        >>> data = cohort.to_dataset(View(num_slices=2), "T1w", batch_size=2)
        >>> sorted(segmenter.fit(data, verbose=0).history)
        ['dice', 'loss']
    """

    def __init__(
        self,
        network: keras.Model,
        preprocessing: Preprocessing | Mapping | None = None,
        label_names: Sequence[str] | None = None,
        label_values: Sequence[int] | None = None,
        coverage: Sequence[float] | None = None,
        field_margin: float | None = None,
        **kwargs,
    ):
        super().__init__(network, preprocessing, **kwargs)
        count = network.output_shape[-1]
        default = ["background", *map(str, range(1, count))]
        self.label_names = tuple(default if label_names is None else label_names)
        self.label_values = tuple(range(count) if label_values is None else map(int, label_values))
        self.coverage = None if coverage is None else (float(coverage[0]), float(coverage[1]))
        self.field_margin = field_margin
        if {len(self.label_names), len(self.label_values)} != {count}:
            raise ValueError(
                f"label_names are {self.label_names} and label_values {self.label_values}, but the "
                f"network has {count} labels; give a name and a value for each, background included"
            )

    @classmethod
    def from_pretrained(cls, model) -> "Segmenter":
        """Load a segmenter.

        Args:
            model: "tissues", which ships with the package; a folder of ``train_segmenter``, or the
                file ``segmenter.keras`` itself. One from before version 0.2 needs the
                ``config.json`` beside it, and does not know its voxel size.

        Raises:
            ValueError: there is none yet, or the file is damaged.

        Example:
            >>> import tempfile, cifl_tf as cifl
            >>> network = cifl.build_segmenter(None, 3, num_filters=2, num_levels=2)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     cifl.Segmenter(network).save(f"{folder}/segmenter.keras")
            ...     cifl.Segmenter.from_pretrained(folder).label_names
            ('background', '1', '2')
        """
        network = load_named(model, SEGMENTER_FILE, kind=SEGMENTER)
        return as_segmenter(network, model_file(model, SEGMENTER_FILE).parent)

    @property
    def names_by_value(self) -> dict[int, str]:
        """Names of the labels by their value in label maps, without the background."""
        return dict(zip(self.label_values[1:], self.label_names[1:], strict=True))

    def with_labels(
        self, label_names: Sequence[str], label_values: Sequence[int] | None = None
    ) -> "Segmenter":
        """A copy for other labels, to go on training: all weights but those of the last layer.

        Args:
            label_names: of the labels, background first.
            label_values: their values in label maps; None for 0, 1, 2 and so on.

        Raises:
            ValueError: as ``with_outputs``, or names and values are not one for each label.

        Example:
            >>> import cifl_tf as cifl
            >>> segmenter = cifl.Segmenter.from_pretrained("tissues")
            >>> segmenter.with_labels(["background", "lesion"]).output_shape[-1]
            2
        """
        return type(self)(
            with_outputs(self.network, len(label_names)),
            self.preprocessing,
            label_names,
            label_values,
            self.coverage,
            self.field_margin,
            name=self.name,
        )

    def segment(
        self,
        image,
        voxel_size=None,
        volume_index: int | None = None,
        progress: bool = False,
        window: tuple[float, float] | None = None,
        memory: float | None = None,
        refined: bool = False,
    ) -> Segmentation:
        """Segment a NIfTI or MGZ file, or a nibabel image.

        The image is resampled to the voxel size of the training, and the result is on its own grid.

        Args:
            image: the image; a 2D segmenter goes through it slice by slice. Slices that show
                nothing are background.
            voxel_size: in mm: resample to it before, in place of that of the training images.
            volume_index: for 4D files, which image.
            progress: show a progress bar over slices.
            window, memory: see ``features_of``. A volume that would take more memory is segmented
                in windows that overlap; probabilities near their borders differ a little.
            refined: place the borders between labels by the intensities of the scan, see
                ``refine``; for labels that fill what the scan shows, such as tissues.

        Raises:
            ValueError, FileNotFoundError: as ``features_of``.

        Example:
            >>> import cifl_tf as cifl, nibabel, numpy as np
            >>> network = cifl.build_segmenter(None, 3, num_filters=2, num_levels=2)
            >>> segmenter = cifl.Segmenter(network)
            >>> image = nibabel.Nifti1Image(np.random.rand(20, 18, 16), np.diag([2, 2, 2, 1]))
            >>> segmenter.segment(image).labels.shape
            (20, 18, 16)
        """
        preprocessing = self.preprocessing.with_choices(window=window)
        original = read_volume(image, volume_index)
        name = name_of(image)
        array, axis, volume = prepare_volume(original, self, preprocessing, voxel_size, name)
        beyond = 0
        if self.field_margin is None:
            probabilities = self._probabilities(array, axis, memory, progress)
        else:
            size = float(np.mean(voxel_sizes(volume.affine)))
            field = foreground_window(array, round(self.field_margin / size))
            probabilities = np.zeros((*array.shape, len(self.label_values)), np.float32)
            probabilities[..., 0] = 1
            put(
                self._probabilities(take(array, field), axis, memory, progress),
                field,
                probabilities,
            )
        if len(self.input_shape) == 4:
            beyond = self._clear_empty_slices(
                np.moveaxis(volume.data, axis, 0), np.moveaxis(probabilities, axis, 0)
            )
        # Labels come from probabilities on the image's own grid, so that both agree everywhere.
        on_grid = to_original(probabilities, volume, "linear")
        shown = to_original(original.data, original)
        if refined:
            on_grid = refine_image(shown, on_grid, window)
        return self.result(shown, on_grid, beyond)

    def result(self, image, probabilities, slices_beyond: int = 0) -> Segmentation:
        """The segmentation that probabilities on the grid of an image make.

        Args:
            image: nibabel image.
            probabilities: 4D nibabel image.
            slices_beyond: see ``Segmentation``.
        """
        values = np.array(self.label_values, np.int32)
        indices = np.argmax(np.asarray(probabilities.dataobj), axis=-1)
        grid = grid_of(image, image.shape, "the image")
        volumes = grid.voxel_volume * volumes_mm3(indices, range(1, len(values)), (1, 1, 1))
        return Segmentation(
            image=image,
            labels=grid.image(values[indices].reshape(grid.shape)),
            probabilities=probabilities,
            volumes=dict(zip(self.label_names[1:], volumes.tolist(), strict=True)),
            slices_beyond=slices_beyond,
        )

    def _probabilities(self, array, axis, memory, progress):
        """Of all labels (x, y, z, labels), of an image in [0, 1] (x, y, z)."""
        found = None
        if len(self.input_shape) == 5:
            found = segment_in_windows(array, self, memory, progress)
        if found is None:
            layers = layer_memory(memory, array, self)
            found = run_network(array, self, axis, progress=progress, memory=layers)
        return found

    def _clear_empty_slices(self, slices, probabilities):
        """Make slices that show nothing background; count those with labels beyond the training.

        Args:
            slices: (n, x, y), intensities.
            probabilities: (n, x, y, labels), changed in place.
        """
        nothing = np.ptp(slices.reshape(len(slices), -1), axis=1) == 0
        probabilities[nothing] = np.eye(len(self.label_values), dtype=np.float32)[0]
        found = probabilities.argmax(axis=-1).any(axis=(1, 2))
        shown = np.logical_not(air_mask(slices).all(axis=(1, 2)))
        return int(np.count_nonzero(self.slices_beyond(shown) & found))

    def slices_beyond(self, shown: np.ndarray) -> np.ndarray:
        """Slices that show something where training had none.

        Args:
            shown: booleans (slices,), which slices of an image show something.

        Returns:
            Booleans (slices,).
        """
        positions = np.flatnonzero(shown)
        if self.coverage is None or len(positions) < 2:  # a slice alone may lie anywhere
            return np.zeros(len(shown), bool)
        first, last = positions[0], positions[-1]
        place = (np.arange(len(shown)) - first) / max(1, last - first)
        low, high = self.coverage
        return shown & ((place < low - SAME_SIZE) | (place > high + SAME_SIZE))

    def get_config(self):
        """Arguments that build this model again."""
        return {
            **super().get_config(),
            "label_names": self.label_names,
            "label_values": self.label_values,
            "coverage": self.coverage,
            "field_margin": self.field_margin,
        }


def as_segmenter(network: keras.Model, folder) -> Segmenter:
    """A network of a training folder as a segmenter, which it is but for those of before 0.2.

    Args:
        network: from ``segmenter.keras``.
        folder: with the ``config.json`` of an older one.

    Raises:
        ValueError: there is none.
    """
    if isinstance(network, Segmenter):
        return network
    config = read_config(folder)
    missing = [name for name in ("plane", "label_names", "label_values") if name not in config]
    if missing:
        raise ValueError(
            f"{Path(folder) / CONFIG_FILE} lacks {missing}, which a segmenter of before version "
            "0.2 needs; give the whole folder of its training"
        )
    plane = config["plane"] if len(network.input_shape) == 4 else None
    preprocessing = Preprocessing(plane=plane, scaling=BEFORE_0_2)
    return Segmenter(network, preprocessing, config["label_names"], config["label_values"])
