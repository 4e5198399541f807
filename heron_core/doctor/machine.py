"""What this machine has left: memory, space on a disk, open files. Sizes in bytes."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

from heron_core.doctor.examination import Finding, ok, warning
from heron_core.errors import ConfigError
from heron_core.process.memory import free_memory, mib, total_memory, whose_memory

MANY = 1 << 62


def memory(needed: int, what: str, remedy: str) -> Iterator[Finding]:
    """Is there so much? ConfigError where this machine, or its container, never has it; a warning where others use it.

    `what` needs it, `remedy` says what to do.
    """
    total, free = total_memory(), free_memory()
    if needed > total:
        raise ConfigError(f"{what} needs {mib(needed)}, and {whose_memory()} has {mib(total)} of memory; {remedy}")
    if needed > free:
        yield warning(f"{what} needs {mib(needed)}, and {mib(free)} of memory are free now; end others, or {remedy}")
    else:
        yield ok(f"{what} needs {mib(needed)}, {mib(free)} of {mib(total)} are free")


def space(folder: Path, needed: int, what: str, remedy: str) -> Iterator[Finding]:
    """Can `folder`, which need not be there yet, take so much? Raises ConfigError.

    `what` needs it, `remedy` says what to do.
    """
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK, effective_ids=True):
        raise ConfigError(f"{folder} cannot be written: {place} is no folder of this user's; {remedy}")
    free = shutil.disk_usage(place).free
    if needed > free:
        raise ConfigError(f"{what} needs {mib(needed)}, and {mib(free)} are free in {place}; free some, or {remedy}")
    yield ok(f"{what} needs {mib(needed)}, {mib(free)} are free in {place}")


def open_files(needed: int, what: str, raises: bool = False) -> Iterator[Finding]:
    """May a process open so many? Raises ConfigError.

    `what` needs them; `raises`: it raises its own limit as far as it may.
    """
    soft, hard = (MANY if n == resource.RLIM_INFINITY else n for n in resource.getrlimit(resource.RLIMIT_NOFILE))
    limit = hard if raises else soft
    if needed > limit:
        root = " as root" if needed > hard else ""
        raise ConfigError(
            f"{what} needs {needed} open files, and a process here may have {limit}; raise it{root} before the start: "
            f"ulimit -n {needed} (in a systemd unit LimitNOFILE={needed})"
        )
    yield ok(f"{what} needs {needed}, a process here may have {'any number' if limit == MANY else limit}")
