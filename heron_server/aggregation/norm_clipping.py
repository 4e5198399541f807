"""Each client's change of the model is scaled down to a bound on its norm, then averaged.

Sun, Kairouz, Suresh and McMahan, Can You Really Backdoor Federated Learning?, arXiv 1911.07963, section 3.2. Without a
bound of the settings it is the median of the clients' norms, which with n > 2 f no hostile client can push past an
honest one. It limits how far a hostile client moves the model in one round, not whereto.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from heron_core.arrays import Array
from heron_server.aggregation.aggregator import Aggregated, Updates
from heron_server.aggregation.coordinate_wise import everyone
from heron_server.aggregation.distances import WEIGHTS, kinds, squared_distance
from heron_server.aggregation.mean import lower_median


@dataclass(frozen=True)
class NormClipping:
    """Weights together, and each kind of moments and buffers by itself; integers become the lower median."""

    bound: float = 0.0
    """Of the change of the weights. 0: the median of the clients' norms, as for moments and buffers always."""

    def aggregate(self, updates: Updates) -> Aggregated:
        """All have the same weight."""
        state: dict[str, Array] = {}
        for kind, names in kinds(updates.before, updates.buffers).items():
            scales = self._scales(updates, names, kind)
            for name in names:
                given, before = [s[name] for s in updates.in_order], updates.before[name]
                floats = before.dtype.kind == "f"
                state[name] = _clipped_mean(given, before, scales) if floats else lower_median(given)
        return everyone(updates, {name: state[name] for name in updates.before})

    def _scales(self, updates: Updates, names: Sequence[str], kind: str) -> list[float]:
        """Of each client's change, in rank order."""
        norms = [
            sqrt(sum(squared_distance(state[name], updates.before[name]) for name in names))
            for state in updates.in_order
        ]
        bound = self.bound if self.bound and kind == WEIGHTS else float(np.median(norms))
        return [min(1.0, bound / norm) if norm else 1.0 for norm in norms]


def _clipped_mean(given: Sequence[Array], before: Array, scales: Sequence[float]) -> Array:
    """The mean of before + scale * (state - before), in rank order, in float64."""
    total, start = np.zeros(before.shape), before.astype(np.float64)
    for tensor, scale in zip(given, scales, strict=True):
        total += tensor.astype(np.float64) * scale + start * (1.0 - scale)
    return np.asarray(total / len(given)).astype(before.dtype)
