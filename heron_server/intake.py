"""Which upload the server takes next, and who may send how far: pure bookkeeping, no tensors.

Canonical order takes step 0 of every client in rank order, then step 1, and so on; a client that is gone is skipped.
Credits are whole steps. The budget holds `slots` steps: those released to the worker and not yet consumed, and the
next ones in order. The step whose turn it is comes first in that window, so canonical order cannot deadlock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Order = Literal["canonical", "arrival"]
Turn = tuple[str, int]
"""(client name, step)"""


class Intake:
    """One round's (or evaluation's) uploads."""

    def __init__(self, steps: Mapping[str, int], slots: int, order: Order = "canonical") -> None:
        assert slots >= 2, "a budget below two whole steps is refused by validate"
        self._names = list(steps)
        self._steps = dict(steps)
        self._slots = slots
        self._order = order
        self._complete: set[Turn] = set()
        self._released: dict[str, int] = dict.fromkeys(self._names, 0)
        self._consumed: dict[str, int] = dict.fromkeys(self._names, 0)
        self._granted: dict[str, int] = dict.fromkeys(self._names, 0)
        self._turn = 0  # index into names
        self._skip_finished()
        self._grant()

    def complete(self, name: str, step: int) -> list[Turn]:
        """A whole step is here; returns what the worker shall take now, in order."""
        self._complete.add((name, step))
        return self._release()

    def consumed(self, name: str, step: int) -> None:
        """The worker is done with a released step; its bytes are free."""
        self._consumed[name] += 1
        self._grant()

    def drop(self, name: str) -> list[Turn]:
        """The client is gone: its unreleased steps are discarded; returns what its absence releases."""
        if name not in self._steps:
            return []
        self._steps[name] = self._granted[name] = self._released[name]
        self._complete = {turn for turn in self._complete if turn[0] != name}
        self._skip_finished()
        ready = self._release()
        self._grant()
        return ready

    def blocked_on(self) -> str | None:
        """The client that canonical order waits for, and that may send."""
        if self._order == "arrival" or self.all_released or self._next() in self._complete:
            return None
        name, step = self._next()
        return name if self._granted[name] > step else None

    @property
    def all_released(self) -> bool:
        return all(self._released[n] >= self._steps[n] for n in self._names)

    @property
    def all_consumed(self) -> bool:
        return self.all_released and self._consumed == self._released

    def client_done(self, name: str) -> bool:
        """Every step of the client is consumed."""
        return self._consumed[name] >= self._steps[name]

    def credits(self) -> dict[str, int]:
        """For each client, how many steps from the round's start it may have sent; never falls."""
        return dict(self._granted)

    def _grant(self) -> None:
        """Gives every free slot away; a slot is taken from the grant of a step to its consumption.

        Canonical: to the next steps in order. Arrival: to the client with the fewest slots, at most its share each.
        """
        free = self._slots - sum(self._granted.values()) + sum(self._consumed.values())
        while free > 0 and (wanting := [n for n in self._names if self._wants(n)]):
            self._granted[min(wanting, key=self._precedence)] += 1
            free -= 1

    def _wants(self, name: str) -> bool:
        share = max(1, self._slots // len(self._names))
        fair = self._order == "canonical" or self._granted[name] - self._consumed[name] < share
        return fair and self._granted[name] < self._steps[name]

    def _precedence(self, name: str) -> tuple[int, int]:
        held = self._granted[name] - self._consumed[name] if self._order == "arrival" else 0
        return held, self._granted[name]

    def _release(self) -> list[Turn]:
        ready: list[Turn] = []
        if self._order == "arrival":
            for turn in sorted(self._complete, key=lambda t: (t[1], self._names.index(t[0]))):
                self._complete.discard(turn)
                self._released[turn[0]] += 1
                ready.append(turn)
            return ready
        while not self.all_released and (turn := self._next()) in self._complete:
            self._complete.discard(turn)
            self._released[turn[0]] += 1
            self._turn += 1
            self._skip_finished()
            ready.append(turn)
        return ready

    def _next(self) -> Turn:
        name = self._names[self._turn]
        return name, self._released[name]

    def _skip_finished(self) -> None:
        """Moves the turn on to the next client, in rank order and around, that has a step left in this lap."""
        if self.all_released:
            return
        lap = min(self._released[n] for n in self._names if self._released[n] < self._steps[n])
        ahead = [i for i, n in enumerate(self._names) if self._released[n] == lap < self._steps[n]]
        self._turn = next((i for i in ahead if i >= self._turn), ahead[0])
