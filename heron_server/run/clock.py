"""The clock by which a server measures its clients: it stands while the server cannot listen to them."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

LONGEST_TURN_S = 2.0
"""Of the event loop. It turns several times a second; where it does not, the process was stopped or the loop busy."""


class RunClock:
    """Seconds, from any origin. A turn of the loop counts at most 2 s: what the server itself took beyond that is not
    the time of its clients, whose heartbeats and uploads wait to be read."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._turned = clock()
        self._lost_s = 0.0

    def __call__(self) -> float:
        return min(self._clock(), self._turned + LONGEST_TURN_S) - self._lost_s

    def turn(self) -> None:
        """The loop is about to tick; call it several times a second."""
        now = self._clock()
        self._lost_s += max(0.0, now - self._turned - LONGEST_TURN_S)
        self._turned = now
