"""Rules that look at one number of all clients at a time: median and trimmed mean.

Yin, Chen, Ramchandran and Bartlett, Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates, ICML
2018, Definitions 1 and 2. With n > 2 f every number of the result lies between those of two honest clients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from heron_core.arrays import Array
from heron_server.aggregation.aggregator import Aggregated, Updates
from heron_server.aggregation.mean import lower_median, uniform


@dataclass(frozen=True)
class CoordinateMedian:
    """Of each number the median over the clients; of an even number of them, the mean of the middle two."""

    def aggregate(self, updates: Updates) -> Aggregated:
        """All have the same weight."""
        return everyone(updates, coordinate_wise(updates.in_order, median))


@dataclass(frozen=True)
class TrimmedMean:
    """Of each number the mean over the clients without the `hostile` smallest and as many largest."""

    hostile: int

    def aggregate(self, updates: Updates) -> Aggregated:
        """All have the same weight."""

        def trimmed(ordered: Array) -> Array:
            return mean_of(ordered[self.hostile : len(ordered) - self.hostile])

        assert len(updates.states) > 2 * self.hostile, "the settings are checked: something is left"
        return everyone(updates, coordinate_wise(updates.in_order, trimmed))


def everyone(updates: Updates, state: dict[str, Array]) -> Aggregated:
    """With the same weight for all: a rule of coordinates chooses no clients."""
    weights = uniform(list(updates.states))
    return Aggregated(state, dict(zip(updates.ranks, weights, strict=True)))


def coordinate_wise(
    states: Sequence[Mapping[str, Array]], middle: Callable[[Array], Array]
) -> dict[str, Array]:
    """Each tensor: `middle` of the clients' values [n, ...], ascending in float64; of integers the lower median."""
    result: dict[str, Array] = {}
    for name, first in states[0].items():
        given = [state[name] for state in states]
        if first.dtype.kind == "f":
            ordered = np.sort(np.stack(given).astype(np.float64), axis=0)
            result[name] = np.asarray(middle(ordered)).astype(first.dtype)
        else:
            result[name] = lower_median(given)
    return result


def median(ordered: Array) -> Array:
    """[n, ...] ascending -> [...]."""
    half = len(ordered) // 2
    return np.asarray(ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2)


def mean_of(values: Array) -> Array:
    """[n, ...] -> [...], summed one after the other."""
    total = np.zeros(values.shape[1:], dtype=np.float64)
    for value in values:
        total += value
    return total / len(values)
