"""How much memory this process may still take, of the machine and of its control group."""

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

PEAK = re.compile(r"VmHWM:\s+(\d+) kB")
RESIDENT = re.compile(r"VmRSS:\s+(\d+) kB")
SHARE = 0.5  # of what is available, that a computation may take
LEAST = ROUND = 100 * 10**6  # bytes that a computation needs, and to which advice is rounded up
SPARE = 1 / 8  # of a limit, for what lies between the arrays
UNITS = ("KB", "MB", "GB", "TB")
# Of control groups, version 2 and 1: limit, usage, and what of the usage is only file cache.
_VERSION_2 = ("memory.max", "memory.current", ("active_file", "inactive_file"))
_VERSION_1 = (
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    ("total_active_file", "total_inactive_file"),
)
MOST_OF_MEMORY = 0.25  # share that the images of a training may take


def available_memory(root="/") -> int | None:
    """Bytes that this process may take without swapping, or being ended by its control group.

    Args:
        root: where ``proc`` and ``sys`` are, for tests.

    Returns:
        On Linux the least of what the machine has available and of what every enclosing control
        group (of a container or a cluster's job) leaves; elsewhere the whole memory of the machine;
        None where the system does not say.
    """
    root = Path(root)
    machine = _numbers(root / "proc" / "meminfo").get("MemAvailable:")
    if machine is None:
        return _whole_memory() if root == Path("/") else None
    return min([machine * 1024, *_left_by_groups(root)])


def memory_left(most: float | None, more: float = 0) -> float:
    """Bytes that a computation may take.

    Args:
        most: bytes that the process may have in memory, itself included; None for what it has now
            and half of what is available.
        more: bytes that the results and what lies beside them will take.

    Raises:
        ValueError: too few would be left.
    """
    if most is None:
        available = available_memory()
        return math.inf if available is None else SHARE * available - more
    taken = (resident_memory() or 0) + more
    least = math.ceil((taken + LEAST) / (1 - SPARE) / ROUND) * ROUND
    if most < least:
        raise ValueError(
            f"memory is {size_text(most)}, but the program, the image and what is made of it take "
            f"{size_text(taken)}; give at least {size_text(least)}, or larger voxels"
        )
    return most * (1 - SPARE) - taken


def peak_memory() -> float | None:
    """Most MB that this process had in memory so far; None where the system does not say.

    Since ``forget_peak``, where that was called. Not getrusage: that counts the parent's memory at
    the start too.
    """
    highest = _status(PEAK)
    return None if highest is None else highest / 1024**2


def forget_peak() -> None:
    """Let ``peak_memory`` count from now on, where the system can do so (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not allowed
        return


def resident_memory() -> int | None:
    """Bytes that this process has in memory now; None where the system does not say."""
    return _status(RESIDENT)


def size_text(size: float) -> str:
    """A number of bytes for people, as "4.0 GB"."""
    if size < 1000:
        return f"{size:.0f} bytes"
    unit = min(int(math.log10(size)) // 3, len(UNITS))
    return f"{size / 1000**unit:.1f} {UNITS[unit - 1]}"


def _status(pattern):
    """Bytes of one line of what Linux says of this process."""
    try:
        found = pattern.search(Path("/proc/self/status").read_text())
    except OSError:  # not Linux
        return None
    return None if found is None else int(found[1]) * 1024


def _whole_memory():
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def _left_by_groups(root):
    """Bytes that each control group of this process leaves, as far as it has a limit."""
    try:
        lines = (root / "proc" / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    left = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        files = _VERSION_1 if controllers else _VERSION_2
        top = root / "sys" / "fs" / "cgroup" / controllers
        inner = top / group.lstrip("/")
        # A container sees its own group at the top, under another name.
        for folder in (inner, *inner.parents):
            if not folder.is_relative_to(top):
                break
            found = _left_by_group(folder, *files)
            left += [] if found is None else [found]
    return left


def _left_by_group(folder, limit_file, usage_file, cached):
    try:
        limit = int((folder / limit_file).read_text())
        usage = int((folder / usage_file).read_text())
    except (OSError, ValueError):  # not there, or "max"
        return None
    stat = _numbers(folder / "memory.stat")
    return max(0, limit - usage + sum(stat.get(name, 0) for name in cached))


def _numbers(file):
    """The numbers of a file with lines of a name, a number and perhaps a unit."""
    try:
        fields = (line.split() for line in file.read_text().splitlines())
        return {field[0]: int(field[1]) for field in fields if len(field) > 1}
    except (OSError, ValueError):
        return {}


def require_memory(count: int, shape: Sequence[int], channels: int, itemsize: int = 4) -> None:
    """Refuse arrays that cannot fit into memory together.

    Args:
        count: of images at a time.
        shape: of an image in voxels.
        channels: of all arrays of an image together. Of a network, those at full resolution that
            the gradient needs: the least it can do with, so what passes may still be too large.
        itemsize: bytes per number.

    Raises:
        ValueError: says what is needed and what is available.
    """
    needed, available = itemsize * count * math.prod(shape) * channels, available_memory()
    if available is not None and needed > available:
        raise ValueError(
            f"{count} images of shape {tuple(shape)} with {channels} channels need at least "
            f"{size_text(needed)}, but {size_text(available)} of memory are available; give "
            "smaller or fewer images at a time (shape, patch, batch size, copies), or fewer filters"
        )
