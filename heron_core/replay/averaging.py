"""A weighted mean of states that are replayed one after the other, none held while the next is made.  Eq. 8."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from heron_core.arrays import Array


def running_average(states: Iterable[tuple[Mapping[str, Array], float]]) -> dict[str, Array]:
    """sum of weight * state, in the order given, in float64, rounded once to each tensor's dtype; at least one state.

    Integers become the largest, element by element. The same bits as the Fed-Server's mean.
    """
    totals: dict[str, Array] = {}
    dtypes = {}
    for state, weight in states:
        for name, tensor in state.items():
            dtypes[name] = tensor.dtype
            if tensor.dtype.kind != "f":
                totals[name] = np.asarray(np.maximum(totals.get(name, tensor), tensor))
                continue
            total = totals.setdefault(name, np.zeros(tensor.shape, dtype=np.float64))
            total += np.multiply(tensor, weight, dtype=np.float64)
    return {name: total.astype(dtypes[name]) for name, total in totals.items()}
