"""What must be chosen before TensorFlow is imported; imports none of it.

``import cifl_tf`` runs this module, so that a TensorFlow that is imported later has Keras 2.
"""

import functools
import importlib.metadata
import os

LAST_TENSORFLOW_RELEASE = {"neurite": "0.2", "voxelmorph": "0.2"}
INSTALL_HINT = 'python -m pip install "neurite==0.2" "voxelmorph==0.2"'
KERAS_HINT = (
    "cifl_tf needs Keras 2 (tf-keras): import cifl_tf before tensorflow, or set the "
    "environment variable TF_USE_LEGACY_KERAS=1 before Python starts"
)
KERAS_VARIABLE = "TF_USE_LEGACY_KERAS"


def require_tensorflow_releases() -> None:
    """Raise ImportError unless the TensorFlow releases of neurite and voxelmorph are installed."""
    for name, expected in LAST_TENSORFLOW_RELEASE.items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            raise ImportError(
                f"cifl_tf needs {name}=={expected}, which is not installed. Run: {INSTALL_HINT}"
            ) from None
        if found != expected:
            raise ImportError(
                f"cifl_tf needs {name}=={expected}, the last release for TensorFlow, but found "
                f"{name} {found}, which is for PyTorch. (voxelmorph 0.2 asks for neurite>=0.2, so "
                f"an unpinned install ends here.) Run: {INSTALL_HINT}"
            )
    for variable in ("NEURITE_BACKEND", "VXM_BACKEND"):
        if os.environ.get(variable, "tensorflow") != "tensorflow":
            raise ImportError(
                f"cifl_tf needs the TensorFlow backend, but the environment variable {variable} is "
                f"{os.environ[variable]!r}. Unset it, or set it to 'tensorflow'."
            )


def set_tensorflow_defaults() -> None:
    """Choose what TensorFlow reads from the environment on import, where the user has not."""
    # TensorFlow logs a missing GPU as an error, so 3; real errors reach Python as exceptions.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # TensorFlow turns these convolutions on by itself only for processors with AVX-512 VNNI or AMX.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def choose_legacy_keras() -> bool:
    """Ask for Keras 2 in the environment, which TensorFlow reads on import.

    Returns:
        Whether the environment asked for Keras 2 already.

    Raises:
        ImportError: the environment asks for Keras 3.
    """
    chosen = os.environ.get(KERAS_VARIABLE)
    if chosen not in (None, "1", "true", "True"):
        raise ImportError(f"{KERAS_VARIABLE} is {chosen!r}. {KERAS_HINT}.")
    os.environ[KERAS_VARIABLE] = "1"
    return chosen is not None


@functools.cache
def prepare() -> bool:
    """Do all of it, once.

    Returns:
        Whether the environment asked for Keras 2 before.

    Raises:
        ImportError: what is installed or asked for does not do.
    """
    require_tensorflow_releases()
    set_tensorflow_defaults()
    return choose_legacy_keras()
