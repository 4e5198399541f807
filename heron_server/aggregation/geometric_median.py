"""The point with the least sum of distances to all client states.

RFA: Pillutla, Kakade and Harchaoui, Robust Aggregation for Federated Learning, IEEE Transactions on Signal Processing
2022 (arXiv 1912.13445), Algorithm 2, the smoothed Weiszfeld iteration, with equal weights. n > 2 f.

A hostile client keeps a small weight. It is enough for a made-up first moment to count where the honest second moments
are zero, so the result's first moment is cut to what Adam can come to (`moments`).

Nearest-neighbour mixing: Allouah, Farhadkhani, Guerraoui, Gupta, Pinot and Stephan, Fixing by Mixing: A Recipe for
Optimal Byzantine ML under Heterogeneity, AISTATS 2023: each state becomes the mean of the n - f nearest to it, itself
included, before the rule. n > 2 f.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf, sqrt

import numpy as np

from heron_core.arrays import Array
from heron_server.aggregation.aggregator import Aggregated, Updates
from heron_server.aggregation.coordinate_wise import median
from heron_server.aggregation.distances import in_units, squared_distance, squared_distances, squared_units
from heron_server.aggregation.mean import average, lower_median, uniform
from heron_server.aggregation.moments import within_reach

SMOOTHING = 1e-6
"""nu: no client counts as nearer than this."""
MOST_ITERATIONS = 100
TOLERANCE = 1e-6
"""The iteration ends once the sum of distances falls by less than this share."""


class GeometricMedian:
    """A weighted mean; a client's weight falls with its distance."""

    def aggregate(self, updates: Updates) -> Aggregated:
        """From the coordinate-wise median, which hostile states cannot drag away."""
        units = squared_units(updates)
        distances, least = _distances(updates, units, lambda given: median(np.sort(np.stack(given), axis=0))), inf
        weights = _weights(distances)
        for _ in range(MOST_ITERATIONS):
            if not sum(distances) < least * (1 - TOLERANCE):
                break
            least, weights = sum(distances), _weights(distances)
            distances = _distances(updates, units, partial(_mean, weights=weights))
        state = within_reach(average(updates.in_order, weights, lower_median), updates.reach)
        return Aggregated(state, dict(zip(updates.ranks, weights, strict=True)))


@dataclass(frozen=True)
class NearestMixing:
    """The geometric median of states that are mixed with their nearest."""

    hostile: int

    def aggregate(self, updates: Updates) -> Aggregated:
        """A client's weight is its part in all mixed states, by their weights."""
        count, ranks = len(updates.ranks) - self.hostile, updates.ranks
        nearest = [sorted(np.argsort(row, kind="stable")[:count].tolist()) for row in squared_distances(updates)]
        mixed = {
            rank: _Mean([updates.in_order[i] for i in near]) for rank, near in zip(ranks, nearest, strict=True)
        }
        made = GeometricMedian().aggregate(replace(updates, states=mixed))
        part = dict.fromkeys(ranks, 0.0)
        for rank, near in zip(ranks, nearest, strict=True):
            for place in near:
                part[ranks[place]] += made.weights[rank] / count
        return Aggregated(made.state, {rank: weight for rank, weight in part.items() if weight})


@dataclass(frozen=True)
class _Mean(Mapping[str, Array]):
    """The mean of states, a tensor at a time: all together would be as large as the updates."""

    states: Sequence[Mapping[str, Array]]

    def __getitem__(self, name: str) -> Array:
        given = [{name: state[name]} for state in self.states]
        return average(given, uniform(range(len(given))), lower_median)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.states[0])

    def __len__(self) -> int:
        return len(self.states[0])


def _weights(distances: Sequence[float]) -> list[float]:
    """1 / max(nu, distance) of each client, scaled to sum to 1."""
    raw = [1.0 / max(SMOOTHING, distance) for distance in distances]
    return [w / sum(raw) for w in raw]


def _mean(given: Sequence[Array], weights: Sequence[float]) -> Array:
    total = np.zeros(given[0].shape)
    for tensor, weight in zip(given, weights, strict=True):
        total += tensor * weight
    return total


def _distances(
    updates: Updates, units: Sequence[tuple[Sequence[str], float]], point_of: Callable[[Sequence[Array]], Array]
) -> list[float]:
    """Of each client in rank order to the point; `point_of`: one tensor of it, of the clients' in float64."""
    squared = np.zeros(len(updates.states))
    for names, unit in units:
        of_kind = np.zeros(len(updates.states))
        for name in names:
            given = [state[name].astype(np.float64) for state in updates.in_order]
            point = point_of(given)
            of_kind += [squared_distance(point, tensor) for tensor in given]
        squared += in_units(of_kind, unit)
    return [sqrt(value) for value in squared]
