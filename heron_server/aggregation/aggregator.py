"""The seam of aggregation rules: whole client states in, one client state and who was selected out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

from heron_core.arrays import Array


@dataclass(frozen=True)
class Updates:
    """All whose updates count in one round, at least as many as the rule needs."""

    states: Mapping[int, Mapping[str, Array]]
    """By rank, every tensor that is averaged: weights, moments, buffers; it may hold none."""
    num_samples: Mapping[int, int]
    """By rank, what each client says it trained on."""
    before: Mapping[str, Array]
    """The same tensors as each client fetched them when the round began."""
    buffers: frozenset[str] = field(default_factory=frozenset)
    """Names of those that are buffers."""
    reach: float = inf
    """The most that a number of Adam's first moment can be, in roots of its second; see `moments`."""

    @property
    def ranks(self) -> list[int]:
        """In rank order."""
        return sorted(self.states)

    @property
    def in_order(self) -> list[Mapping[str, Array]]:
        """The states in rank order."""
        return [self.states[rank] for rank in self.ranks]


@dataclass(frozen=True)
class Aggregated:
    """What a rule made of the client states of one round."""

    state: dict[str, Array]
    """The same tensors as each client state, by name, in the same order, dtypes and shapes."""
    weights: dict[int, float]
    """Of each rank that was selected, in rank order; they sum to 1. Backs of one client each are averaged with them."""


class Aggregator(Protocol):
    """A rule. It depends on nothing but its settings and arguments, and leaves these as they are."""

    def aggregate(self, updates: Updates) -> Aggregated:
        """One client state of all whose updates count."""
        ...
