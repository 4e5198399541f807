"""The memory that a process can have here, in bytes, and a refusal before more is taken."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from heron_core.errors import DataError

MEMINFO, OWN_GROUPS, GROUPS = Path("/proc/meminfo"), Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
NAMES = {"": ("memory.max", "memory.current", "inactive_file"),
         "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")}  # fmt: skip
"""Limit, use, and what of it is cache that can be given back, of control groups of version 2 and 1."""


def total_memory() -> int:
    """Of the machine, or the least that a control group around this process allows, as a container has one."""
    return min([_machine(), *(limit for limit, _ in _groups())])


def whose_memory() -> str:
    """Whose `total_memory` is, in words."""
    return "this container" if total_memory() < _machine() else "this machine"


def free_memory() -> int:
    """What can be had without swapping."""
    total = total_memory()
    try:
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):
        free = total
    return max(0, min([free, *(limit - used for limit, used in _groups())]))


def need_memory(needed: int, what: str, remedy: str) -> None:
    """Before it is taken: DataError with both figures where so much is not free. `what` needs it."""
    if needed > (free := free_memory()):
        raise DataError(f"{what} needs {mib(needed)} of memory, and {mib(free)} are free; {remedy}")


def mib(count: int) -> str:
    """`64 MiB`; below 10 MiB with one decimal."""
    return f"{count / 2**20:,.0f} MiB" if count >= 10 * 2**20 else f"{count / 2**20:.1f} MiB"


def _machine() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _groups() -> Iterator[tuple[int, int]]:
    """Limit and use, without cache, of each control group around this process that has a limit."""
    for (limit, used, cache), folder in _folders():
        most = _number(folder / limit)
        if most is not None:
            yield most, (_number(folder / used) or 0) - (_number(folder / "memory.stat", cache) or 0)


def _number(path: Path, key: str = "") -> int | None:
    """The file's, or that of its line `key N`. None: there is none, as where the limit is "max"."""
    try:
        text = path.read_text()
        return int(dict(line.split() for line in text.splitlines())[key] if key else text)
    except (OSError, ValueError, KeyError):
        return None


def _folders() -> Iterator[tuple[tuple[str, str, str], Path]]:
    """Of the control groups, from this process's own upwards, with the names of their files.

    What a container sees of them may begin at its own: then the names in between lead nowhere.
    """
    try:
        lines = [line.split(":", 2) for line in OWN_GROUPS.read_text().splitlines()]
    except OSError:
        return
    for line in lines:
        kinds = [kind for kind in NAMES if len(line) == 3 and kind in line[1].split(",")]
        for kind in kinds:
            own = PurePosixPath(line[2].lstrip("/"))
            for group in (own, *own.parents):
                if ".." not in group.parts:
                    yield NAMES[kind], GROUPS / kind / group
