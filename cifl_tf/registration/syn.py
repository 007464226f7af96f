"""SyN with mutual information, by ANTsPy: the classical registration across contrasts."""

import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cifl_tf.registration.displacements import checked_pair

SYN = "syn"  # its name where commands take a model
MISSING = "SyN needs ANTsPy, which is not installed: pip install antspyx"


def has_ants() -> bool:
    """Whether ANTsPy is installed."""
    return importlib.util.find_spec("ants") is not None


def register_syn(
    moving, fixed, seed: int = 0, iterations: Sequence[int] = (40, 20, 0)
) -> np.ndarray:
    """Register each pair by symmetric diffeomorphisms, without an affine step before.

    Mattes mutual information of 32 bins, three resolutions; otherwise the defaults of ANTsPy.

    Source: Avants et al., Symmetric diffeomorphic image registration with cross-correlation,
    Medical Image Analysis 2008.

    Args:
        moving: (*shape) or (n, *shape, 1), intensities in [0, 1].
        fixed: the same shape.
        seed: of the random numbers of ANTs.
        iterations: at a quarter, half and full resolution; by default those of ANTsPy.

    Returns:
        float32 (*shape, ndim), or (n, *shape, ndim) for batches, in voxels; for ``warp``.

    Raises:
        ImportError: ANTsPy is not installed.
        ValueError: the images have different shapes or are not finite.
    """
    try:
        import ants
    except ImportError as error:
        raise ImportError(MISSING) from error
    moving, fixed, single = checked_pair(moving, fixed)
    displacements = [
        _register_pair(ants, *pair, seed, iterations)
        for pair in zip(moving[..., 0], fixed[..., 0], strict=True)
    ]
    return displacements[0] if single else np.stack(displacements)


def _register_pair(ants, moving, fixed, seed, iterations):
    with tempfile.TemporaryDirectory() as folder:
        # Without a transform to start from, ANTs would first match the centers of mass.
        start = str(Path(folder) / "identity.mat")
        ants.write_transform(ants.new_ants_transform(dimension=fixed.ndim), start)
        found = ants.registration(
            ants.from_numpy(fixed),
            ants.from_numpy(moving),
            type_of_transform="SyNOnly",
            initial_transform=start,
            syn_metric="mattes",
            syn_sampling=32,
            reg_iterations=tuple(iterations),
            outprefix=f"{folder}/",
            random_seed=seed + 1,  # 0 is the time of day
        )
        field = next(name for name in found["fwdtransforms"] if name.endswith(".nii.gz"))
        # Voxels of 1 mm on the axes of ITK: millimetres are voxels.
        return ants.image_read(field).numpy().astype(np.float32)
