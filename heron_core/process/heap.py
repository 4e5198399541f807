"""How much freed memory the C library keeps for itself."""

from __future__ import annotations

import ctypes

MOST_KEPT = 64 << 10
"""Bytes. A larger block is given back as soon as it is freed, and free memory at the heap's end is not kept either."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""As glibc's malloc.h numbers them."""


def give_memory_back() -> bool:
    """From here on this process holds little more than what it uses, at the price of a little time; glibc keeps up to
    32 MiB of each kind by itself, and a heap for each thread. Sets what the variables MALLOC_MMAP_THRESHOLD_,
    MALLOC_TRIM_THRESHOLD_ and MALLOC_ARENA_MAX would; the last is for threads that begin later.

    False where the C library is another one.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    wanted = {_MMAP_THRESHOLD: MOST_KEPT, _TRIM_THRESHOLD: MOST_KEPT, _ARENA_MAX: 1}
    return all(mallopt(which, value) == 1 for which, value in wanted.items())
