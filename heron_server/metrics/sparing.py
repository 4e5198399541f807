"""So much at once, and so much a second after that: what peers cause, such as lines of the log, has an end."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

LINES_A_SECOND = 1.0


class Bucket:
    """What may be taken at once; some of it comes back each second."""

    def __init__(self, most: float, per_s: float) -> None:
        self._most, self._per_s = most, per_s
        self._left, self._at = most, -inf

    def take(self, now: float) -> bool:
        """Is one left? Then it is taken."""
        self._left = min(self._most, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def add(self, count: float) -> None:
        """So much more may be taken."""
        self._left = min(self._most, self._left + count)


class Sparing:
    """Lets `burst` lines through at once, and one a second after that; counts those that it does not."""

    def __init__(self, burst: int, clock: Callable[[], float]) -> None:
        self._lines, self._clock = Bucket(burst, LINES_A_SECOND), clock
        self._left_out = 0

    def allows(self) -> bool:
        """May one more line be written now?"""
        allowed = self._lines.take(self._clock())
        self._left_out += not allowed
        return allowed

    def left_out(self) -> int:
        """How many lines were not written since the last call."""
        count, self._left_out = self._left_out, 0
        return count
