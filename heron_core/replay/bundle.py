"""Everybody's slopes on their way down: the tensors of one bundle, made from them and read back.

Before them stand the digests of the state that they begin with and of the one that they lead to. So who holds another
state, or comes to another, hears of it and fetches the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from heron_core.arrays import Array
from heron_core.errors import TensorError
from heron_core.replay.averaging import running_average
from heron_core.replay.seeds import DIGEST_BYTES, SLOPES, Replay

BASE, RESULT, COUNTS = "seeds.base", "seeds.result", "seeds.counts"
RANKS, WEIGHTS = "seeds.ranks", "seeds.weights"
ORIGIN = "the server's slopes"
ROUNDING = 1e-9


@dataclass(frozen=True)
class Averaged:
    """The clients in one round's average."""

    weights: Mapping[int, float]
    """By rank; they add up to 1."""
    slopes: Mapping[int, Array]
    """By rank, float64 [h, s]."""


@dataclass(frozen=True)
class Seeds:
    """How one version of the client state came of an earlier one."""

    base: bytes
    """Digest of what it began with."""
    result: bytes
    """Digest of what it became."""
    rounds: tuple[Averaged, ...] = ()
    """Those between, in their order; none where both digests are the same."""

    def tensors(self, replay: Replay) -> dict[str, Array]:
        """As they travel."""
        each = [(rank, a.weights[rank], a.slopes[rank]) for a in self.rounds for rank in sorted(a.weights)]
        return {
            BASE: np.frombuffer(self.base, np.uint8),
            RESULT: np.frombuffer(self.result, np.uint8),
            COUNTS: np.array([len(a.weights) for a in self.rounds], np.int32),
            RANKS: np.array([rank for rank, _, _ in each], np.int32),
            WEIGHTS: np.array([weight for _, weight, _ in each], np.float64),
            SLOPES: np.array([slopes for _, _, slopes in each], np.float64).reshape(-1, *replay.slopes_shape),
        }

    def replayed(
        self, replay: Replay, base: Mapping[str, Array], version: int, after_each: Callable[[], None] = lambda: None
    ) -> dict[str, Array]:
        """The replayed tensors of this version, to which the rounds lead; `base`: those that they begin with.
        `after_each` is called after each client's round, and may raise."""
        state = {name: base[name] for name in replay.names}
        for number, averaged in enumerate(self.rounds, version - len(self.rounds) + 1):
            state = self._averaged(replay, state, number, averaged, after_each)
        return state

    @staticmethod
    def _averaged(
        replay: Replay, base: Mapping[str, Array], number: int, averaged: Averaged, after_each: Callable[[], None]
    ) -> dict[str, Array]:
        def one(rank: int) -> dict[str, Array]:
            found = replay.local_round(base, number, rank, averaged.slopes[rank])
            after_each()
            return found

        return running_average((one(rank), weight) for rank, weight in sorted(averaged.weights.items()))


def expected(replay: Replay, rounds: int, clients: int) -> list[tuple[str, str, tuple[int, ...]]]:
    """(name, dtype, shape) of the tensors of so many rounds with so many clients, all together."""
    return [
        (BASE, "uint8", (DIGEST_BYTES,)), (RESULT, "uint8", (DIGEST_BYTES,)), (COUNTS, "int32", (rounds,)),
        (RANKS, "int32", (clients,)), (WEIGHTS, "float64", (clients,)),
        (SLOPES, "float64", (clients, *replay.slopes_shape)),
    ]  # fmt: skip


def read(tensors: Mapping[str, Array], replay: Replay, version: int) -> Seeds:
    """From tensors of the expected shapes, which lead to this version. Raises TensorError for rounds that were not,
    ranks out of order, weights that are no mean's, and slopes that are too large."""
    counts, ranks, weights = tensors[COUNTS].tolist(), tensors[RANKS].tolist(), tensors[WEIGHTS].tolist()
    if min(counts, default=1) < 1 or sum(counts) != len(ranks) or len(counts) > version:
        raise TensorError(
            f"{ORIGIN}: tensor {COUNTS} must divide {len(ranks)} clients' slopes into at most {version} rounds, got "
            f"{counts[:8]}"
        )
    replay.check_slopes(tensors[SLOPES], ORIGIN)
    ends = list(accumulate(counts))
    rounds = [
        _read_round(ranks[start:end], weights[start:end], tensors[SLOPES][start:end])
        for start, end in pairwise([0, *ends])
    ]
    return Seeds(tensors[BASE].tobytes(), tensors[RESULT].tobytes(), tuple(rounds))


def _read_round(ranks: list[int], weights: list[float], slopes: Array) -> Averaged:
    if ranks[0] < 0 or any(a >= b for a, b in pairwise(ranks)):
        raise TensorError(f"{ORIGIN}: tensor {RANKS} must rise from 0 or more in each round, got {ranks[:8]}")
    if not (min(weights) >= 0 and abs(sum(weights) - 1.0) <= ROUNDING):
        raise TensorError(
            f"{ORIGIN}: tensor {WEIGHTS} must be 0 or more and add up to 1 in each round, got {weights[:8]}"
        )
    return Averaged(dict(zip(ranks, weights, strict=True)), dict(zip(ranks, slopes, strict=True)))
