"""How many files this process may have open, and how many of them connections may be."""

from __future__ import annotations

import resource
from pathlib import Path

from heron_core.errors import ConfigError

OPEN_FILES = Path("/dev/fd")
RESERVED = 64
"""File descriptors for the run's own files, threads and data."""
FEWEST = 16
"""Connections that are allowed, however few descriptors there are."""
MANY = 1 << 20
OF_A_CLIENT = 2
"""Connections."""
SPARE = 32
"""Connections beyond those of the run's clients: newcomers, health checks, those that come back."""


def open_files() -> int:
    """How many there are now."""
    try:
        return sum(1 for _ in OPEN_FILES.iterdir())
    except OSError:
        return 0


def room_for_connections() -> int:
    """How many connections may be open at once, so that RESERVED descriptors stay free."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return MANY
    return min(MANY, max(FEWEST, limit - open_files() - RESERVED))


def check_room(clients: int) -> None:
    """Raises ConfigError where this process may not open enough files for the run's clients."""
    room, needed = room_for_connections(), OF_A_CLIENT * clients + SPARE
    if room < needed:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        raise ConfigError(
            f"{clients} clients need {needed} connections, and this process may open {limit} files, which is enough "
            f"for {room}; raise it to {limit + needed - room} or more (ulimit -n, LimitNOFILE of a service)"
        )
