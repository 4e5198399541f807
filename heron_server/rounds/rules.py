"""The numbers that the rounds machine goes by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """Seconds are those of the driver's clock."""

    rounds: int
    clients: int
    min_clients: int
    evaluate_every: int = 1
    """Rounds from one evaluation to the next; the last round has one in any case."""
    per_round: int = 0
    """Clients drawn for each round, of those who are there. 0: all of them."""
    order: Callable[[int, int], Sequence[int]] = lambda number, ranks: range(ranks)
    """(round, R) -> a permutation of the ranks 0 to R - 1: a round takes its clients in this order."""
    open_ended: bool = False
    """Clients bring their own data, so more than `clients` may join."""
    quorum: float = 0.5
    round_deadline_s: float = 600.0
    start_wait_s: float = 0.0
    rejoin_s: float = 60.0
    silence_s: float = 30.0
    grace_s: float = 10.0
    space_wait_s: float = 600.0
    """How long a full disk may stop the run."""
    abandoned_pause_s: float = 0.0
    """Before a round that was abandoned begins again; doubled each time in a row, 60 s at most."""

    def evaluates(self, number: int) -> bool:
        """Does this round end with an evaluation?"""
        return number % self.evaluate_every == 0 or number >= self.rounds
