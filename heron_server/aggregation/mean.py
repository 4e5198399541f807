"""The Fed-Server's average of client states.  Eq. 8."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from heron_core.arrays import Array
from heron_server.aggregation.aggregator import Aggregated, Updates

Counters = Callable[[Sequence[Array]], Array]
"""What becomes of one integer or boolean tensor of each client, in rank order."""


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
    most_samples: int = 0
    """No client counts as more samples than this, whatever it says. 0: no limit."""

    def aggregate(self, updates: Updates) -> Aggregated:
        """The weighted mean of all, in rank order, as `average` computes it."""
        counts = [updates.num_samples[rank] for rank in updates.ranks]
        weights = self.weights([min(n, self.most_samples) for n in counts] if self.most_samples else counts)
        averaged = average(updates.in_order, weights)
        return Aggregated(averaged, dict(zip(updates.ranks, weights, strict=True)))


def largest(counters: Sequence[Array]) -> Array:
    """The maximum, element by element: right where nobody lies."""
    return np.asarray(np.maximum.reduce(counters)).reshape(counters[0].shape)


def lower_median(counters: Sequence[Array]) -> Array:
    """The ceil(n / 2)-th smallest, element by element: with n > 2 f it lies between values of honest clients."""
    return np.asarray(np.sort(np.stack(counters), axis=0)[(len(counters) - 1) // 2])


def average(
    states: Sequence[Mapping[str, Array]], weights: Sequence[float], counters: Counters = largest
) -> dict[str, Array]:
    """sum_i weights_i * states_i, in the order given, in float64, rounded once to each tensor's dtype.

    Integer and boolean buffers (such as BatchNorm's num_batches_tracked) become what `counters` makes of them.
    """
    result: dict[str, Array] = {}
    for name, first in states[0].items():
        if first.dtype.kind != "f":
            result[name] = counters([state[name] for state in states])
            continue
        total = np.zeros(first.shape, dtype=np.float64)
        for state, weight in zip(states, weights, strict=True):
            total += np.multiply(state[name], weight, dtype=np.float64)
        result[name] = total.astype(first.dtype)
    return result
