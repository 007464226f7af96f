"""Images from and to every file system that Beam reaches: local, HDFS, S3, Google Cloud, Azure."""

import contextlib
import shutil
import uuid
from pathlib import PurePosixPath
from tempfile import TemporaryDirectory

import apache_beam as beam
import nibabel
from apache_beam.io import fileio
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from cifl_tf.images.file_names import is_leftover
from cifl_tf.images.volumes import read_volume, save_image

AS_THEY_ARE = CompressionTypes.UNCOMPRESSED  # NIfTI files are packed by nibabel


class ReadNifti(beam.PTransform):
    """Read images: a source.

    Args:
        pattern: of NIfTI or MGZ files of three axes, such as ``gs://bucket/study/*/*_T1w.nii.gz``;
            of local files with a folder, if only ``./``.

    Output:
        pairs of the path and a nibabel image: float32, axes towards right, anterior, superior.

    Raises:
        apache_beam.io.filesystem.BeamIOError: no file matches.
        ValueError: an image is refused by ``read_volume``.

    Example:
        >>> import apache_beam as beam, nibabel, numpy as np
        >>> from cifl_tf.beam import ReadNifti
        >>> image = nibabel.Nifti1Image(np.random.rand(4, 3, 2), np.eye(4))
        >>> nibabel.save(image, "scan.nii.gz")
        >>> with beam.Pipeline("FnApiRunner") as pipeline:
        ...     images = pipeline | ReadNifti("./*.nii.gz")
        ...     _ = images | beam.MapTuple(lambda path, image: print(path, image.shape))
        ./scan.nii.gz (4, 3, 2)
    """

    def __init__(self, pattern: str):
        super().__init__()
        self._pattern = str(pattern)

    def expand(self, begin):
        """The pairs."""
        return (
            begin
            | "Match" >> fileio.MatchFiles(self._pattern, fileio.EmptyMatchTreatment.DISALLOW)
            | "Leave out" >> beam.Filter(lambda file: not is_leftover(file.path))
            | "Share" >> beam.Reshuffle()
            | "Read" >> beam.Map(lambda file: (file.path, read_image(file.path)))
        )


class WriteNifti(beam.PTransform):
    """Write images: a sink.

    Args:
        folder: where, such as ``gs://bucket/features``.

    Input:
        pairs of a name, which ends in .nii or .nii.gz and may hold folders, and a nibabel image.

    Output:
        the paths of the files, each of which appears whole.

    Raises:
        ValueError: the name of a file ends in something else.

    Example:
        >>> import apache_beam as beam, nibabel, numpy as np
        >>> from cifl_tf.beam import WriteNifti
        >>> pair = "sub-1/ones.nii.gz", nibabel.Nifti1Image(np.ones((4, 3, 2)), np.eye(4))
        >>> with beam.Pipeline("FnApiRunner") as pipeline:
        ...     paths = pipeline | beam.Create([pair]) | WriteNifti("out")
        ...     _ = paths | beam.Map(print)
        out/sub-1/ones.nii.gz
    """

    def __init__(self, folder: str):
        super().__init__()
        self._folder = str(folder)

    def expand(self, pairs):
        """The paths."""
        folder = self._folder
        return pairs | "Write" >> beam.MapTuple(
            lambda name, image: write_image(FileSystems.join(folder, *name.split("/")), image)
        )


def read_image(path: str) -> nibabel.Nifti1Image:
    """An image of any file system, see ``ReadNifti``.

    Raises:
        ValueError: as ``read_volume``.
    """
    with TemporaryDirectory() as folder:
        local = f"{folder}/{PurePosixPath(path).name}"
        source = FileSystems.open(path, compression_type=AS_THEY_ARE)
        with source, open(local, "wb") as target:
            shutil.copyfileobj(source, target)
        try:
            volume = read_volume(local)
        except (ValueError, FileNotFoundError) as error:
            raise type(error)(str(error).replace(local, path)) from error
    return nibabel.Nifti1Image(volume.data, volume.affine)


def write_image(path: str, image: nibabel.Nifti1Image) -> str:
    """Write an image to any file system, whole or not at all.

    Returns:
        The path.

    Raises:
        ValueError: it ends in something else than .nii or .nii.gz.
    """
    parent, name = FileSystems.split(path)
    temporary = FileSystems.join(parent, f".{uuid.uuid4().hex}.{name}")
    try:
        with TemporaryDirectory() as folder:
            save_image(image, f"{folder}/{name}")
            target = FileSystems.create(temporary, compression_type=AS_THEY_ARE)
            with target, open(f"{folder}/{name}", "rb") as source:
                shutil.copyfileobj(source, target)
        if FileSystems.exists(path):
            FileSystems.delete([path])
        FileSystems.rename([temporary], [path])
    except BaseException:
        with contextlib.suppress(Exception):
            FileSystems.delete([temporary])
        raise
    return path
