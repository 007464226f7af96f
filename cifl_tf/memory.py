"""How much memory there is to work with."""

from pathlib import Path

import psutil

# Version 2, then version 1, of the control groups by which containers and clusters limit memory.
CGROUP_FILES = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


def available_memory() -> int:
    """Bytes that this process can still take: of the machine, or of its control group."""
    available = [psutil.virtual_memory().available]
    for limit, usage in CGROUP_FILES:
        try:
            available.append(int(Path(limit).read_text()) - int(Path(usage).read_text()))
        except (OSError, ValueError):  # no such control group, or "max": no limit
            continue
    return max(0, min(available))
