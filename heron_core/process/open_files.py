"""How many files this process may have open."""

from __future__ import annotations

import resource
from contextlib import suppress

ENOUGH = (1 << 20, 1 << 16, 10240)
"""More are never needed; the others are tried where the system names no limit and sets no more than its own number."""


def raise_limit() -> None:
    """As many as this process may have: programs begin with fewer, for the sake of some that are old."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in ENOUGH if hard == resource.RLIM_INFINITY else (min(hard, ENOUGH[0]),):
        if soft == resource.RLIM_INFINITY or wanted <= soft:
            return
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return
