import pytest

from cifl_tf import _device as device
from cifl_tf._device import describe_device


@pytest.fixture
def machine(tmp_path):
    """The files of a machine with a processor and no GPU."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "dev").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text("processor : 0\nmodel name : Fast  CPU\n")
    return tmp_path


def describe(machine, gpus=(), programs=(), **environment):
    environment = {"TF_NUM_INTRAOP_THREADS": "3", **environment}
    return describe_device(
        lambda: list(gpus), machine, {name: name for name in programs}.get, environment
    )


def test_the_processor_and_its_threads(machine):
    assert describe(machine) == "CPU Fast CPU, 3 threads"
    assert describe(machine, TF_NUM_INTRAOP_THREADS="1") == "CPU Fast CPU, 1 thread"


def test_threads_are_the_processors_that_the_process_may_use(machine, monkeypatch):
    monkeypatch.setattr(device.os, "sched_getaffinity", lambda _: {0, 5}, raising=False)
    assert describe(machine, TF_NUM_INTRAOP_THREADS="") == "CPU Fast CPU, 2 threads"


def test_a_machine_without_proc_has_a_processor_too(tmp_path):
    assert describe(tmp_path).startswith("CPU ")


def test_gpus_that_are_used(machine):
    (machine / "dev" / "nvidia0").touch()
    assert describe(machine, ["A", "B"], ["nvidia-smi"]) == "GPU A, GPU B"


@pytest.mark.parametrize("trace", ["dev/nvidia0", "proc/driver/nvidia/version", "nvidia-smi"])
def test_a_gpu_that_is_there_and_not_used_is_said(machine, trace):
    if "/" in trace:
        (machine / trace).parent.mkdir(parents=True, exist_ok=True)
        (machine / trace).touch()
    text = describe(machine, programs=[trace])
    assert text.startswith("CPU Fast CPU, 3 threads; there is a GPU that TensorFlow cannot use: ")
    assert 'pip install "cifl_tf[gpu]"' in text
    hidden = describe(machine, programs=[trace], CUDA_VISIBLE_DEVICES="-1")
    assert hidden == "CPU Fast CPU, 3 threads; the GPU is hidden by CUDA_VISIBLE_DEVICES"
