"""How many files this process may have open."""

from __future__ import annotations

import resource
from contextlib import suppress

ENOUGH = (1 << 20, 1 << 16, 10240)
"""Tried in turn where the system names no limit, for some systems set no more than a number of their own."""


def raise_limit() -> None:
    """As many as this process may have: programs begin with fewer, for the sake of some that are old."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in ENOUGH if hard == resource.RLIM_INFINITY else (hard,):
        if soft == resource.RLIM_INFINITY or wanted <= soft:
            return
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return
