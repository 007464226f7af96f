import os

import numpy as np
import pytest

from cifl_tf.images.memory import available_memory, forget_peak, peak_memory, size_text

KB = 1024
MB = 1024 * KB


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def machine(tmp_path):
    write(tmp_path / "proc" / "meminfo", "MemTotal: 9000 kB\nMemAvailable:    8192 kB\n")
    return tmp_path


def test_machine_without_groups(machine):
    assert available_memory(machine) == 8 * MB


def test_the_least_of_the_enclosing_groups_counts(machine):
    write(machine / "proc" / "self" / "cgroup", "0::/job/step\n")
    groups = machine / "sys" / "fs" / "cgroup"
    write(groups / "job" / "step" / "memory.max", "max\n")
    write(groups / "job" / "step" / "memory.current", f"{MB}\n")
    assert available_memory(machine) == 8 * MB
    write(groups / "job" / "memory.max", f"{4 * MB}\n")
    write(groups / "job" / "memory.current", f"{3 * MB}\n")
    assert available_memory(machine) == MB
    write(groups / "job" / "memory.stat", f"anon 7\nactive_file {MB}\ninactive_file {MB}\n")
    assert available_memory(machine) == 3 * MB


def test_version_1_in_a_container_that_sees_its_group_at_the_top(machine):
    write(machine / "proc" / "self" / "cgroup", "5:cpu:/x\n4:memory:/docker/1234\n0::/\n")
    group = machine / "sys" / "fs" / "cgroup" / "memory"
    write(group / "memory.limit_in_bytes", f"{2 * MB}\n")
    write(group / "memory.usage_in_bytes", f"{3 * MB}\n")
    write(group / "memory.stat", f"total_inactive_file {KB}\n")
    assert available_memory(machine) == 0
    write(group / "memory.usage_in_bytes", f"{MB}\n")
    assert available_memory(machine) == MB + KB


def test_this_machine():
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < available_memory() <= whole


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (55_000, "55.0 KB"), (4e9, "4.0 GB"), (5e15, "5000.0 TB")],
)
def test_size_for_people(size, text):
    assert size_text(size) == text


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="only Linux forgets")
def test_the_peak_counts_from_when_it_was_forgotten():
    block = np.ones(25_000_000)
    highest = peak_memory()
    del block
    assert peak_memory() > highest - 10  # Linux counts only about
    forget_peak()
    assert peak_memory() < highest - 150
