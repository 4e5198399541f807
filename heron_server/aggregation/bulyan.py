"""Bulyan: Krum selects, then each number is the mean of the values nearest to the median of those selected.

El Mhamdi, Guerraoui and Rouault, The Hidden Vulnerability of Distributed Learning in Byzantium, ICML 2018, section 4.
A state that is near in the sum of squares may still be far in one number; the second step cuts that off. n >= 4 f + 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heron_core.arrays import Array
from heron_server.aggregation.aggregator import Aggregated, Updates
from heron_server.aggregation.coordinate_wise import coordinate_wise, mean_of, median
from heron_server.aggregation.distances import squared_distances
from heron_server.aggregation.krum import krum_scores
from heron_server.aggregation.mean import uniform


@dataclass(frozen=True)
class Bulyan:
    """theta = n - 2 f are selected, and beta = theta - 2 f values of each number averaged."""

    hostile: int

    def aggregate(self, updates: Updates) -> Aggregated:
        """The selected clients have equal weights."""
        ranks = [updates.ranks[place] for place in sorted(self._selected(squared_distances(updates)))]
        kept = len(ranks) - 2 * self.hostile
        assert kept > 0, "the settings are checked: something is left"
        state = coordinate_wise([updates.states[rank] for rank in ranks], lambda values: _near_median(values, kept))
        return Aggregated(state, dict(zip(ranks, uniform(ranks), strict=True)))

    def _selected(self, squared: Array) -> list[int]:
        """Krum's choice among those left, again and again; squared: [n, n]."""
        left = list(range(len(squared)))
        selected: list[int] = []
        while len(selected) < len(squared) - 2 * self.hostile:
            scores = krum_scores(squared[np.ix_(left, left)], self.hostile)
            selected.append(left.pop(int(np.argmin(scores))))
        return selected


def _near_median(ordered: Array, kept: int) -> Array:
    """[n, ...] ascending -> [...]: the mean of the `kept` values nearest to the median, of two as near the smaller."""
    nearest = np.argsort(np.abs(ordered - median(ordered)), axis=0, kind="stable")[:kept]
    return mean_of(np.take_along_axis(ordered, nearest, axis=0))
