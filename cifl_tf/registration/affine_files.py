"""Affine matrices in files: ITK and ANTs, FreeSurfer's LTA, and plain text as of NiftyReg.

Inside, a matrix maps points of the fixed image to points of the moving image, in mm, in RAS. ITK's
maps the same way, in LPS. An LTA maps the source, which is the moving image, to the destination.
"""

import re

import numpy as np
from nibabel.affines import from_matvec
from scipy.io import loadmat, savemat

from cifl_tf.images.atomic import atomic_path, expanded
from cifl_tf.images.file_names import suffix_of
from cifl_tf.images.grid import RAS_TO_LPS

ITK_SUFFIXES = (".mat", ".tfm", ".txt")
ITK_HEADER = "#Insight Transform File V1.0"
ITK_TYPE = "AffineTransform_double_3_3"
# All have the matrix, row by row, and the shift; and the center among the fixed parameters.
ITK_MATRICES = ("AffineTransform", "MatrixOffsetTransformBase")
VOX_TO_VOX, RAS_TO_RAS = 0, 1  # types of an LTA
LPS = np.diag([*RAS_TO_LPS, 1.0])


def write_affine(matrix, path) -> None:
    """Write a matrix for ITK and ANTs; see ``Affine.write``.

    Args:
        matrix: (4, 4), fixed to moving, in mm, in RAS.
        path: .mat, .tfm or .txt.

    Raises:
        ValueError: the name ends in something else.
    """
    suffix = suffix_of(path, ITK_SUFFIXES)
    if suffix is None:
        raise ValueError(
            f"{path} does not end in .mat, .tfm or .txt; give a name of a transform of ITK"
        )
    matrix = LPS @ np.asarray(matrix, np.float64) @ LPS
    parameters = np.concatenate([matrix[:3, :3].ravel(), matrix[:3, 3]])
    with atomic_path(path) as temporary:
        if suffix == ".mat":
            columns = {ITK_TYPE: parameters[:, None], "fixed": np.zeros((3, 1))}
            with open(temporary, "wb") as stream:
                savemat(stream, columns, format="4")
            return
        numbers = " ".join(f"{value:.17g}" for value in parameters)
        temporary.write_text(
            f"{ITK_HEADER}\n#Transform 0\nTransform: {ITK_TYPE}\nParameters: {numbers}\n"
            "FixedParameters: 0 0 0\n"
        )


