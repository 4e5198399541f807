"""How long a client waits between two attempts to reach its server."""

from __future__ import annotations

import random
from collections.abc import Callable
from time import monotonic

FIRST_PAUSE_S = 0.25
MOST_DOUBLINGS = 16


class BackOff:
    """Pauses that double from 0.25 s up to `longest_s`, each shortened by chance so that clients do not come at once.

    `give_up_s`: seconds without a server after which there is no further attempt. 0: never.
    """

    def __init__(self, longest_s: float, give_up_s: float, clock: Callable[[], float] = monotonic) -> None:
        self._longest_s, self._give_up_s, self._clock = longest_s, give_up_s, clock
        self._until = 0.0
        self._since: float | None = None

    @property
    def waiting(self) -> bool:
        """Is the next attempt still to come?"""
        return self._clock() < self._until

    @property
    def offline(self) -> bool:
        """Has an attempt failed since the last success?"""
        return self._since is not None

    def succeeded(self) -> None:
        """The server answered."""
        self._since = None

    def failed(self, attempts: int) -> bool:
        """Another attempt failed, the `attempts`-th in a row; False once it is time to give up."""
        now = self._clock()
        if self._since is None:
            self._since = now
        longest_s = min(FIRST_PAUSE_S * 2 ** min(attempts, MOST_DOUBLINGS), self._longest_s)
        self._until = now + longest_s * random.Random().uniform(0.5, 1.0)
        return not self._give_up_s or now - self._since <= self._give_up_s
