"""The memory that a process can have here, in bytes, and a refusal before more is taken."""

from __future__ import annotations

import os
from pathlib import Path

from heron_core.errors import DataError

MEMINFO, GROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def total_memory() -> int:
    """Of the machine, or what the control group of this process is allowed, where that is less."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(machine, _group("memory.max", machine))


def free_memory() -> int:
    """What can be had without swapping."""
    total = total_memory()
    try:
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):
        free = total
    return min(free, _group("memory.max", total) - _group("memory.current", 0))


def need_memory(needed: int, what: str, remedy: str) -> None:
    """Before it is taken: DataError with both figures where so much is not free. `what` needs it."""
    if needed > (free := free_memory()):
        raise DataError(f"{what} needs {mib(needed)} of memory, and {mib(free)} are free; {remedy}")


def mib(count: int) -> str:
    """`64 MiB`; below 10 MiB with one decimal."""
    return f"{count / 2**20:,.0f} MiB" if count >= 10 * 2**20 else f"{count / 2**20:.1f} MiB"


def _group(name: str, otherwise: int) -> int:
    try:
        return int((GROUP / name).read_text())
    except (OSError, ValueError):  # none, or "max"
        return otherwise
