"""How far client states lie apart, each taken as one vector.

The literature compares weights. A client that sends honest weights with made-up moments or running statistics must not
pass, so these count too, each kind in units of its own spread: the median of the clients' distances from their
coordinate-wise median, which with n > 2 f lies between distances of honest clients. Weights alone are left as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from heron_core.arrays import Array
from heron_server.aggregation.aggregator import Updates
from heron_server.aggregation.coordinate_wise import median

WEIGHTS = "weights"


def kinds(names: Iterable[str], buffers: frozenset[str]) -> dict[str, list[str]]:
    """Names that are measured in one unit: the weights together, others by what they are, such as `running_mean`."""
    found: dict[str, list[str]] = {}
    for name in names:
        other = name in buffers or name.startswith("moments.")
        found.setdefault(name.rpartition(".")[2] if other else WEIGHTS, []).append(name)
    return found


def squared_distance(first: Array, second: Array) -> float:
    """|first - second|^2, in float64."""
    with np.errstate(over="ignore"):  # infinitely far is far
        return float(np.square(first.astype(np.float64) - second.astype(np.float64)).sum())


def squared_distances(updates: Updates) -> Array:
    """[n, n] in rank order, each kind divided by its squared unit."""
    total = np.zeros((len(updates.states), len(updates.states)))
    for names, unit in squared_units(updates):
        total += in_units(_between(updates.in_order, names), unit)
    return total


def squared_units(updates: Updates) -> list[tuple[list[str], float]]:
    """Of each kind its names and its squared unit, which is 1 where there is no other kind."""
    found = kinds(updates.before, updates.buffers)
    if len(found) < 2 or len(updates.states) < 2:
        return [(names, 1.0) for names in found.values()]
    return [(names, _spread(updates.in_order, names)) for names in found.values()]


def in_units(squared: Array, unit: float) -> Array:
    """Where a majority agrees to the bit, the unit is 0, and whoever differs is infinitely far."""
    with np.errstate(over="ignore"):
        return np.asarray(squared / unit if unit else np.where(squared > 0, np.inf, 0.0))


def _between(states: Sequence[Mapping[str, Array]], names: Sequence[str]) -> Array:
    result = np.zeros((len(states), len(states)))
    for i, first in enumerate(states):
        for j, second in enumerate(states[:i]):
            result[i, j] = result[j, i] = sum(squared_distance(first[n], second[n]) for n in names)
    return result


def _spread(states: Sequence[Mapping[str, Array]], names: Sequence[str]) -> float:
    """The median squared distance from the coordinate-wise median."""
    squared = np.zeros(len(states))
    for name in names:
        given = [state[name].astype(np.float64) for state in states]
        middle = median(np.sort(np.stack(given), axis=0))
        squared += [squared_distance(middle, tensor) for tensor in given]
    return float(np.median(squared))
