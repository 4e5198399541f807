"""Lines of the log that peers cause: as many as they like must not fill a disk."""

from __future__ import annotations

from collections.abc import Callable

LINES_A_SECOND = 1.0


class Sparing:
    """Lets `burst` lines through at once, and one a second after that; counts those that it does not."""

    def __init__(self, burst: int, clock: Callable[[], float]) -> None:
        self._burst, self._clock = burst, clock
        self._left, self._at = float(burst), clock()
        self._left_out = 0

    def allows(self) -> bool:
        """May one more line be written now?"""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * LINES_A_SECOND)
        self._at = now
        if self._left < 1:
            self._left_out += 1
            return False
        self._left -= 1
        return True

    def left_out(self) -> int:
        """How many lines were not written since the last call."""
        count, self._left_out = self._left_out, 0
        return count
