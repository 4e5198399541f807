"""Rules that trust the clients whose states lie closest to many others.

Krum: Blanchard, El Mhamdi, Guerraoui and Stainer, Machine Learning with Adversaries: Byzantine Tolerant Gradient
Descent, NeurIPS 2017, section 4. Multi-Krum with m = n - f - 2: Damaskinos et al., AggregaThor, MLSys 2019.
n >= 2 f + 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heron_core.arrays import Array
from heron_server.aggregation.aggregator import Aggregated, Updates
from heron_server.aggregation.distances import squared_distances
from heron_server.aggregation.mean import average, lower_median, uniform


@dataclass(frozen=True)
class Krum:
    """The one state with the lowest score, whole."""

    hostile: int

    def aggregate(self, updates: Updates) -> Aggregated:
        """The selected client's state."""
        scores = krum_scores(squared_distances(updates), self.hostile)
        best = updates.ranks[int(np.argmin(scores))]
        return Aggregated({name: tensor.copy() for name, tensor in updates.states[best].items()}, {best: 1.0})


@dataclass(frozen=True)
class MultiKrum:
    """The mean of the n - f - 2 states with the lowest scores."""

    hostile: int

    def aggregate(self, updates: Updates) -> Aggregated:
        """The selected clients' mean, in rank order."""
        scores = krum_scores(squared_distances(updates), self.hostile)
        count = max(1, len(scores) - self.hostile - 2)
        return mean_of_selected(updates, sorted(np.argsort(scores, kind="stable")[:count].tolist()))


def krum_scores(squared: Array, hostile: int) -> Array:
    """squared: [n, n] -> of each client the sum of those to its n - f - 2 nearest others, one at least."""
    count = max(1, len(squared) - hostile - 2)
    nearest = [np.sort(np.delete(row, i))[:count] for i, row in enumerate(squared)]
    return np.array([sum(row.tolist()) for row in nearest])


def mean_of_selected(updates: Updates, places: Sequence[int]) -> Aggregated:
    """`places`: of the selected in rank order, ascending. They have equal weights."""
    ranks = [updates.ranks[place] for place in places]
    weights = uniform(ranks)
    state = average([updates.states[rank] for rank in ranks], weights, lower_median)
    return Aggregated(state, dict(zip(ranks, weights, strict=True)))
