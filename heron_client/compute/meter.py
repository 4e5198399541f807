"""What the kernel says this process holds, in bytes. 0 where it does not say."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import Path
from time import monotonic
from typing import Literal

PROPORTIONAL_EVERY_S = 5.0
"""The kernel walks all pages of a process for it: milliseconds, which a round of one local step would feel."""


def _field(path: str, name: str) -> int:
    try:
        for line in Path(path).read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 0


def resident_bytes(process: int | Literal["self"] = "self") -> int:
    """VmRSS: resident now; 0 once the process has ended."""
    return _field(f"/proc/{process}/status", "VmRSS:")


def peak_bytes() -> int:
    """VmHWM: the most that was resident since the start or the last reset_peak."""
    return _field("/proc/self/status", "VmHWM:")


def proportional_bytes(process: int | Literal["self"] = "self") -> int:
    """PSS: resident, with pages shared by n processes counted as 1/n; 0 once the process has ended."""
    return _field(f"/proc/{process}/smaps_rollup", "Pss:")


class Proportional:
    """PSS of this process, asked for as often as you like: at most 5 s old."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._bytes, self._asked = 0, -inf

    def __call__(self) -> int:
        now = self._clock()
        if now - self._asked > PROPORTIONAL_EVERY_S:
            self._bytes, self._asked = proportional_bytes(), now
        return self._bytes


def reset_peak() -> bool:
    """Sets VmHWM back to VmRSS; False where the kernel does not allow it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


class PeakMeter:
    """High-water resident bytes since its making; one at a time in a process. 0 where they cannot be measured."""

    def __init__(self) -> None:
        self._works = reset_peak()
        self.loaded_bytes = resident_bytes() if self._works else 0

    def peak_bytes(self) -> int:
        """The most that was resident since the making of this meter."""
        return peak_bytes() if self._works else 0

    def above_loaded(self) -> int:
        """How far the peak rose above what was resident at the start."""
        return max(0, self.peak_bytes() - self.loaded_bytes)
