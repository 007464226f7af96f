"""The device that TensorFlow computes on, in words."""

import os
import platform
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import tensorflow as tf

# Where the driver of an NVIDIA GPU shows that there is one.
TRACES = ("proc/driver/nvidia/version", "dev/nvidia0")
HIDDEN = ("", "-1")  # values of CUDA_VISIBLE_DEVICES that show no GPU to a program


def tensorflow_gpus() -> list[str]:
    """Names of the GPUs that TensorFlow can use."""
    details = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
    return [detail.get("device_name", "GPU") for detail in details]


def describe_device(
    gpus: Callable[[], list[str]] = tensorflow_gpus,
    root: Path = Path("/"),
    which: Callable[[str], str | None] = shutil.which,
    environment: Mapping[str, str] = os.environ,
) -> str:
    """Name the device that is used; where a GPU is there and not used, say so and what to do.

    Args:
        gpus: names of the GPUs that TensorFlow can use.
        root: of the file system.
        which: the path of a program, or None.
        environment: variables by name.

    Returns:
        One line, such as "CPU Intel Xeon, 2 threads".
    """
    found = gpus()
    if found:
        return ", ".join(f"GPU {name}" for name in found)
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    threads = threads or int(environment.get("TF_NUM_INTRAOP_THREADS") or 0) or _num_processors()
    cpu = f"CPU {_cpu_name(root)}, {threads} thread{'s' if threads > 1 else ''}"
    if not (any((root / trace).exists() for trace in TRACES) or which("nvidia-smi")):
        return cpu
    if environment.get("CUDA_VISIBLE_DEVICES") in HIDDEN:
        return f"{cpu}; the GPU is hidden by CUDA_VISIBLE_DEVICES"
    return (
        f"{cpu}; there is a GPU that TensorFlow cannot use: "
        'pip install "cifl_tf[gpu]", and see that the driver is recent'
    )


def _num_processors():
    if hasattr(os, "sched_getaffinity"):  # not on macOS; a cluster's job has some of them only
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_name(root):
    try:
        for line in (root / "proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return " ".join(value.split())
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()
