"""How the experiment's samples are divided among clients: pure functions of labels or groups, parts and seed.

Each gives one sorted int64 index array per client rank; together they hold every sample once. A part without
samples is a DataError.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from heron_core.data.own.cures import range_cure
from heron_core.errors import DataError
from heron_core.streams import generator

Indices = NDArray[np.int64]


def iid(labels: NDArray[np.int64], parts: int, seed: int) -> list[Indices]:
    """A random part for each client; sizes differ by at most one."""
    order = generator(seed, "partition").permutation(len(labels))
    return _finished(np.array_split(order, parts), f": there are {len(labels)}; lower the clients")


def dirichlet(labels: NDArray[np.int64], parts: int, seed: int, alpha: float) -> list[Indices]:
    """Each class is divided in proportions drawn from Dirichlet(alpha, ..., alpha): small alpha is skewed."""
    rng = generator(seed, "partition")
    pieces: list[list[Indices]] = [[] for _ in range(parts)]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        cuts = np.cumsum(rng.dirichlet(np.full(parts, alpha)))[:-1] * len(members)
        for piece, share in zip(pieces, np.split(members, np.rint(cuts).astype(np.int64)), strict=True):
            piece.append(share)
    advice = f" with alpha = {alpha}; raise alpha, lower the clients or take another seed"
    return _finished([np.concatenate([*piece, np.empty(0, np.int64)]) for piece in pieces], advice)


def shards(labels: NDArray[np.int64], parts: int, seed: int, shards_per_client: int) -> list[Indices]:
    """Samples sorted by label are cut into equal shards, dealt at random: few classes for each client."""
    rng = generator(seed, "partition")
    order = rng.permutation(len(labels))
    by_label = order[np.argsort(labels[order], kind="stable")]
    num_shards = parts * shards_per_client
    if num_shards > len(labels):
        raise DataError(
            f"{parts} clients x {shards_per_client} shards_per_client need {num_shards} samples, "
            f"got {len(labels)}; lower either"
        )
    cut = np.array_split(by_label, num_shards)
    dealt = rng.permutation(num_shards).reshape(parts, shards_per_client)
    return _finished([np.concatenate([cut[i] for i in hand]) for hand in dealt])


def whole_groups(groups: NDArray[np.int64], parts: int, seed: int) -> list[Indices]:
    """Groups, the largest first (those of one size in an order drawn), each to the part that has the fewest samples."""
    kinds, place, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(kinds) < parts:
        raise DataError(
            f'data.partition = "groups" deals whole groups to {parts} clients, and there are {len(kinds)} to train on; '
            "lower federation.clients, or take another partition"
        )
    order = generator(seed, "partition").permutation(len(kinds))
    dealt, held = np.empty(len(kinds), np.int64), np.zeros(parts, np.int64)
    for group in order[np.argsort(-sizes[order], kind="stable")]:
        dealt[group] = held.argmin()
        held[dealt[group]] += sizes[group]
    return _finished(np.flatnonzero(dealt[place] == part) for part in range(parts))


def class_histogram(labels: NDArray[np.int64], classes: int) -> list[int]:
    """Samples of each class, [classes]. Raises DataError for a label outside 0 to classes - 1."""
    check_labels(labels, classes)
    return [int(count) for count in np.bincount(labels, minlength=classes)]


def check_labels(labels: NDArray[np.int64], classes: int) -> None:
    """Raises DataError unless each label is from 0 to classes - 1."""
    outside = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(outside):
        first = int(outside[0])
        raise DataError(
            f"labels must be 0 to {classes - 1}, got {labels[first]} for sample {first} "
            f"and {len(outside) - 1} more such; {range_cure(labels, classes)}"
        )


def _finished(parts: Iterable[Indices], advice: str = "") -> list[Indices]:
    out = [np.sort(part).astype(np.int64) for part in parts]
    for rank, part in enumerate(out):
        if len(part) == 0:
            raise DataError(f"client rank {rank} of {len(out)} would get no samples{advice}")
    return out
