"""Who takes part in the round in progress, and how far each of them is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil

from heron_server.rounds.rules import Rules


@dataclass
class Lineup:
    """One round's participants."""

    participants: tuple[str, ...] = ()
    """Names in rank order."""
    not_drawn: frozenset[str] = frozenset()
    """Who was present when the round began and has no part in it."""
    submitted: set[str] = field(default_factory=set)
    dropped: dict[str, str] = field(default_factory=dict)
    """Participants no longer in the round, with the reason."""
    evaluating: set[str] = field(default_factory=set)
    """Who still evaluates the round's client state."""
    _taking_part: frozenset[str] = field(init=False)
    """The participants again: a name is asked for with each message."""

    def __post_init__(self) -> None:
        self._taking_part = frozenset(self.participants)

    def awaits(self, name: str) -> bool:
        """Does this name take part, and has neither submitted nor been dropped?"""
        return name in self._taking_part and name not in self.submitted and name not in self.dropped

    @property
    def is_awaiting(self) -> bool:
        """Are updates still to come? Nobody is both dropped and has submitted, and only participants are either."""
        return len(self.submitted) + len(self.dropped) < len(self.participants)

    @property
    def counted(self) -> tuple[str, ...]:
        """Whose updates count, in rank order."""
        return tuple(name for name in self.participants if name in self.submitted)

    @property
    def left(self) -> int:
        """Participants that have not been dropped."""
        return len(self.participants) - len(self.dropped)

    def needed(self, rules: Rules) -> int:
        """Participants without whom the round is abandoned."""
        share = ceil(rules.quorum * len(self.participants) - 1e-9)  # 0.55 * 20 is a little over 11
        return max(rules.min_clients, share, 1)


def drawn(present: Sequence[str], table: Mapping[str, int], round_number: int, rules: Rules) -> tuple[str, ...]:
    """The first `per_round` of `present` (names in rank order) in the round's own order, in rank order again."""
    if not 0 < rules.per_round < len(present):
        return tuple(present)
    order = rules.order(round_number, max(rules.clients, len(table)))
    turn = {rank: place for place, rank in enumerate(order)}
    chosen = sorted(present, key=lambda name: turn[table[name]])[: rules.per_round]
    return tuple(sorted(chosen, key=table.__getitem__))
