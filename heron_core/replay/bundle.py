"""Everybody's slopes on their way down: the tensors of one bundle, made from them and read back.

Before them stand the digests of the state that they begin with and of the one that they lead to. So who holds another
state, or comes to another, hears of it and fetches the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from heron_core.arrays import Array
from heron_core.errors import TensorError
from heron_core.replay.averaging import running_average
from heron_core.replay.seeds import DIGEST_BYTES, SLOPES, Replay

BASE, RESULT, RANKS, WEIGHTS = "seeds.base", "seeds.result", "seeds.ranks", "seeds.weights"
ORIGIN = "the server's slopes"
ROUNDING = 1e-9


@dataclass(frozen=True)
class Seeds:
    """How one version of the client state came of another."""

    base: bytes
    """Digest of what it began with."""
    result: bytes
    """Digest of what it became."""
    weights: Mapping[int, float] = field(default_factory=dict)
    """By rank, of each client in the mean; nobody where both digests are the same."""
    slopes: Mapping[int, Array] = field(default_factory=dict)
    """By rank, float64 [h, s]."""

    def tensors(self, replay: Replay) -> dict[str, Array]:
        """As they travel."""
        ranks = sorted(self.weights)
        return {
            BASE: np.frombuffer(self.base, np.uint8),
            RESULT: np.frombuffer(self.result, np.uint8),
            RANKS: np.array(ranks, np.int32),
            WEIGHTS: np.array([self.weights[rank] for rank in ranks], np.float64),
            SLOPES: np.array([self.slopes[rank] for rank in ranks], np.float64).reshape(-1, *replay.slopes_shape),
        }

    def replayed(self, replay: Replay, base: Mapping[str, Array], round_number: int) -> dict[str, Array]:
        """The replayed tensors of the version that this leads to; `base`: those that it begins with."""
        if not self.weights:
            return {name: base[name] for name in replay.names}
        return running_average(
            (replay.local_round(base, round_number, rank, self.slopes[rank]), weight)
            for rank, weight in sorted(self.weights.items())
        )


def expected(replay: Replay, clients: int) -> list[tuple[str, str, tuple[int, ...]]]:
    """(name, dtype, shape) of the tensors of so many clients' slopes."""
    return [
        (BASE, "uint8", (DIGEST_BYTES,)), (RESULT, "uint8", (DIGEST_BYTES,)), (RANKS, "int32", (clients,)),
        (WEIGHTS, "float64", (clients,)), (SLOPES, "float64", (clients, *replay.slopes_shape)),
    ]  # fmt: skip


def read(tensors: Mapping[str, Array], replay: Replay) -> Seeds:
    """From tensors of the expected shapes. Raises TensorError for ranks out of order, weights that are no mean's, and
    slopes that are too large."""
    ranks, weights = tensors[RANKS].tolist(), tensors[WEIGHTS].tolist()
    if any(rank < 0 for rank in ranks) or any(a >= b for a, b in pairwise(ranks)):
        raise TensorError(f"{ORIGIN}: tensor {RANKS} must rise from 0 or more, got {ranks[:8]}")
    is_mean = min(weights, default=0.0) >= 0 and abs(sum(weights) - 1.0) <= ROUNDING
    if not (is_mean or not ranks):
        raise TensorError(f"{ORIGIN}: tensor {WEIGHTS} must be 0 or more and add up to 1, got {weights[:8]}")
    replay.check_slopes(tensors[SLOPES], ORIGIN)
    slopes = dict(zip(ranks, tensors[SLOPES], strict=True))
    return Seeds(tensors[BASE].tobytes(), tensors[RESULT].tobytes(), dict(zip(ranks, weights, strict=True)), slopes)