def read_affine(path) -> tuple[np.ndarray, bool]:
    """Read a matrix (4, 4), fixed to moving, in mm, in RAS; see ``Affine.from_file``.

    Returns:
        The matrix; and whether it is a file of ITK, which lies between where ITK sees both images.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no such affine.
    """
    path = expanded(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; give an affine of ITK, .lta or .txt")
    content = path.read_bytes()
    text = content.decode("utf-8", "replace")
    if path.suffix.lower() == ".lta":
        return _read_lta(text, path), False
    if text.startswith("#Insight Transform File"):
        return _read_itk_text(text, path), True
    plain = _plain_matrix(text)
    if path.suffix.lower() == ".mat":
        if plain is not None:
            raise ValueError(
                f"{path} is a text of numbers, as FLIRT of FSL writes, in the voxels of both "
                "images; convert it for ITK, for example by c3d_affine_tool -fsl2ras -oitk"
            )
        return _read_itk_matlab(path), True
    if plain is None:
        raise ValueError(
            f"{path} holds no affine: give a transform file of ITK or ANTs, an .lta of FreeSurfer, "
            "or a text of 4 rows of 4 numbers, fixed to moving in mm"
        )
    return plain, False


def _plain_matrix(text):
    """The matrix of a text of 4 x 4 numbers; None of another."""
    lines = [line.split("#")[0].replace(",", " ").split() for line in text.splitlines()]
    try:
        rows = [[float(word) for word in words] for words in lines if words]
    except ValueError:
        return None
    return np.array(rows) if [len(row) for row in rows] == [4] * 4 else None


def _read_itk_text(text, path):
    kinds = re.findall(r"^Transform:\s*(\S+)", text, re.MULTILINE)
    if len(kinds) != 1:
        raise ValueError(f"{path} holds {len(kinds)} transforms; give a file of one affine")
    found = {
        name: np.array(numbers.split(), np.float64)
        for name, numbers in re.findall(r"^(\w*Parameters):(.*)$", text, re.MULTILINE)
    }
    return itk_matrix(kinds[0], found.get("Parameters"), found.get("FixedParameters"), path)


def _read_itk_matlab(path):
    try:
        found = loadmat(path)
    except Exception as error:  # of SciPy, nearly anything
        raise ValueError(
            f"{path} cannot be read as a transform of ITK: {error}; write it again"
        ) from error
    kinds = [name for name in found if "Transform" in name]
    if len(kinds) != 1:
        raise ValueError(f"{path} holds {len(kinds)} transforms of ITK; give a file of one affine")
    fixed = found.get("fixed")
    return itk_matrix(kinds[0], found[kinds[0]].ravel(), None if fixed is None else fixed, path)


def itk_matrix(kind, parameters, center, path):
    """The matrix (4, 4) in RAS of a transform of ITK, ``M (p - c) + c + t`` in LPS.

    Args:
        kind: its name in ITK.
        parameters: (12,), or (6,) of an Euler transform.
        center: its fixed parameters.
        path: of its file, to say.

    Raises:
        ValueError: it is no matrix in 3D.
    """
    name = kind.split("_")[0]
    if name == "Euler3DTransform" and parameters is not None and len(parameters) == 6:
        linear = _euler(parameters[:3], center)
        parameters = np.concatenate([linear.ravel(), parameters[3:]])
    elif name not in ITK_MATRICES:
        raise ValueError(
            f"{path} is a {kind}; give an affine or an Euler transform in 3D, or convert it by "
            "SimpleITK to an AffineTransform"
        )
    if parameters is None or len(parameters) != 12 or center is None or np.size(center) < 3:
        raise ValueError(f"{path} has no 12 parameters and 3 of the center, as an affine in 3D has")
    linear, center = parameters[:9].reshape(3, 3), np.ravel(center)[:3]
    return LPS @ from_matvec(linear, parameters[9:] + center - linear @ center) @ LPS


def _euler(angles, fixed):
    """The rotation (3, 3) of ITK's three angles: Z X Y, or Z Y X by the fourth fixed parameter."""
    from scipy.spatial.transform import Rotation

    about_x, about_y, about_z = angles
    fixed = np.ravel([] if fixed is None else fixed)
    if len(fixed) > 3 and fixed[3]:
        return Rotation.from_euler("ZYX", [about_z, about_y, about_x]).as_matrix()
    return Rotation.from_euler("ZXY", [about_z, about_x, about_y]).as_matrix()


def _read_lta(text, path):
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    values = dict(re.split(r"\s*=\s*", line, maxsplit=1) for line in lines if "=" in line)
    try:
        kind, count = int(values["type"]), int(values["nxforms"])
        start = lines.index("1 4 4") + 1
        matrix = np.array([line.split() for line in lines[start : start + 4]], np.float64)
        matrix = matrix.reshape(4, 4)
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{path} is no LTA of FreeSurfer ({error}); write it again, by lta_convert"
        ) from error
    if count != 1 or kind not in (VOX_TO_VOX, RAS_TO_RAS):
        raise ValueError(
            f"{path} holds {count} transforms of type {kind}; give one of type 0 (voxels to "
            "voxels) or 1 (RAS to RAS), by lta_convert --outlta"
        )
    if kind == VOX_TO_VOX:
        source, destination = (_lta_affine(lines, name, path) for name in ("src", "dst"))
        matrix = destination @ matrix @ np.linalg.inv(source)
    if not np.isfinite(matrix).all() or np.linalg.det(matrix) == 0:
        raise ValueError(f"the matrix of {path} cannot be inverted, {matrix.tolist()}; correct it")
    return np.linalg.inv(matrix)


def _lta_affine(lines, name, path):
    """Voxels to mm of the source or the destination of an LTA."""
    try:
        start = lines.index(f"{name} volume info") + 1
        found = dict(re.split(r"\s*=\s*", line, maxsplit=1) for line in lines[start : start + 8])
        shape, sizes, *axes, center = (
            np.array(found[key].split(), np.float64)
            for key in ("volume", "voxelsize", "xras", "yras", "zras", "cras")
        )
        matrix = np.stack(axes, axis=1) * sizes
        return from_matvec(matrix, center - matrix @ (shape / 2))
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{path} does not say where its {name} volume lies ({error}); convert it to type 1, by "
            "lta_convert --outlta --ltavox2vox off"
        ) from error
