"""The Fed-Server's average of client states.  Eq. 8."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from heron_core.arrays import Array
from heron_server.aggregation.aggregator import Aggregated


def uniform(num_samples: Sequence[int]) -> list[float]:
    """1/N for each client: the paper's Eq. 8."""
    return [1.0 / len(num_samples)] * len(num_samples)


def by_samples(num_samples: Sequence[int]) -> list[float]:
    """n_i / sum n: FedAvg's weights."""
    total = sum(num_samples)
    return [n / total for n in num_samples]


@dataclass(frozen=True)
class Mean:
    """Selects everyone."""

    weights: Callable[[Sequence[int]], list[float]]
    """num_samples of each client -> its weight in the mean."""

    def aggregate(self, states: Mapping[int, Mapping[str, Array]], num_samples: Mapping[int, int]) -> Aggregated:
        """The weighted mean of all, in rank order, as `average` computes it."""
        ranks = sorted(states)
        weights = self.weights([num_samples[rank] for rank in ranks])
        averaged = average([states[rank] for rank in ranks], weights)
        return Aggregated(averaged, dict(zip(ranks, weights, strict=True)))


def average(states: Sequence[Mapping[str, Array]], weights: Sequence[float]) -> dict[str, Array]:
    """sum_i weights_i * states_i, in the order given, in float64, rounded once to each tensor's dtype.

    Integer buffers (such as BatchNorm's num_batches_tracked) are aggregated by maximum.
    """
    result: dict[str, Array] = {}
    for name, first in states[0].items():
        if first.dtype.kind != "f":
            result[name] = np.asarray(np.maximum.reduce([state[name] for state in states])).reshape(first.shape)
            continue
        total = np.zeros(first.shape, dtype=np.float64)
        for state, weight in zip(states, weights, strict=True):
            total += np.multiply(state[name], weight, dtype=np.float64)
        result[name] = total.astype(first.dtype)
    return result
