"""How fast a run goes and how long it has still to go, from the observer's events."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic


class Pace:
    """Counts steps within a round and rounds within the run. Time is the caller's clock, in seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self.number, self.rounds = 0, 0
        self.steps, self.steps_done = 0, 0
        self._first: tuple[float, float] | None = None
        """When the first round seen here began, and at which position; a resumed run begins in the middle."""
        self._began = self._last = 0.0

    def round_began(self, number: int, rounds: int, steps: int) -> None:
        """A round, or an abandoned one once more."""
        now = self._clock()
        self.number, self.rounds, self.steps, self.steps_done = number, rounds, steps, 0
        self._first = self._first or (now, float(number - 1))
        self._began = self._last = now

    def step_done(self) -> None:
        """One step; evaluation's steps, after the round's own, do not count."""
        if self.steps_done < self.steps:
            self.steps_done += 1
            self._last = self._clock()

    def round_done(self) -> None:
        """The round is committed; a client that was dropped may have left steps undone."""
        self.steps_done = self.steps = max(self.steps_done, 1)

    @property
    def position(self) -> float:
        """Rounds done, with the present one's fraction."""
        within = self.steps_done / self.steps if self.steps else 0.0
        return max(0, self.number - 1) + within

    @property
    def step_rate(self) -> float | None:
        """Optimiser steps a second in the present or last round."""
        seconds = self._last - self._began
        return self.steps_done / seconds if seconds > 0 and self.steps_done else None

    @property
    def time_left_s(self) -> float | None:
        """By the mean speed so far."""
        if self._first is None:
            return None
        began, start = self._first
        gone = self.position - start
        return (self._clock() - began) / gone * (self.rounds - self.position) if gone > 0 else None
