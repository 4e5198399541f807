"""How fast a run goes and how long it has still to go, from the observer's events."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic


class Pace:
    """Counts uploads within a round and rounds within the run. Time is the caller's clock, in seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self.number, self.rounds = 0, 0
        self.uploads, self.uploads_consumed = 0, 0
        self._first: tuple[float, float] | None = None
        """When the first round seen here began, and at which position; a resumed run begins in the middle."""
        self._began = self._last = 0.0

    def round_began(self, number: int, rounds: int, uploads: int) -> None:
        """A round, or an abandoned one once more."""
        now = self._clock()
        self.number, self.rounds, self.uploads, self.uploads_consumed = number, rounds, uploads, 0
        self._first = self._first or (now, float(number - 1))
        self._began = self._last = now

    def upload_consumed(self) -> None:
        """One upload; those of an evaluation, after the round's own, do not count."""
        if self.uploads_consumed < self.uploads:
            self.uploads_consumed += 1
            self._last = self._clock()

    def round_done(self) -> None:
        """The round is committed; a client that was dropped may have left uploads undone."""
        self.uploads_consumed = self.uploads = max(self.uploads_consumed, 1)

    @property
    def position(self) -> float:
        """Rounds done, with the present one's fraction."""
        within = self.uploads_consumed / self.uploads if self.uploads else 0.0
        return max(0, self.number - 1) + within

    @property
    def upload_rate(self) -> float | None:
        """Uploads a second in the present or last round."""
        seconds = self._last - self._began
        return self.uploads_consumed / seconds if seconds > 0 and self.uploads_consumed else None

    @property
    def time_left_s(self) -> float | None:
        """By the mean speed so far."""
        if self._first is None:
            return None
        began, start = self._first
        gone = self.position - start
        return (self._clock() - began) / gone * (self.rounds - self.position) if gone > 0 else None
