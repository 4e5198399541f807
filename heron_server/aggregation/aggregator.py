"""The seam of aggregation rules: whole client states in, one client state and who was selected out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from heron_core.arrays import Array


@dataclass(frozen=True)
class Aggregated:
    """What a rule made of the client states of one round."""

    state: dict[str, Array]
    """The same tensors as each client state, by name, in the same order, dtypes and shapes."""
    weights: dict[int, float]
    """Of each rank that was selected, in rank order; they sum to 1. Backs of one client each are averaged with them."""


class Aggregator(Protocol):
    """A rule. It depends on nothing but its arguments and leaves them as they are."""

    def aggregate(self, states: Mapping[int, Mapping[str, Array]], num_samples: Mapping[int, int]) -> Aggregated:
        """One client state of all whose updates count, at least one.

        `states`: by rank, every tensor that is averaged, weights and buffers; it may hold none. `num_samples`: by rank,
        what each client says it trained on.
        """
        ...
